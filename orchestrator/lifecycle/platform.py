"""Stage 4 of a runner whose job its platform chooses: until it is named, while it runs, to the platform's word. Pure.

The end of the runner proves nothing about the job, and the platform's word nothing about the runner: a job succeeded
when it was named, the platform says so, and its runner has ended.
"""

from __future__ import annotations

from orchestrator.lifecycle.admit import refusal
from orchestrator.lifecycle.backoff import wake_after
from orchestrator.lifecycle.bind import Refusal
from orchestrator.lifecycle.causes import hindered, standing
from orchestrator.lifecycle.ending import ended
from orchestrator.lifecycle.observation import SECOND, Action, Deadlines, Observation, Step
from orchestrator.lifecycle.provision import run_limit_seconds
from orchestrator.lifecycle.supervise import exit_outcome
from orchestrator.model.events import AlarmRaised, JobEnded, JobWaited, RunnerExited, WaitReason
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.platform import PlatformJob, PlatformResult, PlatformState
from orchestrator.model.record import Record
from orchestrator.model.runner import ExitCause, Obstacle, RunnerState, RunnerView

_SUCCEEDED = frozenset({"succeeded", "success", "succeededwithissues", "succeeded_with_issues"})
_CANCELLED = frozenset({"canceled", "cancelled", "skipped"})

_PLATFORM_MAY_KNOW = frozenset({None, ExitCause.EXITED, ExitCause.SIGNALLED, ExitCause.LOST})
"""Ends of a runner after which its platform may still say how the job ended. The others are told by themselves."""

_LONGEST_SECONDS = 7 * 86400


def attend(record: Record, state: PlatformState, seen: Observation, deadlines: Deadlines) -> Step:
    """A runner that was handed its registration: it waits for a job, has one, or shows why it must not have it."""
    if state.exit is not None:
        return _after_exit(state, state.exit, seen, deadlines)
    view = seen.runner
    if view is None and seen.failure is None:
        return Step(action=Action.LOOK_AT_RUNNER)
    if view is not None and (gone := _end_of(view, record.bound_uid)) is not None:
        return Step(facts=(gone,))
    deadline, end = _limit(record, state, seen, deadlines)
    if seen.now_ns >= deadline:
        return end
    if view is not None and view.pending is not None and view.pending.obstacle is not Obstacle.UNSCHEDULABLE:
        return standing(record, view.pending, seen.now_ns, deadline)
    if view is not None and hindered(record):
        return Step(facts=(JobWaited(WaitReason.RUNNER_STARTING),))
    return Step(wake_ns=wake_after(seen, deadline) if seen.failure else deadline)


def _end_of(view: RunnerView, bound_uid: str) -> RunnerExited | None:
    """The end that this look saw: a runner that is gone, or is another one, ended as nobody saw it."""
    if view.uid != bound_uid or (view.state is RunnerState.ABSENT and view.cause is None):
        return RunnerExited(view.name, None, ExitCause.LOST, view.detail)
    if view.state is RunnerState.ALIVE:
        return None
    return RunnerExited(view.name, view.exit_code, view.cause, view.detail)


def _limit(record: Record, state: PlatformState, seen: Observation, deadlines: Deadlines) -> tuple[int, Step]:
    """How long the runner may go on as it stands, and what its end is then."""
    if state.refused is not None:
        return state.refused_at_ns + deadlines.refusal_ns, refusal(state.refused)
    if state.completed is not None:
        wait = deadlines.completion_ns
        alarm = AlarmRaised("runner_outlived_job", f"the runner goes on {wait // SECOND} s after its job's end")
        return state.completed_at_ns + wait, Step(facts=(alarm, *_completed(state, state.completed).facts))
    if not state.named_at_ns:
        text = f"the platform named no job within {deadlines.naming_ns // SECOND} s"
        return record.bound_at_ns + deadlines.naming_ns, ended(Result.CANCELLATION, EndReason.NO_JOB, text)
    limit = run_limit_seconds(record, seen.pool) if seen.pool else _LONGEST_SECONDS
    text = f"the job ran longer than its {limit} s"
    return state.named_at_ns + limit * SECOND, ended(Result.TIMEOUT, EndReason.RUN_TIMEOUT, text)


