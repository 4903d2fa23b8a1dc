"""Stage 4: the work is handed over; follow the runner to its end. Pure."""

from __future__ import annotations

from orchestrator.lifecycle.backoff import wake_after
from orchestrator.lifecycle.causes import hindered, interrupted, standing
from orchestrator.lifecycle.ending import ended
from orchestrator.lifecycle.observation import SECOND, Action, Observation, Step
from orchestrator.lifecycle.provision import run_limit_seconds
from orchestrator.model.events import JobWaited, WaitReason
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.record import Record
from orchestrator.model.runner import ExitCause, Obstacle, RunnerState, RunnerView

_BOUND = "while it had the work; user code may have run, so it is not started again"


def supervise(record: Record, seen: Observation) -> Step:
    """A running job: it ends by itself, by its deadline, or because its runner is gone. It is never started again.

    One whose platform names it is attended to by `platform`.
    """
    view = seen.runner
    if view is None and seen.failure is None:
        return Step(action=Action.LOOK_AT_RUNNER)
    if view is not None and view.uid != record.bound_uid:
        return _lost(view.detail)
    if view is not None and view.state is RunnerState.ABSENT and view.cause is None:
        return _lost(view.detail)
    if view is not None and view.state is not RunnerState.ALIVE:
        # Of a runner that is gone the backend may have seen the end.
        return exit_outcome(view)
    # A pool that was taken out of the configuration keeps its running jobs; the backend's own stop ends them.
    limit = run_limit_seconds(record, seen.pool) if seen.pool else 7 * 86400
    deadline = record.bound_at_ns + limit * SECOND
    if seen.now_ns >= deadline:
        return ended(Result.TIMEOUT, EndReason.RUN_TIMEOUT, f"the job ran longer than its {limit} s")
    if view is not None and view.pending is not None and view.pending.obstacle is not Obstacle.UNSCHEDULABLE:
        # The work is handed over before the job's own image is there. Who claimed it has a machine, though.
        return standing(record, view.pending, seen.now_ns, deadline)
    if view is not None and hindered(record):
        return Step(facts=(JobWaited(WaitReason.RUNNER_STARTING),))
    return Step(wake_ns=wake_after(seen, deadline) if seen.failure else deadline)


def _lost(detail: str) -> Step:
    message = "the runner is gone and its exit was never seen; user code may have run, so it is not started again"
    return ended(Result.ERROR, EndReason.RUNNER_LOST, f"{message}. {detail}".rstrip(". ") + ".")


def exit_outcome(view: RunnerView) -> Step:
    """The end of a job that ended with its runner, by what the backend saw of it."""
    code = view.exit_code
    step = interrupted(view, _BOUND)
    if step is not None:
        return step
    match view.cause:
        case ExitCause.OUT_OF_MEMORY:
            return ended(Result.ERROR, EndReason.OUT_OF_MEMORY, "the runner ran out of memory", code)
        case ExitCause.DEADLINE:
            return ended(Result.TIMEOUT, EndReason.RUN_TIMEOUT, "the backend's own deadline ended the runner", code)
        case ExitCause.LOST:
            return _lost(view.detail)
        case ExitCause.SIGNALLED:
            return ended(
                Result.FAILURE, EndReason.KILLED_BY_SIGNAL, view.detail or "the job was killed by a signal", code
            )
        case _:
            if code == 0:
                return ended(Result.SUCCESS, EndReason.COMPLETED, "the job completed", 0)
            return ended(Result.FAILURE, EndReason.EXIT_NONZERO, f"the job exited with code {code}", code)
