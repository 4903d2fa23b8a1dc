"""What a change of the trust map changes: edges that are new or gone, and those that got wider or narrower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.identity.trust.conditions import Comparison, Condition
from orchestrator.identity.trust.document import PERMISSION_LEVELS, GrantRule, TrustDocument, rule_name
from orchestrator.identity.trust.inventory import latest_seconds
from orchestrator.identity.trust.trust_map import TrustMap


class Direction(StrEnum):
    """Which way an edge changed. What is not provably narrower counts as wider."""

    ADDED = "added"
    REMOVED = "removed"
    WIDENED = "widened"
    NARROWED = "narrowed"


@dataclass(frozen=True, slots=True)
class Change:
    """One edge, grant (`rule`) to audience and role, or a document's own guard (`environment/`, no audience).

    An edge that is wider in one way and narrower in another is *widened*; `details` has a line for each way.
    """

    direction: Direction
    rule: str
    audience: str = ""
    role: str = ""
    details: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "change": self.direction.value,
            "rule": self.rule,
            "audience": self.audience,
            "role": self.role,
            "details": list(self.details),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """The changes, sorted by rule; digests are those of the two maps."""

    old: str
    new: str
    changes: tuple[Change, ...]

    @property
    def widens(self) -> bool:
        """Whether anybody might get more than before."""
        return any(one.direction in (Direction.ADDED, Direction.WIDENED) for one in self.changes)

    def as_json(self) -> dict[str, Any]:
        return {
            "old": self.old,
            "new": self.new,
            "widens": self.widens,
            "changes": [one.as_json() for one in self.changes],
        }


_Edge = tuple[str, str, str]
_Way = tuple[bool, str]
"""Whether it is wider, and in which words."""


def diff(old: TrustMap, new: TrustMap) -> Difference:
    """How the edges of two maps differ, edge by edge: rule, audience, role."""
    before, after = _edges(old), _edges(new)
    changes = [Change(Direction.REMOVED, *edge) for edge in before.keys() - after.keys()]
    changes += [Change(Direction.ADDED, *edge, (_scope(after[edge]),)) for edge in after.keys() - before.keys()]
    for edge in before.keys() & after.keys():
        changes += _change(edge, list(_grant_ways(before[edge], after[edge])))
    guards, guards_after = ({one.environment: one for one in each.documents} for each in (old, new))
    for environment in guards.keys() & guards_after.keys():
        ways = list(_document_ways(guards[environment], guards_after[environment]))
        changes += _change((rule_name(environment, ""), "", ""), ways)
    return Difference(
        old.digest, new.digest, tuple(sorted(changes, key=lambda one: (one.rule, one.audience, one.role)))
    )


def _edges(trust_map: TrustMap) -> dict[_Edge, GrantRule]:
    return {
        (grant.rule, grant.target.audience, role): grant
        for document in trust_map.documents
        for grant in document.grants
        for role in grant.roles or ("",)
    }


def _change(edge: _Edge, ways: list[_Way]) -> list[Change]:
    if not ways:
        return []
    direction = Direction.WIDENED if any(wider for wider, _ in ways) else Direction.NARROWED
    return [Change(direction, *edge, tuple(words for _, words in ways))]


def _scope(grant: GrantRule) -> str:
    return "when " + ", ".join(f"{one.claim} {one.wanted()}" for one in grant.conditions if not one.implied)


def _grant_ways(old: GrantRule, new: GrantRule) -> Iterator[_Way]:
    yield from _condition_ways(old.conditions, new.conditions)
    numbers = {
        "max_ttl_seconds": (old.max_ttl_seconds, new.max_ttl_seconds),
        "the latest end of a session, in seconds,": (latest_seconds(old), latest_seconds(new)),
    }
    for name, (before, after) in numbers.items():
        if before != after:
            yield after > before, f"{name} is {after}, was {before}"
    # Whether another value gives more is for the target to say, so each change of these counts as wider.
    others: dict[str, tuple[object, object]] = {
        "issuer": (old.issuer, new.issuer),
        "kind": (old.target.kind, new.target.kind),
        "session_tags": (_tags(old), _tags(new)),
        "transitive": (sorted(old.transitive), sorted(new.transitive)),
        "repository_id": (old.repository_id, new.repository_id),
    }
    for name, (was, now) in others.items():
        if was != now:
            yield True, f"{name} is {now or 'none'}, was {was or 'none'}"
    yield from _permission_ways(old.permissions, new.permissions)


def _tags(grant: GrantRule) -> str:
    return ", ".join(f"{key}={tag.value or f'claim {tag.claim}'}" for key, tag in sorted(grant.session_tags.items()))


def _condition_ways(old: tuple[Condition, ...], new: tuple[Condition, ...]) -> Iterator[_Way]:
    before, after = ({(one.claim, one.test is Comparison.TAGGABLE): one for one in each} for each in (old, new))
    for key in dict.fromkeys((*before, *after)):
        was, now = before.get(key), after.get(key)
        if was is None and now is not None:
            yield False, f"{now.claim} has to be {now.wanted()}"
        elif now is None and was is not None:
            yield True, f"{was.claim} does not have to be {was.wanted()} any more"
        elif was is not None and now is not None and was.as_json() != now.as_json():
            wider = not now.within(was)
            if wider or not was.within(now):
                yield wider, f"{now.claim} has to be {now.wanted()}, was {was.wanted()}"


def _permission_ways(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[_Way]:
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name, ""), new.get(name, "")
        if before != after:
            yield (
                PERMISSION_LEVELS.index(after) > PERMISSION_LEVELS.index(before),
                f"{name} is {after or 'none'}, was {before or 'none'}",
            )


def _document_ways(old: TrustDocument, new: TrustDocument) -> Iterator[_Way]:
    if old.protected != new.protected:
        yield old.protected, f"protected is {str(new.protected).lower()}"
    if old.stricter_than != new.stricter_than:
        yield old.stricter_than is not None, f"stricter_than is {_other(new)}, was {_other(old)}"
    for role in sorted(new.shared_roles - old.shared_roles):
        yield True, f"{role} may be shared"
    for role in sorted(old.shared_roles - new.shared_roles):
        yield False, f"{role} may not be shared any more"


def _other(document: TrustDocument) -> str:
    return "nothing" if document.stricter_than is None else repr(document.stricter_than)