def _after_exit(state: PlatformState, view: RunnerView, seen: Observation, deadlines: Deadlines) -> Step:
    """The runner has ended: the job ends with the platform's word, or without it when that stays out.

    Until then it needs no place in its pool, if a look has found nothing of the runner.
    """
    if state.refused is not None:
        return refusal(state.refused)
    if state.named_at_ns and state.completed is not None:
        return _completed(state, state.completed)
    if view.cause not in _PLATFORM_MAY_KNOW:
        return exit_outcome(view)
    deadline = state.exited_at_ns + deadlines.completion_ns
    if seen.now_ns < deadline:
        if seen.runner is None and seen.failure is None:
            return Step(action=Action.LOOK_AT_RUNNER, wake_ns=deadline)
        gone = seen.runner is not None and seen.runner.state is RunnerState.ABSENT
        return Step(wake_ns=wake_after(seen, deadline) if seen.failure else deadline, vacant=gone)
    if state.completed is not None:
        return _completed(state, state.completed)
    if view.cause is ExitCause.LOST:
        return exit_outcome(view)
    return _silent(state, view, deadlines.completion_ns // SECOND)


def _silent(state: PlatformState, view: RunnerView, waited: int) -> Step:
    """The runner ended by itself and the platform says nothing."""
    code = view.exit_code
    if state.named_at_ns:
        text = f"the runner ended (exit code {code}) and the platform did not say within {waited} s how its job ended"
        return ended(Result.ERROR, EndReason.COMPLETION_UNSEEN, text, code)
    if code == 0:
        return ended(Result.CANCELLATION, EndReason.NO_JOB, "the runner ended without a job", code)
    text = f"the runner's program ended with code {code} before the platform named a job. {view.detail}".strip()
    return ended(Result.ERROR, EndReason.EXIT_NONZERO, text, code)


def _completed(state: PlatformState, completed: PlatformResult) -> Step:
    """The end in the platform's word. Nobody vouches for a success of a job that was never named."""
    word, code = completed.result, state.exit.exit_code if state.exit else None
    if word in _CANCELLED:
        return ended(Result.CANCELLATION, EndReason.CANCELLED, f"the platform says that the job was {word}", code)
    if not state.named_at_ns:
        text = f"the platform says that a job {word} here, and never proved which; it had no identity"
        return ended(Result.ERROR, EndReason.JOB_UNNAMED, text, code)
    if word in _SUCCEEDED:
        return ended(Result.SUCCESS, EndReason.COMPLETED, "the job completed", code)
    return ended(Result.FAILURE, EndReason.JOB_FAILED, f"the platform says that the job's result is {word!r}", code)


def judge_naming(record: Record, job: PlatformJob, holder: JobId | None) -> bool:
    """Whether the record has this very job already; if not, it may be given it.

    `holder` is the job that the journal knows to have had the key.

    Raises:
        Refusal: `not_awaiting`, `job_ended`, `runner_unknown`, `second_job` or `job_already_named`.
    """
    state = record.platform
    if state is None:
        raise Refusal("not_awaiting", "this runner's job was known from the start")
    if record.outcome is not None or record.cancel is not None:
        raise Refusal("job_ended", "the runner's job has ended or is being cancelled")
    if not record.bound:
        alarm = AlarmRaised("named_before_claim", "a job was named for a runner that never got its registration")
        raise Refusal("runner_unknown", "this runner was handed no registration yet", alarm)
    if state.key == job.key:
        return True
    if state.named_at_ns:
        text = "the platform named a second job for this runner, which is for one only"
        raise _conflict(EndReason.SECOND_JOB, text, f"first {state.key}, then {job.key}")
    if holder is not None and holder != record.id:
        text = "the platform named a job for this runner that another runner had before"
        raise _conflict(EndReason.JOB_ALREADY_NAMED, text, f"{job.key} was named for {holder}")
    return False


def _conflict(reason: EndReason, text: str, detail: str) -> Refusal:
    """Either name may be the false one: this runner gets no further, and somebody is told."""
    alarm = AlarmRaised(reason.value, detail)
    return Refusal(reason.value, text, alarm, JobEnded(Outcome(Result.ERROR, reason, text)))
