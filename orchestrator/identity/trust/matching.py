"""One environment's grants, found by audience and identity: of those that are the job's, exactly one must match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from orchestrator.identity.trust.answers import Candidate, ConditionResult, Grant, Refusal
from orchestrator.identity.trust.conditions import Condition
from orchestrator.identity.trust.document import GrantRule, TrustDocument
from orchestrator.identity.trust.refusals import (
    ambiguous,
    mismatch,
    no_audience,
    not_pinned,
    role_not_mapped,
    role_required,
    shown,
)

MAX_CANDIDATES: Final = 100
"""Grants that an explanation shows."""

_Pinned = tuple[tuple[Condition, ...], GrantRule]
"""A grant behind its pins, which are looked at first."""


class _Bucket:
    """The grants of one identity."""

    def __init__(self) -> None:
        self._all: list[_Pinned] = []
        self._by_role: dict[str, list[_Pinned]] = {}

    def add(self, grant: GrantRule) -> None:
        pinned = (grant.pins, grant)
        self._all.append(pinned)
        for role in grant.roles:
            self._by_role.setdefault(role, []).append(pinned)

    def of(self, role: str) -> Sequence[_Pinned]:
        return self._by_role.get(role, ()) if role else self._all


_NOTHING: Final = _Bucket()


class Audience:
    """The grants of one document for one audience."""

    def __init__(self, environment: str, audience: str, grants: Iterable[GrantRule]) -> None:
        self.environment = environment
        self.audience = audience
        self.grants = tuple(grants)
        self._by_pin: dict[str, dict[str, _Bucket]] = {}
        for grant in self.grants:
            buckets = self._by_pin.setdefault(grant.key.claim, {})
            for value in grant.key.values:
                buckets.setdefault(value, _Bucket()).add(grant)

    def of_the_job(self, facts: Mapping[str, str], role: str) -> list[GrantRule]:
        """The grants whose pins all hold: those that somebody has written for this identity. With a role, those of them
        that list it."""
        buckets = (found.get(facts.get(claim, ""), _NOTHING) for claim, found in self._by_pin.items())
        return [grant for bucket in buckets for pins, grant in bucket.of(role) if _all_hold(pins, facts)]

    def grant(self, facts: Mapping[str, str], role: str) -> Grant | Refusal:
        asked = self.of_the_job(facts, role)
        if not asked:
            own = self.of_the_job(facts, "") if role else ()
            if not own:
                return not_pinned(self.environment, self.audience, self._by_pin, facts)
            return role_not_mapped(nearest(own, facts), role, self.audience)
        matched = [grant for grant in asked if _all_hold(grant.conditions, facts)]
        if not matched:
            return mismatch(nearest(asked, facts), facts)
        if len(matched) > 1:
            return self._several(matched, role)
        return self._one(matched[0], facts, role)

    def _several(self, matched: Sequence[GrantRule], role: str) -> Refusal:
        roles = {name for grant in matched for name in grant.roles}
        if not role and all(grant.roles for grant in matched) and len(roles) > 1:
            return role_required(matched[0], roles, self.audience)
        return ambiguous(matched[0], matched[1])

    def _one(self, grant: GrantRule, facts: Mapping[str, str], role: str) -> Grant | Refusal:
        if not role and len(grant.roles) > 1:
            return role_required(grant, grant.roles, self.audience)
        return _granted(grant, facts, role or next(iter(grant.roles), ""))

    def candidates(self, facts: Mapping[str, str], role: str) -> tuple[Candidate, ...]:
        """The grants and how each stands, nearest first."""
        ranked = sorted(
            self.grants, key=lambda grant: (bool(role) and role not in grant.roles, *_distance(grant, facts))
        )
        return tuple(_candidate(grant, facts, role) for grant in ranked[:MAX_CANDIDATES])


class Environment:
    """One document, ready to be asked."""

    def __init__(self, document: TrustDocument) -> None:
        self.document = document
        grants: dict[str, list[GrantRule]] = {}
        for grant in document.grants:
            grants.setdefault(grant.target.audience, []).append(grant)
        self.audiences = {name: Audience(document.environment, name, found) for name, found in grants.items()}

    def grant(self, facts: Mapping[str, str], audience: str, role: str) -> Grant | Refusal:
        found = self.audiences.get(audience)
        if found is None:
            return no_audience(self.document.environment, audience)
        return found.grant(facts, role)


def nearest(grants: Iterable[GrantRule], facts: Mapping[str, str]) -> GrantRule:
    """Whose pins hold, and of those the one with the fewest conditions that fail; the first of equals."""
    return min(grants, key=lambda grant: _distance(grant, facts))


def _distance(grant: GrantRule, facts: Mapping[str, str]) -> tuple[bool, int]:
    return not _all_hold(grant.pins, facts), sum(not one.holds(facts) for one in grant.conditions)


def _all_hold(conditions: Iterable[Condition], facts: Mapping[str, str]) -> bool:
    return all(one.holds(facts) for one in conditions)


def _candidate(grant: GrantRule, facts: Mapping[str, str], role: str) -> Candidate:
    results = tuple(
        ConditionResult(one.claim, one.wanted(), shown(facts.get(one.claim, "")), one.holds(facts), one.implied)
        for one in grant.conditions
    )
    return Candidate(
        rule=grant.rule,
        target=grant.target.name,
        roles=grant.roles,
        role_ok=role in grant.roles if role else len(grant.roles) <= 1,
        pinned=_all_hold(grant.pins, facts),
        matched=all(one.ok for one in results),
        conditions=results,
    )


def _granted(grant: GrantRule, facts: Mapping[str, str], role: str) -> Grant:
    own_repository = facts.get("repository_id", "") if grant.permissions else ""
    return Grant(
        rule=grant.rule,
        environment=grant.environment,
        issuer=grant.issuer,
        target=grant.target,
        role=role,
        max_ttl_seconds=grant.max_ttl_seconds,
        session_tags={key: tag.value or facts[tag.claim] for key, tag in grant.session_tags.items()},
        transitive=grant.transitive,
        permissions=grant.permissions,
        repository_id=grant.repository_id or own_repository,
        own_repository=bool(grant.permissions) and not grant.repository_id,
    )
