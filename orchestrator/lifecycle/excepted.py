"""What a job's journal says of an exception to the rules that a decision stands on: that it was used, and an alarm."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.model.decision import Decision, Waiver
from orchestrator.model.events import AlarmRaised, Event, ExceptionUsed

EXCEPTION_USED = "exception_used"


def exception_facts(decision: Decision) -> tuple[Event, ...]:
    """To be stored with the decision. Nothing of one that stands on the rules alone, or allows nothing."""
    return facts_of(decision.id, decision.waivers) if decision.allowed else ()


def facts_of(decision_id: str, waivers: Iterable[Waiver]) -> tuple[Event, ...]:
    """The facts of those whose use is durable."""
    return tuple(fact for waiver in waivers if waiver.number for fact in _facts(decision_id, waiver))


def _facts(decision_id: str, waiver: Waiver) -> tuple[Event, Event]:
    used = ExceptionUsed(
        waiver.exception, waiver.kind, waiver.codes, decision_id, waiver.approvers, waiver.number
    )  # fmt: skip
    detail = f"{waiver.kind} {waiver.exception} set aside {', '.join(waiver.codes)}; use {waiver.number}"
    return used, AlarmRaised(EXCEPTION_USED, detail)
