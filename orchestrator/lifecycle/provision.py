"""Stage 2: a slot, an intent, exactly one runner under a deterministic name. Pure."""

from __future__ import annotations

from orchestrator.lifecycle.admit import admit_again
from orchestrator.lifecycle.backoff import wake_after
from orchestrator.lifecycle.ending import ended
from orchestrator.lifecycle.observation import SECOND, Action, Deadlines, Failure, Observation, Step
from orchestrator.model.events import AlarmRaised, JobWaited, ProvisionStarted, RunnerCreated, WaitReason
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerSpec, RunnerState, runner_name

MAX_RUNNERS = 3
"""Runners tried for one job when those before vanished without ever having had the work."""

_NOT_NOW = {"quota_exhausted": WaitReason.QUOTA_EXHAUSTED, "guard_missing": WaitReason.GUARD_MISSING}
"""A backend's reasons for *not now*, whatever is tried: others hold all there is, or the pool lacks what protects
it. That is waiting for capacity, not for an answer."""

_REFUSALS = {"create_refused": EndReason.CREATE_REFUSED, "pod_changed": EndReason.POD_CHANGED}

_ATTACKS = frozenset({"pod_changed"})
"""Refusals by which somebody else made the backend have something that it was not asked for."""

_DEADLINE_MARGIN_SECONDS = 120
"""The backend's hard stop lies this far behind ours: it only has to fire when we cannot."""

NAMING_SECONDS = 3600
"""The same for a runner that waits for its platform's job before, and for its platform's word on it after."""


def run_limit_seconds(record: Record, pool: Pool) -> int:
    """Longest run of the job: the least of what job, pool and policy say."""
    limits = [pool.max_job_seconds]
    if record.offer.spec.timeout_seconds:
        limits.append(record.offer.spec.timeout_seconds)
    if record.obligations.max_duration_seconds is not None:
        limits.append(record.obligations.max_duration_seconds)
    return min(limits)


def runner_spec(record: Record, pool: Pool) -> RunnerSpec:
    """What the backend is asked for; the same record always gives the same spec."""
    margin = _DEADLINE_MARGIN_SECONDS + (NAMING_SECONDS if record.platform is not None else 0)
    job_id = record.id
    return RunnerSpec(
        name=runner_name(job_id),
        job_id=job_id,
        pool=pool.name,
        egress=record.obligations.egress,
        deadline_seconds=run_limit_seconds(record, pool) + margin,
    )


def wait_for_slot(record: Record, seen: Observation, deadlines: Deadlines) -> Step:
    """An admitted job: take a slot of its pool, or say why it waits."""
    if seen.pool is None:
        return ended(
            Result.ERROR, EndReason.UNKNOWN_POOL, f"pool {record.offer.spec.pool!r} is not configured any more"
        )
    if record.runner_number >= MAX_RUNNERS:
        return ended(
            Result.ERROR, EndReason.PROVISION_FAILED, f"{MAX_RUNNERS} runners vanished before they had the work"
        )
    deadline = record.phase_since_ns + deadlines.capacity_ns
    if seen.now_ns >= deadline and not seen.slot:
        return ended(
            Result.TIMEOUT,
            EndReason.CAPACITY_TIMEOUT,
            f"no runner of pool {seen.pool.name!r} became free within {deadlines.capacity_ns // SECOND} s",
        )
    if (again := admit_again(record, seen)) is not None:
        return again
    if seen.slot:
        spec = runner_spec(record, seen.pool)
        return Step(facts=(ProvisionStarted(spec.name, spec.digest, record.runner_number + 1, seen.pool.backend),))
    if seen.slot is None:
        return Step(action=Action.TAKE_SLOT)
    reason = JobWaited(WaitReason.POOL_FULL, _in_use(seen.pool))
    return Step(facts=() if record.wait == reason else (reason,), wake_ns=deadline)


def _in_use(pool: Pool) -> str:
    if pool.capacity == 1:
        return f"the only runner of pool {pool.name!r} is in use"
    return f"all {pool.capacity} runners of pool {pool.name!r} are in use"


def provision(record: Record, seen: Observation, deadlines: Deadlines) -> Step:
    """The intent is durable: make the runner, again and again until it is there or time is up."""
    failure = seen.failure
    not_now = _waits_for_room(record) or (failure is not None and failure.reason in _NOT_NOW)
    deadline = record.phase_since_ns + (deadlines.capacity_ns if not_now else deadlines.provision_ns)
    if seen.pool is None:
        return ended(
            Result.ERROR, EndReason.UNKNOWN_POOL, f"pool {record.offer.spec.pool!r} is not configured any more"
        )
    if failure is not None and not failure.transient:
        return _refused(failure)
    if seen.runner is not None and seen.runner.state is not RunnerState.ABSENT:
        return Step(facts=(RunnerCreated(seen.runner.name, seen.runner.uid),))
    if seen.now_ns >= deadline:
        return _late(record, seen, deadlines, not_now=not_now)
    if failure is not None:
        return Step(facts=_waiting(record, failure), wake_ns=wake_after(seen, deadline))
    return Step(action=Action.CREATE_RUNNER, wake_ns=deadline)


def _refused(failure: Failure) -> Step:
    reason = _REFUSALS.get(failure.reason, EndReason.PROVISION_FAILED)
    step = ended(Result.ERROR, reason, f"{failure.text} [{failure.reason}]")
    if failure.reason not in _ATTACKS:
        return step
    return Step(facts=(AlarmRaised(failure.reason, failure.text), *step.facts))


def _late(record: Record, seen: Observation, deadlines: Deadlines, *, not_now: bool) -> Step:
    last = seen.failure.text if seen.failure else record.wait.detail if record.wait else ""
    cause = f"; last: {last}" if last else ""
    if not_now:
        limit = deadlines.capacity_ns // SECOND
        return ended(Result.TIMEOUT, EndReason.CAPACITY_TIMEOUT, f"the backend made no runner in {limit} s{cause}")
    limit = deadlines.provision_ns // SECOND
    return ended(Result.TIMEOUT, EndReason.PROVISION_TIMEOUT, f"no runner within {limit} s{cause}")


def _waiting(record: Record, failure: Failure) -> tuple[JobWaited, ...]:
    """Why there is no runner yet, if that is news. A full quota or a missing guard stays the reason over an outage in
    between, so that the deadline does not jump back; its text, which counts others' runners, is noted once."""
    reason = _NOT_NOW.get(failure.reason)
    if _waits_for_room(record) and (reason is None or (record.wait is not None and record.wait.reason is reason)):
        return ()
    waited = JobWaited(reason or WaitReason.BACKEND_UNAVAILABLE, failure.text)
    return () if record.wait == waited else (waited,)


def _waits_for_room(record: Record) -> bool:
    return record.wait is not None and record.wait.reason in _NOT_NOW.values()
