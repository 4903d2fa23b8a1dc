"""What GitHub's REST API says of repositories, commits and pull requests, as frozen objects. Pure.

`commit_answers` reads them. Source: GitHub REST API reference (repositories, commits, pulls, pull request reviews).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class HostedRepository:
    """`id` never changes; `full_name` and `default_branch` may."""

    id: int
    full_name: str
    default_branch: str


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody at GitHub. `person` is false for Apps and other machines."""

    id: int
    login: str
    person: bool = True


@dataclass(frozen=True, slots=True)
class Commit:
    """`author` and `committer` are None where GitHub knows nobody with the commit's address.

    `verified` is GitHub's word that the signature is good and by a key of the committer's; `message` is whole.
    """

    sha: str
    author: Account | None
    committer: Account | None
    verified: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """`base_repository` is the id of the one it asks to be merged into; `merged_at_ns` is None until it is.

    `merged_sha` is then the commit that its base was brought to: of a merge, a squash or the last of a rebase.
    """

    number: int
    author: Account | None
    base_branch: str
    base_repository: int
    head_sha: str
    merged_at_ns: int | None = None
    merged_sha: str = ""


class ReviewState(StrEnum):
    """Those that say something about the whole; `OTHER` stands for comments and what has not been handed in."""

    APPROVED = "APPROVED"
    CHANGES_REQUESTED = "CHANGES_REQUESTED"
    DISMISSED = "DISMISSED"
    OTHER = ""


@dataclass(frozen=True, slots=True)
class Review:
    """`commit` is the head that was looked at; `reviewer` is None where the account is gone."""

    reviewer: Account | None
    state: ReviewState
    commit: str
