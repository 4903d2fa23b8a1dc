"""A repository's commits, branches and pull requests. No HTTP, and no contents: who made what, after what."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

MACHINE = "web-flow"
"""The account as which the platform itself commits what is merged by a button."""


@dataclass(frozen=True, slots=True)
class Person:
    """An account. `kind` is `User` or `Bot`."""

    id: int
    login: str
    kind: str = "User"


WEB_FLOW = Person(19_864_447, MACHINE)


@dataclass(frozen=True, slots=True)
class CommitEntry:
    """`author` and `committer` are None where their address belongs to no account."""

    sha: str
    parents: tuple[str, ...]
    author: Person | None
    committer: Person | None
    verified: bool
    message: str


@dataclass(frozen=True, slots=True)
class ReviewEntry:
    """`state` is `APPROVED`, `CHANGES_REQUESTED`, `COMMENTED`, `DISMISSED`; `commit` the head that was looked at."""

    reviewer: Person | None
    state: str
    commit: str


@dataclass(slots=True)
class Pull:
    """`commits` are those it adds, the last one its head. `landed` are the commits by which it is in its base."""

    number: int
    author: Person | None
    base: str
    commits: list[str]
    base_repository: int = 0
    reviews: list[ReviewEntry] = field(default_factory=list)
    merged_at: float | None = None
    landed: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1]


@dataclass(slots=True)
class History:
    """`heads` by branch; `rights` by login in lower case: `admin`, `write`, `read` or `none`.

    A commit on no branch is one that only a fork has: the API shows those under the repository's name too.
    """

    commits: dict[str, CommitEntry] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    pulls: dict[int, Pull] = field(default_factory=dict)
    rights: dict[str, str] = field(default_factory=dict)

    def commit(
        self,
        author: Person | None,
        *,
        branch: str = "",
        parents: Iterable[str] = (),
        committer: Person | None = None,
        verified: bool = False,
        message: str = "a change",
    ) -> str:
        """A new commit; on a branch it follows the branch's head, and is the head then. Returns its id."""
        before = tuple(parents) or ((self.heads[branch],) if branch in self.heads else ())
        sha = secrets.token_hex(20)
        self.commits[sha] = CommitEntry(sha, before, author, committer or author, verified, message)
        if branch:
            self.heads[branch] = sha
        return sha

    def ancestors(self, sha: str) -> set[str]:
        """The commit and all before it."""
        found: set[str] = set()
        left = [sha]
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                left += self.commits[one].parents if one in self.commits else ()
        return found

    def propose(self, author: Person | None, base: str, *commits: str) -> Pull:
        """Open a pull request for these commits."""
        pull = Pull(len(self.pulls) + 1, author, base, list(commits))
        self.pulls[pull.number] = pull
        return pull

    def review(self, pull: Pull, reviewer: Person | None, state: str = "APPROVED", commit: str = "") -> None:
        pull.reviews.append(ReviewEntry(reviewer, state, commit or pull.head))

    def merge(self, pull: Pull, at: float, *, squash: bool = True, message: str = "") -> str:
        """By the button: one new signed commit of the pull request's author, or a merge commit. Returns its id."""
        before = [self.heads[pull.base]] if pull.base in self.heads else []
        parents = before if squash else [*before, pull.head]
        sha = self.commit(
            pull.author,
            parents=parents,
            committer=WEB_FLOW,
            verified=True,
            message=message or f"a change (#{pull.number})",
        )
        self.heads[pull.base] = sha
        pull.merged_at = at
        pull.landed = [sha] if squash else [sha, *pull.commits]
        return sha
