"""The REST API's commits, comparisons, pull requests and rights of collaborators."""

from __future__ import annotations

from typing import Any

from orchestrator.testing.github.access import repository_of, require
from orchestrator.testing.github.clock import rest_time
from orchestrator.testing.github.documents import repository_document
from orchestrator.testing.github.history import CommitEntry, Person, Pull
from orchestrator.testing.github.model import Repository
from orchestrator.testing.github.routes_auth import REST_KINDS
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Handler, Plane, Reply

_REPO = "/repos/{owner}/{repo}"
_PULL_COMMITS = 250
"""GitHub shows no more commits of a pull request."""


class CommitRoutes:
    """`url` begins the addresses in documents."""

    def __init__(self, state: GitHubState) -> None:
        self._state = state
        self.url = ""

    def endpoints(self) -> list[Endpoint]:
        table: list[tuple[str, Handler]] = [
            ("/repositories/{id}", self._by_id),
            (_REPO + "/compare/{basehead}", self._compare),
            (_REPO + "/commits/{sha}", self._commit),
            (_REPO + "/commits/{sha}/pulls", self._pulls_of),
            (_REPO + "/pulls/{number}/reviews", self._reviews),
            (_REPO + "/pulls/{number}/commits", self._pull_commits),
            (_REPO + "/collaborators/{login}/permission", self._permission),
        ]
        return [Endpoint("GET", path, handler, Plane.REST, REST_KINDS) for path, handler in table]

    async def _by_id(self, call: Call) -> Reply:
        for repository in self._state.repositories.values():
            seen = call.grant is None or call.grant.repositories is None
            if repository.id == call.number("id") and (seen or self._granted(call, repository)):
                return Reply(200, repository_document(repository, self.url))
        raise ApiError(404, "Not Found")

    def _granted(self, call: Call, repository: Repository) -> bool:
        assert call.grant is not None, "the endpoint wants a token"
        return repository.full_name.lower() in (call.grant.repositories or ())

    async def _compare(self, call: Call) -> Reply:
        repository = self._readable(call, "contents:read")
        base, dots, head = call.place["basehead"].partition("...")
        history = repository.history
        base, head = history.heads.get(base, base), history.heads.get(head, head)
        if not dots or base not in history.commits or head not in history.commits:
            raise ApiError(404, "Not Found")
        of_base, of_head = history.ancestors(base), history.ancestors(head)
        if not of_base & of_head:
            raise ApiError(404, f"No common ancestor between {base} and {head}.")
        ahead, behind = len(of_head - of_base), len(of_base - of_head)
        status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
        document = {
            "status": status.get((ahead > 0, behind > 0), "diverged"),
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": ahead,
            "commits": [],
        }
        if call.query("page") in ("", "1"):
            document["files"] = [{"filename": "big.txt", "patch": "+x\n" * 100_000}] if ahead else []
        return Reply(200, document)

    async def _commit(self, call: Call) -> Reply:
        repository = self._readable(call, "contents:read")
        sha = call.place["sha"]
        found = repository.history.commits.get(repository.history.heads.get(sha, sha))
        if found is None:
            raise ApiError(422, f"No commit found for SHA: {sha}")
        return Reply(200, _commit_document(found) | {"files": []})

    async def _pulls_of(self, call: Call) -> Reply:
        repository = self._readable(call, "contents:read")
        require(call, "pull_requests:read")
        sha = call.place["sha"]
        if sha not in repository.history.commits:
            raise ApiError(422, f"No commit found for SHA: {sha}")
        found = [one for one in repository.history.pulls.values() if sha in (*one.commits, *one.landed)]
        return _page(call, [_pull_document(one, repository) for one in found])

    async def _reviews(self, call: Call) -> Reply:
        pull = self._pull(call)
        reviews = [
            {"id": number, "user": _account(one.reviewer), "state": one.state, "commit_id": one.commit, "body": ""}
            for number, one in enumerate(pull.reviews, 1)
        ]
        return _page(call, reviews)

    async def _pull_commits(self, call: Call) -> Reply:
        pull, history = self._pull(call), repository_of(call, self._state).history
        return _page(call, [_commit_document(history.commits[sha]) for sha in pull.commits[:_PULL_COMMITS]])

    async def _permission(self, call: Call) -> Reply:
        repository = self._readable(call, "metadata:read")
        login = call.place["login"]
        right = repository.history.rights.get(login.lower())
        if right is None:
            raise ApiError(404, f"{login} is not a user")
        return Reply(200, {"permission": right, "role_name": right, "user": {"login": login}})

    def _readable(self, call: Call, permission: str) -> Repository:
        repository = repository_of(call, self._state)
        require(call, permission)
        return repository

    def _pull(self, call: Call) -> Pull:
        repository = self._readable(call, "pull_requests:read")
        pull = repository.history.pulls.get(call.number("number"))
        if pull is None:
            raise ApiError(404, "Not Found")
        return pull


def _account(person: Person | None) -> dict[str, Any] | None:
    return None if person is None else {"login": person.login, "id": person.id, "type": person.kind}


def _commit_document(one: CommitEntry) -> dict[str, Any]:
    return {
        "sha": one.sha,
        "commit": {
            "message": one.message,
            "verification": {"verified": one.verified, "reason": "valid" if one.verified else "unsigned"},
        },
        "author": _account(one.author),
        "committer": _account(one.committer),
        "parents": [{"sha": sha} for sha in one.parents],
    }


def _pull_document(one: Pull, repository: Repository) -> dict[str, Any]:
    return {
        "number": one.number,
        "state": "open" if one.merged_at is None else "closed",
        "user": _account(one.author),
        "base": {"ref": one.base, "repo": {"id": one.base_repository or repository.id}},
        "head": {"ref": "feature", "sha": one.head},
        "merged_at": rest_time(one.merged_at),
        "merge_commit_sha": one.landed[0] if one.landed else None,
    }


def _page(call: Call, values: list[Any]) -> Reply:
    size = min(100, int(call.query("per_page") or 30))
    page = max(1, int(call.query("page") or 1))
    return Reply(200, values[(page - 1) * size : page * size])
