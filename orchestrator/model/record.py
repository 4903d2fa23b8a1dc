"""A job's record: the fold of its facts, as much of it as the engine decides by. Pure.

Replaying a job's facts through `apply` gives the record the daemon had before it stopped; there is no
other state to recover.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.model import events
from orchestrator.model.copying import copier
from orchestrator.model.decision import Obligations
from orchestrator.model.events import Fact
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import Outcome
from orchestrator.model.phase import Phase, advance
from orchestrator.model.runner import RunnerName


@dataclass(frozen=True, slots=True)
class Record:
    """Where a job stands. Times are Unix nanoseconds; 0 means *not yet*.

    `phase_since_ns` is when the present phase began; `runner_number` counts the runners started so far and
    `backend` is where they live; `bound_uid` is the one runner that ever got the work;
    `deletion_accepted` says that the backend took the deletion and only the look remains; `alarmed` that a
    stuck teardown was already reported.
    """

    offer: JobOffer
    offered_at_ns: int
    phase: Phase = Phase.QUEUED
    phase_since_ns: int = 0
    obligations: Obligations = field(default_factory=Obligations)
    admitted_at_ns: int = 0
    wait: events.JobWaited | None = None
    runner: RunnerName | None = None
    runner_number: int = 0
    backend: str = ""
    runner_uid: str = ""
    bound_uid: str = ""
    bound_at_ns: int = 0
    cancel: events.JobCancelRequested | None = None
    outcome: Outcome | None = None
    ended_at_ns: int = 0
    deletion_accepted: bool = False
    finished_at_ns: int = 0
    alarmed: bool = False

    @property
    def id(self) -> JobId:
        return self.offer.key.id

    @property
    def live(self) -> bool:
        """Bound and not ended: the only state in which the job's identity is worth anything."""
        return self.phase is Phase.RUNNING


_copy = copier(Record)


class MissingOfferError(Exception):
    """A job's first fact is not its offer."""


def begin(fact: Fact) -> Record:
    """The record a JobOffered starts, or the little that is left of a compacted job."""
    if isinstance(fact.event, events.JobCompacted):
        return _compacted(fact.job_id, fact.event)
    if not isinstance(fact.event, events.JobOffered):
        raise MissingOfferError(f"the first fact of {fact.job_id} is {type(fact.event).__name__}")
    return Record(offer=fact.event.offer, offered_at_ns=fact.at_ns, phase_since_ns=fact.at_ns)


def _compacted(job_id: JobId, event: events.JobCompacted) -> Record:
    spec = JobSpec(name=event.name, pool=PoolName(event.pool), script="")
    offer = JobOffer(JobKey.parse(job_id), spec, Caller("", ""), event.fingerprint)
    return Record(
        offer=offer,
        offered_at_ns=event.offered_at_ns,
        phase=Phase.FINISHED,
        phase_since_ns=event.finished_at_ns,
        outcome=event.outcome,
        ended_at_ns=event.finished_at_ns,
        finished_at_ns=event.finished_at_ns,
    )


def apply(record: Record, fact: Fact) -> Record:
    """The record after one more fact.

    Raises:
        IllegalMoveError: the fact cannot follow.
    """
    phase = advance(record.phase, fact.event)
    changed = _changed(record, fact.event, fact.at_ns)
    if phase is not record.phase:
        changed = {"phase": phase, "phase_since_ns": fact.at_ns, **changed}
    # One copy for all of it: copies of records are what the engine spends most of its time on.
    return _copy(record, **changed) if changed else record


def _changed(record: Record, event: events.Event, now: int) -> dict[str, Any]:
    """The fields that an event sets besides the phase: one flat table, a line for each event."""
    match event:
        case events.JobAdmitted(decision):
            return {"obligations": decision.obligations, "admitted_at_ns": now}
        case events.JobWaited(reason=reason):
            return {"wait": None if reason is events.WaitReason.RUNNER_STARTING else event}
        case events.ProvisionStarted(runner=runner, number=number, backend=backend):
            return {"runner": runner, "runner_number": number, "backend": backend, "runner_uid": "", "wait": None}
        case events.RunnerCreated(uid=uid):
            return {"runner_uid": uid, "wait": None}
        case events.RunnerVanished():
            return {"runner_uid": "", "wait": events.JobWaited(events.WaitReason.RUNNER_VANISHED)}
        case events.RunnerBound(uid=uid):
            return {"runner_uid": uid, "bound_uid": uid, "bound_at_ns": now, "wait": None}
        case events.JobCancelRequested():
            return {} if record.cancel else {"cancel": event}
        case events.JobEnded(outcome):
            return {"outcome": outcome, "ended_at_ns": now}
        case events.RunnerDeleted():
            return {"deletion_accepted": True}
        case events.JobFinished():
            return {"finished_at_ns": now}
        case events.AlarmRaised(alarm=alarm):
            return {"alarmed": record.alarmed or alarm == "teardown_stuck"}
        case _:
            return {}


def fold(facts: Iterable[Fact]) -> Record:
    """The record of a whole job, from its facts in order of `seq`.

    Raises:
        MissingOfferError: there are no facts, or they do not begin with the offer.
        IllegalMoveError: a fact cannot follow those before it.
    """
    iterator = iter(facts)
    first = next(iterator, None)
    if first is None:
        raise MissingOfferError("a job without facts")
    record = begin(first)
    for fact in iterator:
        record = apply(record, fact)
    return record
