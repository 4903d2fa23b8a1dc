"""The engine's whole mind: `decide(record, observation) -> step`. Pure, total, one line for each phase."""

from __future__ import annotations

from orchestrator.lifecycle.admit import admit
from orchestrator.lifecycle.bind import await_claim
from orchestrator.lifecycle.ending import ended
from orchestrator.lifecycle.observation import Deadlines, Observation, Step
from orchestrator.lifecycle.platform import attend
from orchestrator.lifecycle.provision import provision, wait_for_slot
from orchestrator.lifecycle.supervise import supervise
from orchestrator.lifecycle.teardown import teardown
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record

_UNENDED = frozenset({Phase.QUEUED, Phase.WAITING, Phase.PROVISIONING, Phase.BINDING, Phase.RUNNING})


def decide(record: Record, seen: Observation, deadlines: Deadlines) -> Step:
    """What to record and what to do next for this job, given all that this pass has learnt.

    The shell makes the facts durable before it performs the action, performs it, adds what it learnt to the
    observation and asks again, until there is neither a fact nor an action.
    """
    if record.cancel and record.phase in _UNENDED:
        why = f": {record.cancel.reason}" if record.cancel.reason else ""
        return ended(Result.CANCELLATION, EndReason.CANCELLED, f"cancelled by {record.cancel.by}{why}")
    match record.phase:
        case Phase.QUEUED:
            return admit(record, seen, deadlines)
        case Phase.WAITING:
            return wait_for_slot(record, seen, deadlines)
        case Phase.PROVISIONING:
            return provision(record, seen, deadlines)
        case Phase.BINDING:
            return await_claim(record, seen, deadlines)
        case Phase.RUNNING:
            if record.platform is not None:
                return attend(record, record.platform, seen, deadlines)
            return supervise(record, seen)
        case Phase.TEARDOWN:
            return teardown(record, seen, deadlines)
        case Phase.FINISHED:
            return Step()
