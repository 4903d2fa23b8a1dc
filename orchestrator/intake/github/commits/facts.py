"""What GitHub says of one commit: on which branch, by which pull request, who looked at it.

Whoever can push anywhere in a repository's network of forks can have GitHub show a commit under the repository's name.
So nothing is said of a commit before a branch that releases come from is seen to contain it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final, Protocol, TypeVar

from orchestrator.intake.github.commits.objects import (
    Account,
    Commit,
    HostedRepository,
    PullRequest,
    Review,
    ReviewState,
)
from orchestrator.intake.github.errors import CommitUnknownError, UnreadableAnswerError
from orchestrator.intake.github.rest.objects import Branch
from orchestrator.intake.github.urls import GitHubUrl

MAX_APPROVERS: Final = 10
"""Of one pull request, whose right to write is asked for; the first who has it is enough."""
MAX_COMMITS: Final = 250
"""GitHub shows no more of a pull request: of one with so many it is not known who wrote them all."""
_SHA: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEADS: Final = "refs/heads/"
_GITHUB_ITSELF: Final = "web-flow"
"""Commits what is merged by a button; it wrote nothing."""

T = TypeVar("T")


class CommitSource(Protocol):
    """What is asked of `CommitClient`."""

    async def repository(self, owner: str, name: str, repository_id: int) -> HostedRepository: ...

    async def branch(self, owner: str, name: str, branch: str) -> Branch | None: ...

    async def contains(self, owner: str, name: str, head: str, sha: str) -> bool: ...

    async def commit(self, owner: str, name: str, sha: str) -> Commit: ...

    async def pull_requests_of(self, owner: str, name: str, sha: str) -> list[PullRequest]: ...

    async def reviews(self, owner: str, name: str, number: int) -> list[Review]: ...

    async def pull_request_commits(self, owner: str, name: str, number: int) -> list[Commit]: ...

    async def may_write(self, owner: str, name: str, login: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class CommitPlace:
    """Which commit is meant: the repository by name and by id, the commit, and the ref that the build was of.

    An id of 0 is not known: then the name decides, which is somebody else's once the repository was renamed.
    """

    repository: str
    repository_id: int
    sha: str
    ref: str = ""


@dataclass(frozen=True, slots=True)
class CommitRules:
    """`branches` are those that releases come from: names, or patterns with `*` for the build's own branch; none stands
    for the default branch. Without `pull_requests` no commit counts as merged or reviewed."""

    branches: tuple[str, ...] = ()
    pull_requests: bool = True


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """What holds of a commit. `branch` contains it, and `protected` is whether that branch is.

    `merged`: a pull request that was merged into `branch` brought it. `reviewed`: somebody who may write to the
    repository and wrote nothing of that pull request has approved its last state, and the commit is that state or what
    it was merged as, and none on the way there. `commit_verified`: GitHub found the
    signature good. `author` and `author_id` are empty where GitHub knows nobody. `message` only counts when
    `protected`. `reason` says why nothing holds.
    """

    repository: str
    repository_id: int
    commit: str
    branch: str = ""
    protected: bool = False
    merged: bool = False
    commit_verified: bool = False
    reviewed: bool = False
    author: str = ""
    author_id: int = 0
    pull_request: int = 0
    message: str = ""
    reason: str = ""


class CommitFinder:
    """Asks about commits of the repositories of one source. Errors are those of `RestClient`."""

    def __init__(self, source: CommitSource, url: GitHubUrl, rules: CommitRules) -> None:
        self._source = source
        self._url = url
        self._rules = rules

    def covers(self, repository: str) -> bool:
        """Whether the repository is one of the source's own, as far as its name tells."""
        owner, _, name = repository.partition("/")
        return self._url.covers(owner, name)

    async def find(self, place: CommitPlace) -> CommitFacts:
        """The facts of a commit; what is not proven is false."""
        nothing = CommitFacts(place.repository, place.repository_id, place.sha)
        if not self.covers(place.repository):
            return replace(nothing, reason="repository_not_covered")
        if not _SHA.fullmatch(place.sha):
            return replace(nothing, reason="commit_malformed")
        owner, _, name = place.repository.partition("/")
        found = await self._source.repository(owner, name, place.repository_id)
        if place.repository_id not in (0, found.id) or not self.covers(found.full_name):
            return replace(nothing, reason="repository_is_another")
        known = replace(nothing, repository=found.full_name, repository_id=found.id)
        return await self._of(found, place, known)

    async def _of(self, repository: HostedRepository, place: CommitPlace, nothing: CommitFacts) -> CommitFacts:
        owner, _, name = repository.full_name.partition("/")
        try:
            commit, branch, pulls = await _all_three(
                self._source.commit(owner, name, place.sha),
                self._containing(owner, name, repository, place),
                self._pull_requests(owner, name, place.sha),
            )
        except CommitUnknownError:
            return replace(nothing, reason="commit_unknown")
        if branch is None:
            return replace(nothing, reason="on_no_release_branch")
        into = [one for one in pulls if _merged_into(one, branch.name, repository.id)]
        merged = min(into, key=lambda one: one.merged_at_ns or 0, default=None)
        return replace(
            nothing,
            branch=branch.name,
            protected=branch.protected,
            merged=merged is not None,
            commit_verified=commit.verified,
            reviewed=merged is not None and await self._reviewed(owner, name, merged, commit),
            author=commit.author.login if commit.author else "",
            author_id=commit.author.id if commit.author else 0,
            pull_request=merged.number if merged else 0,
            message=commit.message,
        )

    async def _containing(
        self, owner: str, name: str, repository: HostedRepository, place: CommitPlace
    ) -> Branch | None:
        """A release branch that contains the commit, a protected one rather than another."""
        found = None
        for wanted in self._candidates(repository, place.ref):
            branch = await self._source.branch(owner, name, wanted)
            if branch is None or (found is not None and not branch.protected):
                continue
            if not _SHA.fullmatch(branch.sha):
                raise UnreadableAnswerError("the answer does not say which commit the branch is at")
            if await self._source.contains(owner, name, branch.sha, place.sha):
                found = replace(branch, name=wanted)
            if found is not None and found.protected:
                break
        return found

    def _candidates(self, repository: HostedRepository, ref: str) -> list[str]:
        if not self._rules.branches:
            return [repository.default_branch] if repository.default_branch else []
        names = [one for one in self._rules.branches if "*" not in one]
        built_of = ref.removeprefix(_HEADS) if ref.startswith(_HEADS) else ""
        if built_of and any(fnmatchcase(built_of, one) for one in self._rules.branches if "*" in one):
            names.append(built_of)
        return list(dict.fromkeys(names))

    async def _pull_requests(self, owner: str, name: str, sha: str) -> Sequence[PullRequest]:
        return await self._source.pull_requests_of(owner, name, sha) if self._rules.pull_requests else ()

    async def _reviewed(self, owner: str, name: str, pull: PullRequest, commit: Commit) -> bool:
        # What an earlier commit does and a later one undoes is in nothing that a reviewer saw.
        if commit.sha not in (pull.head_sha, pull.merged_sha):
            return False
        reviews = await self._source.reviews(owner, name, pull.number)
        approvers = approved_by(pull, reviews)
        if not approvers:
            return False
        writers = writers_of(pull, [commit, *await self._source.pull_request_commits(owner, name, pull.number)])
        if writers is None:
            return False
        for one in [one for one in approvers if one.id not in writers][:MAX_APPROVERS]:
            if await self._source.may_write(owner, name, one.login):
                return True
        return False


