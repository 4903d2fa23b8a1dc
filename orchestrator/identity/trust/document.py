"""A trust map's document as it was read and checked: targets and grants of one environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.identity.trust.conditions import Condition
from orchestrator.identity.trust.kinds import KINDS

PINS: Final = ("repository_id", "caller", "caller_issuer", "repository_owner_id")
"""Claims that name an identity for ever. By these, written one by one, a grant says whose it is."""

KEY_PINS: Final = ("repository_id", "caller", "repository_owner_id")
"""One of these every grant has; the issuer alone says nothing about who."""

PERMISSION_LEVELS: Final = ("", "read", "write", "admin")
"""Of an installation token, from nothing to most."""


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody who accepts our tokens, under one audience.

    `session_seconds` is the longest life of what the target gives for a token (0: the token itself is used),
    `slack_seconds` how long after its expiry the target may still take a token, `max_ttl_seconds` the most that a grant
    may give. See `kinds` for defaults and their sources.
    """

    name: str
    kind: str
    audience: str
    session_seconds: int
    slack_seconds: int
    max_ttl_seconds: int

    @property
    def latest_session_seconds(self) -> int:
        """From the last moment at which a token is taken to the latest end of any session that a job could get there,
        whatever it was meant to ask for."""
        kind = KINDS[self.kind]
        return kind.between_seconds + max(self.session_seconds, kind.enforceable_seconds)


@dataclass(frozen=True, slots=True)
class Tag:
    """A session tag's value: that of a verified claim, or one that is written in the document. Exactly one is set."""

    claim: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class GrantRule:
    """A grant as it is written, with the conditions that it implies.

    `environment` and `issuer` are the document's. `permissions` (`contents: read`) and `repository_id` are for targets
    of kind `github` only: whose repository an installation token is for, empty for that of the job itself.
    """

    name: str
    environment: str
    conditions: tuple[Condition, ...]
    target: Target
    roles: tuple[str, ...] = ()
    max_ttl_seconds: int = 0
    session_tags: Mapping[str, Tag] = field(default_factory=dict)
    transitive: tuple[str, ...] = ()
    permissions: Mapping[str, str] = field(default_factory=dict)
    repository_id: str = ""
    issuer: str = ""

    @property
    def rule(self) -> str:
        """`prod/app-release`; `-/app-build` in the document of jobs that deploy nowhere."""
        return rule_name(self.environment, self.name)

    @property
    def pins(self) -> tuple[Condition, ...]:
        """The conditions that say whose grant it is."""
        return tuple(one for one in self.conditions if one.claim in PINS and one.exact)

    @property
    def key(self) -> Condition:
        """The strongest of the pins, by which the grant is found."""
        return min(
            (one for one in self.conditions if one.claim in KEY_PINS and one.exact),
            key=lambda one: KEY_PINS.index(one.claim),
        )


@dataclass(frozen=True, slots=True)
class TrustDocument:
    """One environment's document. `digest` (`sha256:<hex>`) is of what it says, not of how it is laid out."""

    environment: str
    path: str
    digest: str
    targets: Mapping[str, Target]
    grants: tuple[GrantRule, ...]
    issuer: str = ""
    protected: bool = False
    stricter_than: str | None = None
    shared_roles: frozenset[str] = frozenset()


def rule_name(environment: str, name: str) -> str:
    return f"{environment or '-'}/{name}"
