"""A job's record: the fold of its facts, as much of it as the engine decides by. Pure.

Replaying a job's facts through `apply` gives the record the daemon had before it stopped; there is no
other state to recover.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.model import events
from orchestrator.model.copying import copier
from orchestrator.model.decision import Decision, Obligations
from orchestrator.model.events import Fact
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.journey import RunnerStage
from orchestrator.model.outcome import Outcome
from orchestrator.model.phase import Phase, advance
from orchestrator.model.platform import PlatformJob, PlatformResult, PlatformState, named_offer
from orchestrator.model.runner import RunnerName, RunnerState, RunnerView


@dataclass(frozen=True, slots=True)
class Record:
    """Where a job stands. Times are Unix nanoseconds; 0 means *not yet*.

    `phase_since_ns` is when the present phase began, `wait_since_ns` when the last reason to wait did;
    `runner_number` counts the runners started so far and `backend` is where they live; `bound_uid` is the one
    runner that ever got the work; `deletion_accepted` says that the backend took the deletion and only the look
    remains, `revocation_due` that it did before all was revoked; `alarmed` that a stuck teardown was already
    reported; `observed` are the stages of the present runner that are on record, and `gone_uid` is the last runner
    that vanished. `platform` is there for a runner whose job its platform names later.
    """

    offer: JobOffer
    offered_at_ns: int
    phase: Phase = Phase.QUEUED
    phase_since_ns: int = 0
    obligations: Obligations = field(default_factory=Obligations)
    admitted_at_ns: int = 0
    wait: events.JobWaited | None = None
    wait_since_ns: int = 0
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
    revocation_due: bool = False
    finished_at_ns: int = 0
    alarmed: bool = False
    platform: PlatformState | None = None
    observed: frozenset[RunnerStage] = frozenset()
    gone_uid: str = ""

    @property
    def id(self) -> JobId:
        return self.offer.key.id

    @property
    def live(self) -> bool:
        """Bound, named and not ended: the only state in which the job's identity is worth anything."""
        return self.phase is Phase.RUNNING and (self.platform is None or self.platform.live)

    @property
    def bound(self) -> bool:
        """A runner has the work and the job has not ended. Whether it has an identity is another question: `live`."""
        return self.phase is Phase.RUNNING

    @property
    def began_at_ns(self) -> int:
        """When the job's own time began, by which its limits count: its binding, or its naming if that comes later."""
        return self.named_at_ns or self.bound_at_ns

    @property
    def named_at_ns(self) -> int:
        return self.platform.named_at_ns if self.platform else 0

    @property
    def platform_key(self) -> str:
        """The key of the job that the platform gave to this runner; empty until it is named."""
        return self.platform.key if self.platform else ""

    @property
    def refused(self) -> Decision | None:
        """Policy's answer when it did not allow the named job."""
        return self.platform.refused if self.platform else None

    @property
    def completed(self) -> PlatformResult | None:
        return self.platform.completed if self.platform else None


_copy = copier(Record)
_copy_platform = copier(PlatformState)


class MissingOfferError(Exception):
    """A job's first fact is not its offer."""


