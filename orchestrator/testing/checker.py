"""One judge for every fault test: reads the recorded history and says which promise it breaks.

It looks at facts and at what really happened outside (runners made, work handed out, tokens accepted),
never at the engine's own memory, so that the engine cannot vouch for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import IllegalMoveError, Phase
from orchestrator.model.record import MissingOfferError, Record, fold
from orchestrator.model.runner import RunnerName

_BEFORE_THE_WORK = frozenset(
    {
        EndReason.POLICY_DENIED,
        EndReason.POLICY_UNDEFINED,
        EndReason.POLICY_ERROR,
        EndReason.ADMISSION_TIMEOUT,
        EndReason.CAPACITY_TIMEOUT,
        EndReason.PROVISION_TIMEOUT,
        EndReason.PROVISION_FAILED,
        EndReason.CREATE_REFUSED,
        EndReason.POD_CHANGED,
        EndReason.UNSCHEDULABLE,
        EndReason.BIND_TIMEOUT,
        EndReason.EGRESS_UNPROVEN,
        EndReason.EXITED_BEFORE_CLAIM,
    }
)
"""Ends that say: the work was never handed out."""


@dataclass
class World:
    """What an observer outside the engine saw.

    `accepted` are the offers that were acknowledged; `handed_out` each time work went to a runner (job,
    runner uid); `identity_uses` each accepted use of a job's identity with its time; `remaining` the
    runners that exist at the end.
    """

    accepted: list[JobId] = field(default_factory=list)
    handed_out: list[tuple[JobId, str]] = field(default_factory=list)
    identity_uses: list[tuple[JobId, int]] = field(default_factory=list)
    remaining: Sequence[RunnerName] = ()


def broken_promises(world: World, history: Mapping[JobId, Sequence[Fact]], *, at_rest: bool = True) -> list[str]:
    """Every breach of P1 to P4 in the history; empty is what we promise.

    `at_rest` says that faults have healed and time has passed, so that nothing may be pending any more.
    """
    records: dict[JobId, Record] = {}
    problems: list[str] = []
    for job_id, facts in history.items():
        try:
            records[job_id] = fold(facts)
        except (IllegalMoveError, MissingOfferError) as error:
            problems.append(f"P1: the facts of {job_id} contradict each other: {error}")
    problems += [
        *_not_lost(world, history, records, at_rest=at_rest),
        *_not_twice(world, history),
        *_one_runner_for_each_platform_job(history),
        *_only_the_bound(world, records),
        *_no_late_identity(world, records),
    ]
    if at_rest:
        problems += _nothing_left(world, records)
    return problems


def _not_lost(
    world: World, history: Mapping[JobId, Sequence[Fact]], records: Mapping[JobId, Record], *, at_rest: bool
) -> Iterable[str]:
    for job_id in world.accepted:
        record = records.get(job_id)
        if record is None:
            if not history.get(job_id):
                yield f"P1: {job_id} was acknowledged and is not in the journal"
        elif record.phase is Phase.WAITING and record.wait is None:
            yield f"P1: {job_id} waits without a reason"
        elif record.outcome is not None and _untrue(record, record.outcome):
            yield f"P1: {job_id} had its work and is reported as {record.outcome.reason.value}"
        elif at_rest and record.phase not in (Phase.FINISHED, Phase.WAITING, Phase.RUNNING):
            yield f"P1: {job_id} is stuck in {record.phase.value}"


def _untrue(record: Record, outcome: Outcome) -> bool:
    """The work was handed out and the end says it was not, or says that the job succeeded and nobody vouches for it."""
    if record.platform is None or not record.bound_uid:
        return bool(record.bound_uid) and outcome.reason in _BEFORE_THE_WORK
    if outcome.result is Result.SUCCESS:
        return not record.named_at_ns or record.refused is not None or record.completed is None
    return record.refused is None and outcome.reason in _BEFORE_THE_WORK


def _one_runner_for_each_platform_job(history: Mapping[JobId, Sequence[Fact]]) -> Iterable[str]:
    holders: dict[str, set[JobId]] = {}
    for job_id, facts in history.items():
        named = [fact.event.job.key for fact in facts if isinstance(fact.event, events.PlatformJobNamed)]
        if len(named) > 1:
            yield f"P2: the platform's job of {job_id} was named {len(named)} times"
        for key in named:
            holders.setdefault(key, set()).add(job_id)
    for key, jobs in holders.items():
        if len(jobs) > 1:
            yield f"P2: the platform's job {key} was given to {len(jobs)} runners"


def _not_twice(world: World, history: Mapping[JobId, Sequence[Fact]]) -> Iterable[str]:
    for job_id in {job_id for job_id, _ in world.handed_out}:
        runners = {uid for other, uid in world.handed_out if other == job_id}
        times = sum(other == job_id for other, _ in world.handed_out)
        if len(runners) > 1 or times > 1:
            yield f"P2: the work of {job_id} was handed out {times} times, to {len(runners)} runners"
    for job_id, facts in history.items():
        bindings = [fact.event for fact in facts if isinstance(fact.event, events.RunnerBound)]
        if len(bindings) > 1:
            yield f"P2: {job_id} was bound {len(bindings)} times"
        seen_binding = False
        for fact in facts:
            seen_binding |= isinstance(fact.event, events.RunnerBound)
            if seen_binding and isinstance(fact.event, events.ProvisionStarted):
                yield f"P2: {job_id} got a new runner after its work was handed out"


def _only_the_bound(world: World, records: Mapping[JobId, Record]) -> Iterable[str]:
    for job_id, uid in world.handed_out:
        record = records.get(job_id)
        if record is not None and record.bound_uid != uid:
            yield f"P2: runner uid {uid} got the work of {job_id}, which is bound to {record.bound_uid or 'none'}"


def _nothing_left(world: World, records: Mapping[JobId, Record]) -> Iterable[str]:
    owners = {record.runner: record for record in records.values() if record.runner}
    for runner in world.remaining:
        owner = owners.get(runner)
        if owner is None or owner.phase is Phase.FINISHED:
            yield f"P3: runner {runner} is left behind"


def _no_late_identity(world: World, records: Mapping[JobId, Record]) -> Iterable[str]:
    for job_id, at_ns in world.identity_uses:
        record = records.get(job_id)
        if record is None or not record.bound_at_ns:
            yield f"P4: identity of {job_id} was accepted though it was never bound"
        elif record.refused is not None:
            yield f"P4: identity of {job_id} was accepted though policy refused it"
        elif record.platform is not None and not 0 < record.named_at_ns <= at_ns:
            yield f"P4: identity of {job_id} was accepted before its platform's job was named"
        elif record.ended_at_ns and at_ns > record.ended_at_ns:
            yield f"P4: identity of {job_id} was accepted {at_ns - record.ended_at_ns} ns after its end"