def approved_by(pull: PullRequest, reviews: Sequence[Review]) -> list[Account]:
    """People whose last word on the pull request is that its last state is fine."""
    last: dict[int, Review] = {}
    for review in reviews:
        if review.reviewer is not None and review.state is not ReviewState.OTHER:
            last[review.reviewer.id] = review
    return [
        one.reviewer
        for one in last.values()
        if one.reviewer is not None
        and one.reviewer.person
        and one.state is ReviewState.APPROVED
        and one.commit == pull.head_sha
    ]


def writers_of(pull: PullRequest, commits: Sequence[Commit]) -> set[int] | None:
    """Accounts that had a hand in it; None where that is not known of a part."""
    if pull.author is None or len(commits) > MAX_COMMITS:
        return None
    writers = {pull.author.id}
    for commit in commits:
        if commit.author is None or commit.committer is None:
            return None
        writers |= {one.id for one in (commit.author, commit.committer) if one.login != _GITHUB_ITSELF}
    return writers


def _merged_into(pull: PullRequest, branch: str, repository_id: int) -> bool:
    return pull.merged_at_ns is not None and pull.base_branch == branch and pull.base_repository == repository_id


async def _all_three(
    commit: Awaitable[Commit], branch: Awaitable[Branch | None], pulls: Awaitable[Sequence[PullRequest]]
) -> tuple[Commit, Branch | None, Sequence[PullRequest]]:
    """All at once; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_awaited(commit))
            second = group.create_task(_awaited(branch))
            third = group.create_task(_awaited(pulls))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return first.result(), second.result(), third.result()


async def _awaited(one: Awaitable[T]) -> T:
    return await one
