"""The four metrics, from counts and from what is in force now. Pure; every share is None while nothing is counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from orchestrator.telemetry.scores import follow
from orchestrator.telemetry.scores.tally import DAY_NS, DayTally

WINDOW_DAYS: Final = 30

DEPLOYS, BUILDS = "deploys", "builds"
PARTS: Final = ("signed", "sbom", "provenance")
"""What an artifact needs to be traceable; each is a count of its own, `deploys signed` for one."""
TRACED: Final = "traced"


@dataclass(frozen=True, slots=True)
class SecretAge:
    """A registered secret's age; None where it has no value. Times in seconds."""

    name: str
    age_seconds: int | None
    max_age_seconds: int
    idle: bool = False
    failing: bool = False
    rotated: bool = False
    """By somebody else than people, in time."""

    @property
    def overdue(self) -> bool:
        return self.age_seconds is None or self.age_seconds > self.max_age_seconds


@dataclass(frozen=True, slots=True)
class Edge:
    """One permission: this identity may take this role at this target, by a rule of the trust map."""

    identity: str
    rule: str
    role: str


def count_artifact(tally: DayTally, at_ns: int, facts: Mapping[str, Any] | None, *, deployed: bool) -> None:
    """Count an artifact that was built or deployed, by what is verified about it."""
    what = DEPLOYS if deployed else BUILDS
    tally.add(what, at_ns)
    has = {part for part in PARTS if facts is not None and facts.get(part) is True}
    for part in has:
        tally.add(f"{what} {part}", at_ns)
    if has == set(PARTS):
        tally.add(f"{what} {TRACED}", at_ns)


def window_start_ns(now_ns: int) -> int:
    """The beginning of the day from which counts are looked at."""
    return (now_ns // DAY_NS - WINDOW_DAYS + 1) * DAY_NS


def secret_age(ages: Sequence[SecretAge]) -> dict[str, Any]:
    known = [one.age_seconds for one in ages if one.age_seconds is not None]
    overdue = sum(one.overdue for one in ages)
    return {
        "secrets": len(ages),
        "overdue": overdue,
        "idle": sum(one.idle for one in ages),
        "failing": sum(one.failing for one in ages),
        "oldest_seconds": max(known, default=None),
        "within_limit_share": share(len(ages) - overdue, len(ages)),
        "each": [asdict(one) | {"overdue": one.overdue} for one in ages],
    }


def permission_scope(edges: Collection[Edge], tally: DayTally, now_ns: int) -> dict[str, Any]:
    start = window_start_ns(now_ns)
    used_rules = {key for key, _ in tally.keys(follow.GRANT, start)}
    used = sum(f"{edge.rule} {edge.role}" in used_rules for edge in edges)
    by_identity: dict[str, int] = {}
    for edge in edges:
        by_identity[edge.identity] = by_identity.get(edge.identity, 0) + 1
    widest = max(sorted(by_identity), key=lambda one: by_identity[one], default="")
    return {
        "edges_granted": len(edges),
        "edges_used": used,
        "used_share": share(used, len(edges)),
        "identities": len(by_identity),
        "widest_identity": widest,
        "widest_edges": by_identity.get(widest, 0),
    }


def artifact_traceability(tally: DayTally, now_ns: int) -> dict[str, Any]:
    start = window_start_ns(now_ns)
    found: dict[str, Any] = {}
    for what in (DEPLOYS, BUILDS):
        total = found[what] = tally.total(what, start)
        for part in (*PARTS, TRACED):
            found[f"{what}_{part}"] = tally.total(f"{what} {part}", start)
        found[f"{what}_traced_share"] = share(found[f"{what}_{TRACED}"], total)
    return found


def policy_coverage(
    tally: DayTally, modes: Mapping[str, str] | None, pools: Collection[str], now_ns: int
) -> dict[str, Any]:
    """`modes` are the rules' codes to *enforce* or *observe*; None where an engine of somebody else's knows them."""
    start = window_start_ns(now_ns)
    decisions, explicit = tally.total(follow.DECISIONS, start), tally.total(follow.EXPLICIT, start)
    enforced = sum(mode == "enforce" for mode in modes.values()) if modes is not None else None
    return {
        "decisions": decisions,
        "decisions_explicit": explicit,
        "explicit_share": share(explicit, decisions),
        "rules": len(modes) if modes is not None else None,
        "rules_enforced": enforced,
        "enforced_share": share(enforced, len(modes)) if modes is not None and enforced is not None else None,
        "observed": dict(tally.keys(follow.OBSERVED, start)),
        "waived": dict(tally.keys(follow.WAIVED, start)),
        "pools": {pool: _pool(tally, pool, start) for pool in pools},
    }


def _pool(tally: DayTally, pool: str, start: int) -> dict[str, Any]:
    building, proven = tally.total(follow.BUILDING + pool, start), tally.total(follow.PROVEN + pool, start)
    return {
        "jobs": tally.total(follow.JOBS + pool, start),
        "jobs_building": building,
        "jobs_with_provenance": proven,
        "provenance_share": share(proven, building),
    }


def share(part: int, whole: int) -> float | None:
    """From 0 to 1; None of nothing."""
    return part / whole if whole else None
