"""Stage 5: revoke first, delete second, verify gone third, then close. Idempotent, from any phase. Pure."""

from __future__ import annotations

from orchestrator.lifecycle.backoff import backoff_ns
from orchestrator.lifecycle.observation import SECOND, Action, Deadlines, Observation, Step
from orchestrator.model.events import AlarmRaised, JobFinished, RunnerDeleted
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerState


def teardown(record: Record, seen: Observation, deadlines: Deadlines) -> Step:
    """An ended job: it is finished when all is revoked, a look has found nothing left and its evidence is made.

    A revocation that fails is tried again, but the runner does not live on for it, and nobody waits for its slot: a
    third party that is away for an hour would else empty the pool.
    """
    if seen.failure is not None:
        return _stuck(record, seen, deadlines, seen.failure.text)
    if not seen.revoked and seen.unrevoked is None:
        return Step(action=Action.REVOKE)
    if record.runner is not None:
        if seen.deleted and not record.deletion_accepted:
            return Step(facts=(RunnerDeleted(record.runner, seen.revoked_ns),))
        if not seen.deleted:
            return Step(action=Action.DELETE_RUNNER)
        if seen.runner is None:
            return Step(action=Action.LOOK_AT_RUNNER)
        if seen.runner.state is not RunnerState.ABSENT:
            return _stuck(
                record, seen, deadlines, f"runner {record.runner} is still there. {seen.runner.detail}".strip()
            )
    if seen.unrevoked is not None:
        return _stuck(record, seen, deadlines, f"not revoked: {seen.unrevoked.text}", vacant=True)
    if seen.evidence is None:
        return _late(record, seen, deadlines)
    finished = JobFinished(revoked_at_ns=seen.revoked_ns if record.revocation_due else 0)
    return Step(facts=(*seen.evidence, finished))


def _late(record: Record, seen: Observation, deadlines: Deadlines) -> Step:
    """All is gone. When that took longer than its bound, the alarm comes before the receipt that has to name it."""
    if seen.now_ns >= _due_ns(record, deadlines) and not record.alarmed:
        return Step(facts=(_alarm(deadlines, "it was seen to be gone later"),))
    return Step(action=Action.CLOSE)


def _stuck(record: Record, seen: Observation, deadlines: Deadlines, what: str, *, vacant: bool = False) -> Step:
    """Try again, no later than the bound as long as nobody was told: an alarm after a long back-off comes late."""
    due, again = _due_ns(record, deadlines), seen.now_ns + backoff_ns(max(seen.failures, seen.looks))
    if record.alarmed:
        return Step(wake_ns=again, vacant=vacant)
    if seen.now_ns >= due:
        return Step(facts=(_alarm(deadlines, what),), wake_ns=again, vacant=vacant)
    return Step(wake_ns=min(again, due), vacant=vacant)


def _due_ns(record: Record, deadlines: Deadlines) -> int:
    return record.ended_at_ns + deadlines.teardown_ns


def _alarm(deadlines: Deadlines, what: str) -> AlarmRaised:
    return AlarmRaised("teardown_stuck", f"not gone {deadlines.teardown_ns // SECOND} s after the end: {what}"[:1000])
