"""Reading what GitHub's REST API answers about commits and pull requests. Pure; sizes are bounded.

Every function raises `UnreadableAnswerError` for an answer without what it cannot be used without.
"""

from __future__ import annotations

from typing import Final

from orchestrator.intake.github.commits.objects import (
    Account,
    Commit,
    HostedRepository,
    PullRequest,
    Review,
    ReviewState,
)
from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.fields import Fields, read_json, read_object

MAX_MESSAGE: Final = 64 << 10
"""Characters of a commit's message; GitHub shows no more of it either."""
_WORDS: Final = {state.value: state for state in ReviewState if state.value}


def parse_repository(body: bytes) -> HostedRepository:
    data = read_object(body)
    found = HostedRepository(data.number("id"), data.text("full_name"), data.text("default_branch"))
    data.need("id", found.id > 0)
    data.need("full_name", found.full_name)
    return found


def parse_comparison(body: bytes) -> bool:
    """Whether the head is the base or one of its ancestors: it adds nothing to the base."""
    data = read_object(body)
    status = data.text("status", 64)
    data.need("status", status in ("identical", "behind", "ahead", "diverged"))
    data.need("ahead_by", "ahead_by" in data)
    return status in ("identical", "behind") and data.number("ahead_by") == 0


def parse_commit(body: bytes) -> Commit:
    return _commit(read_object(body))


def parse_commits(body: bytes) -> list[Commit]:
    return [_commit(item) for item in _list(body)]


def parse_pull_requests(body: bytes) -> list[PullRequest]:
    return [_pull_request(item) for item in _list(body)]


def parse_reviews(body: bytes) -> list[Review]:
    return [
        Review(_account(item, "user"), _WORDS.get(item.text("state", 64), ReviewState.OTHER), item.text("commit_id"))
        for item in _list(body)
    ]


def parse_permission(body: bytes) -> bool:
    """Whether the account may write to the repository. GitHub counts *maintain* as write, and *triage* as read."""
    data = read_object(body)
    permission = data.text("permission", 64)
    data.need("permission", permission)
    return permission in ("write", "admin")


def _list(body: bytes) -> list[Fields]:
    items = read_json(body)
    if not isinstance(items, list) or len(items) > 1000:
        raise UnreadableAnswerError("the answer is no JSON list of at most 1000")
    return [Fields(item, "item") for item in items]


def _account(data: Fields, name: str) -> Account | None:
    found = data.object(name)
    if found is None or found.number("id") <= 0:
        return None
    return Account(found.number("id"), found.text("login", 256), found.text("type", 64) == "User")


def _commit(data: Fields) -> Commit:
    inner = data.object("commit")
    data.need("sha", data.text("sha", 64))
    data.need("commit", inner)
    assert inner is not None, "it was needed"
    verification = inner.object("verification")
    return Commit(
        data.text("sha", 64),
        _account(data, "author"),
        _account(data, "committer"),
        verification.flag("verified") if verification else False,
        inner.text("message", MAX_MESSAGE),
    )


def _pull_request(data: Fields) -> PullRequest:
    base, head = data.object("base"), data.object("head")
    data.need("number", data.number("number") > 0)
    data.need("base", base)
    data.need("head", head)
    assert base is not None, "it was needed"
    assert head is not None, "it was needed"
    repository = base.object("repo")
    return PullRequest(
        data.number("number"),
        _account(data, "user"),
        base.text("ref"),
        repository.number("id") if repository else 0,
        head.text("sha", 64),
        data.time_ns("merged_at"),
        data.text("merge_commit_sha", 64),
    )
