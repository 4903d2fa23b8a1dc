"""An alert: what is wrong, for how long, how urgent it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """*page* wakes somebody: jobs do not run, or a promise is broken. *ticket* is for working hours."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Alert:
    """`expr` is PromQL, `lasts` how long it must hold. `summary` and `why` are for people, with `{{ $labels.x }}`."""

    name: str
    expr: str
    lasts: str
    severity: Severity
    summary: str
    why: str


def increase(counter: str, window: str, by: str = "job") -> str:
    return f"sum by ({by}) (increase({counter}[{window}]))"


def grown(selector: str, window: str) -> str:
    """By how much it grew; by all it has where it came into being in between: a counter that begins with its first
    event, or with a burst of them, never increases by those. A look before that is missed does not make it new."""
    before = f"last_over_time({selector}[{window}] offset {window})"
    return f"(({selector} unless {before}) or increase({selector}[{window}]))"


def grew(selector: str, window: str) -> str:
    return f"{grown(selector, window)} > 0"


def gone(metric: str) -> str:
    """All targets of a `job` that had it within six hours are silent; others do not make up for them."""
    return f"(group by (job) (last_over_time({metric}[6h])) unless group by (job) ({metric}))"


def ratio(part: str, whole: str, least: float) -> str:
    return f"sum by (job) (rate({part}[15m])) / sum by (job) (rate({whole}[15m])) > {least}"
