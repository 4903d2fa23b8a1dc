"""Requests to GitHub's REST API about commits, and the pull requests that brought them. Pure.

Source: GitHub REST API reference: repositories, commits (compare, get, associated pull requests), pulls, reviews,
collaborators. With `page=2` a comparison has no list of files, and with `per_page=1` a commit has one file at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.intake.github.errors import CommitUnknownError, NotFoundError, RepositoryMovedError
from orchestrator.intake.github.rest.protocol import PAGE, path_segment, repository_path, rest_request
from orchestrator.intake.github.scale_sets.protocol import Request
from orchestrator.intake.github.urls import GitHubUrl

READS: Final[Mapping[str, str]] = {"contents": "read", "pull_requests": "read", "metadata": "read"}
"""Permissions of an installation token that all of these need."""
READS_COMMITS: Final[Mapping[str, str]] = {"contents": "read", "metadata": "read"}
"""As `READS`, without pull requests."""
_FIX: Final = "give the App Contents: read and Pull requests: read, and accept that for the installation"


def repository(url: GitHubUrl, owner: str, name: str) -> Request:
    path = repository_path(owner, name)
    return rest_request(url, "repository", "GET", path, meanings={301: RepositoryMovedError}, fix=_FIX)


def repository_by_id(url: GitHubUrl, repository_id: int) -> Request:
    """Where GitHub redirects to what was renamed."""
    return rest_request(url, "repository_by_id", "GET", f"/repositories/{repository_id}", fix=_FIX)


def comparison(url: GitHubUrl, owner: str, name: str, base: str, head: str) -> Request:
    path = f"{repository_path(owner, name)}/compare/{path_segment(base)}...{path_segment(head)}"
    return rest_request(url, "compare", "GET", path, query={"per_page": "1", "page": "2"}, fix=_FIX)


def commit(url: GitHubUrl, owner: str, name: str, sha: str) -> Request:
    path = f"{repository_path(owner, name)}/commits/{path_segment(sha)}"
    unknown = {404: CommitUnknownError, 422: CommitUnknownError}
    return rest_request(url, "commit", "GET", path, query={"per_page": "1"}, meanings=unknown, fix=_FIX)


def pull_requests_of(url: GitHubUrl, owner: str, name: str, sha: str, page: int) -> Request:
    path = f"{repository_path(owner, name)}/commits/{path_segment(sha)}/pulls"
    unknown = {404: NotFoundError, 422: NotFoundError}
    return rest_request(url, "commit_pulls", "GET", path, query=_page(page), meanings=unknown, fix=_FIX)


def reviews(url: GitHubUrl, owner: str, name: str, number: int, page: int) -> Request:
    path = f"{repository_path(owner, name)}/pulls/{number}/reviews"
    return rest_request(url, "reviews", "GET", path, query=_page(page), fix=_FIX)


def pull_request_commits(url: GitHubUrl, owner: str, name: str, number: int, page: int) -> Request:
    path = f"{repository_path(owner, name)}/pulls/{number}/commits"
    return rest_request(url, "pull_commits", "GET", path, query=_page(page), fix=_FIX)


def permission(url: GitHubUrl, owner: str, name: str, login: str) -> Request:
    path = f"{repository_path(owner, name)}/collaborators/{path_segment(login)}/permission"
    return rest_request(url, "permission", "GET", path, fix=_FIX)


def _page(page: int) -> Mapping[str, str]:
    return {"per_page": str(PAGE), "page": str(page)}