def begin(fact: Fact) -> Record:
    """The record a JobOffered starts, or the little that is left of a compacted job."""
    if isinstance(fact.event, events.JobCompacted):
        return _compacted(fact.job_id, fact.event)
    if not isinstance(fact.event, events.JobOffered):
        raise MissingOfferError(f"the first fact of {fact.job_id} is {type(fact.event).__name__}")
    offer = fact.event.offer
    platform = PlatformState() if offer.spec.awaits_platform_job else None
    return Record(offer=offer, offered_at_ns=fact.at_ns, phase_since_ns=fact.at_ns, platform=platform)


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
        platform=PlatformState(event.platform_key) if event.platform_key else None,
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
        case events.JobWaited():
            return _waited(record, event, now)
        case events.ProvisionStarted(runner=runner, number=number, backend=backend):
            began = {"runner": runner, "runner_number": number, "backend": backend, "runner_uid": ""}
            return {**began, "wait": None, "observed": frozenset()}
        case events.RunnerCreated(uid=uid):
            return {"runner_uid": uid, "wait": None}
        case events.RunnerVanished():
            wait = events.JobWaited(events.WaitReason.RUNNER_VANISHED, event.detail)
            return {"runner_uid": "", "gone_uid": record.runner_uid, "wait": wait, "wait_since_ns": now}
        case events.RunnerBound(uid=uid):
            return {"runner_uid": uid, "bound_uid": uid, "bound_at_ns": now, "wait": None}
        case events.JobCancelRequested():
            return {} if record.cancel else {"cancel": event}
        case events.JobEnded(outcome):
            return {"outcome": outcome, "ended_at_ns": now}
        case events.RunnerDeleted(revoked_at_ns=revoked):
            return {"deletion_accepted": True, "revocation_due": not revoked}
        case events.JobFinished():
            return {"finished_at_ns": now}
        case events.AlarmRaised(alarm=alarm):
            return {"alarmed": record.alarmed or alarm == "teardown_stuck"}
        case _:
            return _learnt(record, event, now)


def _waited(record: Record, event: events.JobWaited, now: int) -> dict[str, Any]:
    """Another wording of the same reason is not the beginning of another wait."""
    if event.reason is events.WaitReason.RUNNER_STARTING:
        return {"wait": None}
    same = record.wait is not None and record.wait.reason is event.reason
    return {"wait": event} if same else {"wait": event, "wait_since_ns": now}


def _learnt(record: Record, event: events.Event, now: int) -> dict[str, Any]:
    if isinstance(event, events.RunnerObserved):
        return {"observed": record.observed.union(one.stage for one in event.stages)}
    if isinstance(event, events.ArtifactNamed):
        return {"offer": record.offer.deploying(event.digest)}
    return _platform_changed(record, record.platform, event, now) if record.platform is not None else {}


def _platform_changed(record: Record, platform: PlatformState, event: events.Event, now: int) -> dict[str, Any]:
    """What else is learnt of a runner whose job its platform names. Of each only the first word counts."""
    changed: dict[str, Any]
    match event:
        case events.PlatformJobNamed(job, decision) if not platform.named_at_ns:
            return _named(record, platform, job, decision, now)
        case events.JobRefused(decision) if platform.refused is None:
            changed = {"refused": decision, "refused_at_ns": now}
        case events.PlatformJobCompleted(result) if platform.completed is None:
            changed = {"completed": result, "completed_at_ns": now}
        case events.RunnerExited(runner, code, cause, detail) if platform.exit is None:
            view = RunnerView(runner, RunnerState.EXITED, record.bound_uid, code, cause, detail)
            changed = {"exit": view, "exited_at_ns": now}
        case _:
            return {}
    return {"platform": _copy_platform(platform, **changed)}


def _named(record: Record, platform: PlatformState, job: PlatformJob, decision: Decision, now: int) -> dict[str, Any]:
    changed: dict[str, Any] = {"key": job.key, "proof": job.proof, "named_at_ns": now}
    offer = named_offer(record.offer, job)
    if not decision.allowed:
        # What was granted before, the platform's own hosts, is all that stays.
        changed |= {"refused": decision, "refused_at_ns": now}
        return {"offer": offer, "platform": _copy_platform(platform, **changed)}
    egress = tuple(dict.fromkeys((*record.obligations.egress, *decision.obligations.egress)))
    obligations = replace(decision.obligations, egress=egress)
    return {"offer": offer, "obligations": obligations, "platform": _copy_platform(platform, **changed)}


def as_named(record: Record, job: PlatformJob) -> Record:
    """The record as policy is to judge it: everything as it is, only that the platform's job is the one it has."""
    return _copy(record, offer=named_offer(record.offer, job))


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
