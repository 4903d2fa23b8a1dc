"""Stage 3: the moment a runner and a job become each other's, once and for ever. Pure."""

from __future__ import annotations

from orchestrator.lifecycle.backoff import wake_after
from orchestrator.lifecycle.causes import hindered, interrupted, standing
from orchestrator.lifecycle.ending import ended
from orchestrator.lifecycle.observation import SECOND, Action, Deadlines, Observation, Step
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import (
    AlarmRaised,
    Event,
    JobEnded,
    JobWaited,
    RunnerBound,
    RunnerObserved,
    RunnerVanished,
    WaitReason,
)
from orchestrator.model.journey import RunnerStage, StageBegan, TimeSource
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.model.runner import ExitCause, RunnerState, RunnerView


def await_claim(record: Record, seen: Observation, deadlines: Deadlines) -> Step:
    """The runner exists and its agent has not claimed yet; user code cannot have begun."""
    deadline = record.phase_since_ns + deadlines.bind_ns
    view = seen.runner
    if view is None and seen.failure is None:
        return Step(action=Action.LOOK_AT_RUNNER, wake_ns=deadline)
    if view is not None and (view.state is RunnerState.ABSENT or view.uid != record.runner_uid):
        detail = view.detail or "the backend knows it no more"
        return Step(facts=(RunnerVanished(view.name, detail),))
    if view is not None and view.state is RunnerState.EXITED:
        return _exited_early(view)
    if view is not None and view.pending is not None:
        return standing(record, view.pending, seen.now_ns, record.phase_since_ns + deadlines.capacity_ns)
    if hindered(record):
        if view is not None:
            return Step(facts=(JobWaited(WaitReason.RUNNER_STARTING),))
        # Nobody can say now whether the obstacle still stands, and its own limit is not known here.
        deadline = max(deadline, record.phase_since_ns + deadlines.capacity_ns)
    elif view is not None and view.placed_at_ns:
        # Waiting for a machine is not the agent's time.
        deadline = max(deadline, min(view.placed_at_ns, seen.now_ns) + deadlines.bind_ns)
    if seen.now_ns >= deadline:
        return ended(
            Result.TIMEOUT, EndReason.BIND_TIMEOUT, f"the agent did not claim within {deadlines.bind_ns // SECOND} s"
        )
    return Step(wake_ns=wake_after(seen, deadline) if seen.failure else deadline)


def _exited_early(view: RunnerView) -> Step:
    if view.cause is ExitCause.OUT_OF_MEMORY:
        return ended(Result.ERROR, EndReason.OUT_OF_MEMORY, "the runner ran out of memory before it had the work")
    if view.cause is ExitCause.DEADLINE:
        return ended(Result.TIMEOUT, EndReason.BIND_TIMEOUT, "the backend's own deadline ended a runner without work")
    step = interrupted(view, "before it had the work")
    if step is not None:
        return step
    message = f"the runner ended before it had the work (exit code {view.exit_code}). {view.detail}".strip()
    return ended(Result.ERROR, EndReason.EXITED_BEFORE_CLAIM, message)


class Refusal(Exception):  # noqa: N818 -- a verdict on a claim, not a fault
    """Why a claim gets no work: a reason word, and the facts it leaves behind."""

    def __init__(self, reason: str, message: str, *facts: Event) -> None:
        super().__init__(message)
        self.reason = reason
        self.facts = facts


def judge_claim(record: Record, pool: Pool | None, identity: RunnerIdentity, proof: EgressProof) -> RunnerBound:
    """The binding, if this runner may have this job's work now.

    Raises:
        Refusal: it may not; `reason` is `already_bound`, `job_ended`, `runner_unknown` or `egress_unproven`.
    """
    if record.bound_uid:
        alarm = AlarmRaised("second_claim", f"runner uid {identity.uid} claimed a job bound to {record.bound_uid}")
        raise Refusal("already_bound", "the work was handed out before; it is never handed out twice", alarm)
    if record.cancel or record.phase in (Phase.TEARDOWN, Phase.FINISHED):
        raise Refusal("job_ended", "the job has ended")
    if record.phase not in (Phase.PROVISIONING, Phase.BINDING) or record.runner != identity.name:
        raise Refusal("runner_unknown", "this runner has no job")
    if record.runner_uid and record.runner_uid != identity.uid:
        alarm = AlarmRaised("foreign_runner", f"runner uid {identity.uid} claimed for {record.runner_uid}")
        raise Refusal("runner_unknown", "another runner has this name now", alarm)
    if (pool is None or pool.require_egress_proof) and not proof.holds:
        raise Refusal("egress_unproven", _unproven(proof), *_tried(identity, proof), _end_unproven(proof))
    return RunnerBound(identity.name, identity.uid, proof)


def _tried(identity: RunnerIdentity, proof: EgressProof) -> tuple[RunnerObserved, ...]:
    """When the agent began, and when it began to try: nobody else tells of a proof that failed."""
    told = ((RunnerStage.START, proof.agent_began_ns), (RunnerStage.PROVE, proof.began_ns))
    stages = tuple(StageBegan(stage, at_ns, TimeSource.AGENT) for stage, at_ns in told if at_ns)
    return (RunnerObserved(identity.name, identity.uid, stages),) if stages else ()


def _unproven(proof: EgressProof) -> str:
    if proof.reached:
        return f"forbidden destinations were reachable: {', '.join(proof.reached)[:300]}"
    return "the agent proved nothing about egress"


def _end_unproven(proof: EgressProof) -> Event:
    return JobEnded(Outcome(Result.ERROR, EndReason.EGRESS_UNPROVEN, _unproven(proof)))
