"""Records and observations to decide on: a job's facts up to a phase, and what a pass has seen so far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.lifecycle.observation import SECOND, Action, Deadlines, Failure, Observation, Step
from orchestrator.model import events as e
from orchestrator.model.egress import EgressProof
from orchestrator.model.job import JobOffer, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record, fold
from orchestrator.model.runner import ExitCause, RunnerState, RunnerView
from orchestrator.testing import stories

POOL = Pool(PoolName("default"), "memory", TrustTier.STANDARD, 2, "memory", "none", max_job_seconds=600)
DEADLINES = Deadlines(
    admission_ns=10 * SECOND, capacity_ns=20 * SECOND, provision_ns=30 * SECOND, bind_ns=40 * SECOND,
    teardown_ns=50 * SECOND, call_ns=5 * SECOND, naming_ns=60 * SECOND, refusal_ns=7 * SECOND, completion_ns=8 * SECOND,
)  # fmt: skip
ENDED = stories.end(Result.SUCCESS, EndReason.COMPLETED, 0)
CANCEL = e.JobCancelRequested("alice", "wrong branch")

TO_WAITING = [stories.ADMITTED]
TO_PROVISIONING = [*TO_WAITING, replace(stories.STARTED, backend="memory")]
TO_BINDING = [*TO_PROVISIONING, stories.CREATED]
TO_RUNNING = [*TO_BINDING, stories.BOUND]
TO_TEARDOWN = [*TO_RUNNING, ENDED]
PROOF = EgressProof(denied=("metadata",))


def record(*steps: e.Event, the_offer: JobOffer | None = None) -> Record:
    """The record after these events, each 10 ms after the one before."""
    return fold(stories.facts_for(the_offer or stories.offer(), steps))


def after(job: Record, seconds: float, **seen: Any) -> Observation:
    """What a pass sees so long after the phase began."""
    fields: dict[str, Any] = {"pool": POOL, "phase": job.phase} | seen
    return Observation(now_ns=job.phase_since_ns + int(seconds * SECOND), **fields)


def view(state: RunnerState = RunnerState.ALIVE, uid: str = "uid-1", **more: Any) -> RunnerView:
    return RunnerView(stories.RUNNER, state, uid, **more)


def exited(code: int | None = 0, cause: ExitCause | None = ExitCause.EXITED, **more: Any) -> RunnerView:
    return view(RunnerState.EXITED, exit_code=code, cause=cause, **more)


ABSENT = RunnerView(stories.RUNNER, RunnerState.ABSENT)


def failure(
    *, transient: bool = True, reason: str = "backend_unavailable", text: str = "the backend is away"
) -> Failure:
    return Failure(transient, reason, text)


def outcome(step: Step) -> Outcome:
    """The end that a step records as its last fact."""
    assert step.action is None
    assert isinstance(step.facts[-1], e.JobEnded), step
    return step.facts[-1].outcome


def told(step: Step) -> tuple[Result, EndReason]:
    end = outcome(step)
    return end.result, end.reason


def asks(step: Step) -> Action:
    """The one action that a step asks for, with no facts before it."""
    assert step.facts == ()
    assert step.action is not None, step
    return step.action
