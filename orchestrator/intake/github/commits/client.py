"""GitHub's REST API about commits and the pull requests that brought them; its errors are those of `RestClient`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from orchestrator.intake.github.commits import protocol as commit_protocol
from orchestrator.intake.github.commits.answers import (
    parse_commit,
    parse_commits,
    parse_comparison,
    parse_permission,
    parse_pull_requests,
    parse_repository,
    parse_reviews,
)
from orchestrator.intake.github.commits.objects import Commit, HostedRepository, PullRequest, Review
from orchestrator.intake.github.errors import NotFoundError, RepositoryMovedError, UnreadableAnswerError
from orchestrator.intake.github.rest import protocol as rest_protocol
from orchestrator.intake.github.rest.answers import parse_branch
from orchestrator.intake.github.rest.objects import Branch
from orchestrator.intake.github.scale_sets.protocol import Request
from orchestrator.intake.github.tokens import TokenChain
from orchestrator.intake.github.transport import Transport

MAX_PAGES: Final = 5
"""Of 100 items each; GitHub shows 250 commits of a pull request."""

T = TypeVar("T")


class CommitClient:
    """One for each configured source that is asked about commits."""

    def __init__(self, transport: Transport, tokens: TokenChain) -> None:
        self._tokens = tokens
        self._url = transport.connection.url

    async def repository(self, owner: str, name: str, repository_id: int) -> HostedRepository:
        """The repository of this name, or, where it was renamed, the one of this id; 0 stands for none.

        Raises:
            RepositoryMovedError: it was renamed, and no id is known.
        """
        try:
            return await self._get(commit_protocol.repository(self._url, owner, name), parse_repository)
        except RepositoryMovedError:
            if not repository_id:
                raise
            return await self._get(commit_protocol.repository_by_id(self._url, repository_id), parse_repository)

    async def branch(self, owner: str, name: str, branch: str) -> Branch | None:
        """The branch, its head and whether it is protected; None when there is none of this name."""
        try:
            return await self._get(rest_protocol.branch(self._url, owner, name, branch), parse_branch)
        except NotFoundError:
            return None

    async def contains(self, owner: str, name: str, head: str, sha: str) -> bool:
        """Whether `sha` is `head` or one of its ancestors. A commit that only a fork has is none of them."""
        try:
            return await self._get(commit_protocol.comparison(self._url, owner, name, head, sha), parse_comparison)
        except NotFoundError:
            return False

    async def commit(self, owner: str, name: str, sha: str) -> Commit:
        """The commit of exactly this id; GitHub also shows those of the repository's forks.

        Raises:
            CommitUnknownError
        """
        found = await self._get(commit_protocol.commit(self._url, owner, name, sha), parse_commit)
        if found.sha != sha:
            raise UnreadableAnswerError("the answer is about another commit")
        return found

    async def pull_requests_of(self, owner: str, name: str, sha: str) -> list[PullRequest]:
        """Pull requests that GitHub says the commit came by."""
        try:
            return await self._pages(
                lambda page: commit_protocol.pull_requests_of(self._url, owner, name, sha, page), parse_pull_requests
            )
        except NotFoundError:
            return []

    async def reviews(self, owner: str, name: str, number: int) -> list[Review]:
        """All reviews of a pull request, oldest first."""
        return await self._pages(
            lambda page: commit_protocol.reviews(self._url, owner, name, number, page), parse_reviews
        )

    async def pull_request_commits(self, owner: str, name: str, number: int) -> list[Commit]:
        """The first commits of a pull request; GitHub shows 250 and tells of no more."""
        return await self._pages(
            lambda page: commit_protocol.pull_request_commits(self._url, owner, name, number, page), parse_commits
        )

    async def may_write(self, owner: str, name: str, login: str) -> bool:
        """Whether this account may write to the repository, now."""
        try:
            return await self._get(commit_protocol.permission(self._url, owner, name, login), parse_permission)
        except NotFoundError:
            return False

    async def _get(self, request: Request, parse: Callable[[bytes], T]) -> T:
        return await self._tokens.with_access(request, lambda answer: parse(answer.body))

    async def _pages(self, make: Callable[[int], Request], parse: Callable[[bytes], list[T]]) -> list[T]:
        """Raises `UnreadableAnswerError` where there are more: what is not seen must not be left out silently."""
        items: list[T] = []
        for page in range(1, MAX_PAGES + 1):
            found = await self._get(make(page), parse)
            items += found
            if len(found) < rest_protocol.PAGE:
                return items
        raise UnreadableAnswerError(f"there are more than {MAX_PAGES * rest_protocol.PAGE} items")
