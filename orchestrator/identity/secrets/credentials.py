"""What the inventory says of a credential: everything but its value. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MOST_JOBS: Final = 50
"""Entries of a blast radius that are listed; the rest is counted."""


class Kind(StrEnum):
    """What sort of credential it is; the order is that of `_WEIGHTS`, which says how bad its loss would be."""

    STATIC_SECRET = "static_secret"  # noqa: S105 -- a word
    ACCESS_TOKEN = "access_token"  # noqa: S105 -- a word
    APP_KEY = "app_key"
    ISSUER_KEY = "issuer_key"
    EVIDENCE_KEY = "evidence_key"
    AUDIT_KEY = "audit_key"
    WEBHOOK_SECRET = "webhook_secret"  # noqa: S105 -- a word
    OTHER_FILE = "other_file"
    SERVING_KEY = "serving_key"
    CALLER_TOKEN = "caller_token"  # noqa: S105 -- a word
    GRANT = "grant"
    """A permission of the trust map: what is brokered under it is made anew for each job."""


class Rotation(StrEnum):
    """Who replaces it: the daemon by itself, the daemon by its owner's hook, its owner by replacing the file, or nobody
    until somebody does it by hand."""

    AUTOMATIC = "automatic"
    HOOK = "hook"
    FILE = "file"
    BY_HAND = "by_hand"


_WEIGHTS: Final = {
    Kind.STATIC_SECRET: 60,
    Kind.ACCESS_TOKEN: 60,
    Kind.APP_KEY: 50,
    Kind.ISSUER_KEY: 30,
    Kind.EVIDENCE_KEY: 35,
    Kind.AUDIT_KEY: 35,
    Kind.WEBHOOK_SECRET: 25,
    Kind.OTHER_FILE: 25,
    Kind.SERVING_KEY: 15,
    Kind.CALLER_TOKEN: 10,
    Kind.GRANT: 10,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One credential that the daemon holds or brokers. Times are RFC 3339 or empty, ages in seconds; None for *not
    known*.

    `where` is a path or a place, never a value. `opens` says what whoever has it can reach, `jobs` which jobs can get
    it or what is made with it. `flags` are words such as `overdue`.
    """

    id: str
    kind: Kind
    owner: str
    where: str
    rotation: Rotation
    opens: Sequence[str] = ()
    jobs: Sequence[str] = ()
    created_at: str = ""
    age_seconds: int | None = None
    max_age_seconds: int | None = None
    last_used_at: str = ""
    uses: int | None = None
    state: str = "in_use"
    flags: Sequence[str] = ()
    production: bool = False

    @property
    def risk(self) -> int:
        """From 0 to 100: what its loss would mean, and how likely it is to have been lost."""
        if self.state == "removed":
            return 0
        weight = _WEIGHTS[self.kind] + (20 if self.production else 0)
        weight += 10 if {"overdue", "no_value"} & set(self.flags) else 0
        weight += 10 if self.rotation is Rotation.BY_HAND else 5 if self.rotation is Rotation.FILE else 0
        weight += 5 if "readable_by_others" in self.flags else 0
        return min(weight, 100)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind.value,
            "owner": self.owner,
            "state": self.state,
            "where": self.where,
            "rotation": self.rotation.value,
            "created_at": self.created_at or None,
            "age_seconds": self.age_seconds,
            "max_age_seconds": self.max_age_seconds,
            "last_used_at": self.last_used_at or None,
            "uses": self.uses,
            "opens": list(self.opens)[:MOST_JOBS],
            "jobs": list(self.jobs)[:MOST_JOBS],
            "left_out": max(0, len(self.opens) - MOST_JOBS) + max(0, len(self.jobs) - MOST_JOBS),
            "flags": sorted(self.flags),
            "risk": self.risk,
        }


def ranked(found: Sequence[Credential]) -> list[Credential]:
    """The riskiest first."""
    return sorted(found, key=lambda one: (-one.risk, one.id))
