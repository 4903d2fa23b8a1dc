"""Stage 1: from an offer to *admitted* or an ended job. Pure."""

from __future__ import annotations

from orchestrator.lifecycle.ending import ended
from orchestrator.lifecycle.observation import Action, Deadlines, Observation, Step
from orchestrator.model.decision import Decision, Verdict
from orchestrator.model.events import Event, JobAdmitted, JobRefused
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.record import Record

_REFUSALS = {
    Verdict.DENY: (Result.DENIED, EndReason.POLICY_DENIED),
    Verdict.UNDEFINED: (Result.DENIED, EndReason.POLICY_UNDEFINED),
    Verdict.ERROR: (Result.ERROR, EndReason.POLICY_ERROR),
}


def admit(record: Record, seen: Observation, deadlines: Deadlines) -> Step:
    """A queued job: ask policy once; only *allow* goes on."""
    deadline = record.phase_since_ns + deadlines.admission_ns
    if seen.pool is None:
        return ended(Result.ERROR, EndReason.UNKNOWN_POOL, f"no pool is called {record.offer.spec.pool!r}")
    if seen.decision is not None:
        return Step(facts=_answer(seen.decision))
    if seen.now_ns >= deadline:
        return ended(Result.TIMEOUT, EndReason.ADMISSION_TIMEOUT, "policy gave no answer in time")
    return Step(action=Action.ASK_POLICY, wake_ns=deadline)


def _answer(decision: Decision) -> tuple[Event, ...]:
    refusal = _REFUSALS.get(decision.verdict)
    if refusal is None:
        return (JobAdmitted(decision),)
    result, reason = refusal
    return (JobRefused(decision), *ended(result, reason, decision.explain()).facts)
