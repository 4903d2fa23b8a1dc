"""What became of a runner, in an outcome's words: each cause and each obstacle has its own reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.lifecycle.ending import ended
from orchestrator.lifecycle.observation import SECOND, Step
from orchestrator.model.events import JobWaited, WaitReason
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.record import Record
from orchestrator.model.runner import ExitCause, Obstacle, Pending, RunnerView

_INTERRUPTED: Mapping[ExitCause, tuple[EndReason, str]] = {
    ExitCause.EVICTED: (EndReason.RUNNER_EVICTED, "the runner's machine put it out or did not take it in"),
    ExitCause.PREEMPTED: (EndReason.RUNNER_PREEMPTED, "the runner had to make room for something more important"),
    ExitCause.NODE_LOST: (EndReason.NODE_LOST, "the runner's machine was lost"),
    ExitCause.DELETED: (EndReason.RUNNER_DELETED, "somebody else deleted the runner"),
    ExitCause.START_FAILED: (EndReason.RUNNER_START_FAILED, "the job's first process could not be started"),
}

_AGENT_CODES: Mapping[int, str] = {
    69: "it could not reach the runner API",
    71: "the operating system refused it something",
    76: "the runner API's answer was unusable",
    77: "its claim was refused",
    78: "it was not told what it has to know",
}
"""The agent's own failures, by the codes of sysexits.h. A proof of denied egress that failed is none of them, though
its agent ends with 78 too: it comes with the claim, and that has ended the job before its agent hears of it."""

_GIVEN_UP: Mapping[Obstacle, tuple[EndReason, str]] = {
    Obstacle.UNSCHEDULABLE: (EndReason.UNSCHEDULABLE, "no machine could take the runner"),
    Obstacle.IMAGE_PULL: (EndReason.IMAGE_PULL_FAILED, "an image of the runner could not be pulled"),
    Obstacle.START_FAILING: (EndReason.RUNNER_START_FAILED, "a container of the runner could not be made"),
}

OBSTACLES: Mapping[Obstacle, WaitReason] = {
    Obstacle.UNSCHEDULABLE: WaitReason.UNSCHEDULABLE,
    Obstacle.IMAGE_PULL: WaitReason.IMAGE_PULL,
    Obstacle.START_FAILING: WaitReason.START_FAILING,
}


def interrupted(view: RunnerView, when: str) -> Step | None:
    """The end of a job whose runner did not end by the job's doing; None when it did, or nobody can tell.

    `when` follows the cause in the sentence for people, such as `before it had the work`.
    """
    if view.cause is ExitCause.AGENT_FAILED:
        return _agent_failed(view)
    found = _INTERRUPTED.get(view.cause) if view.cause is not None else None
    if found is None:
        return None
    reason, sentence = found
    return ended(Result.ERROR, reason, _sentence(f"{sentence} {when}", view.detail), view.exit_code)


def _agent_failed(view: RunnerView) -> Step:
    code = view.exit_code
    known = _AGENT_CODES.get(code if code is not None else -1, "it ended unexpectedly")
    return ended(
        Result.ERROR, EndReason.AGENT_FAILED, _sentence(f"the agent failed (exit code {code}): {known}", view.detail)
    )


def standing(record: Record, pending: Pending, now_ns: int, deadline_ns: int) -> Step:
    """A runner that cannot start now: say why the job waits, until the obstacle has stood for too long."""
    if now_ns >= pending.until_ns:
        reason, sentence = _GIVEN_UP[pending.obstacle]
        limit = f" for {pending.limit_ns // SECOND} s" if pending.limit_ns else ""
        return ended(Result.ERROR, reason, _sentence(f"{sentence}{limit}", pending.detail))
    waits = OBSTACLES[pending.obstacle]
    # Only the reason counts: schedulers word the same obstacle differently at each try.
    known = record.wait is not None and record.wait.reason is waits
    facts = () if known else (JobWaited(waits, pending.detail),)
    return Step(facts=facts, wake_ns=min(pending.until_ns, deadline_ns))


def hindered(record: Record) -> bool:
    """The last that was noted of the job's runner is an obstacle."""
    return record.wait is not None and record.wait.reason in OBSTACLES.values()


def _sentence(text: str, detail: str) -> str:
    return f"{text}. {detail}".rstrip(". ") + "."
