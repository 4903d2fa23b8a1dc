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


def grew(selector: str, window: str) -> str:
    """It grew, or came into being: a counter that begins with its first event never increases by that one."""
    return f"increase({selector}[{window}]) > 0 or ({selector} unless {selector} offset {window}) > 0"


def ratio(part: str, whole: str, least: float) -> str:
    return f"sum by (job) (rate({part}[15m])) / sum by (job) (rate({whole}[15m])) > {least}"
