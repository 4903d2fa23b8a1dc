"""What a job that has not ended is waiting for, or does. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.provision import run_limit_seconds
from orchestrator.lifecycle.why_words import Progress, Surroundings, Why, clause, figure, words
from orchestrator.model.events import JobWaited, WaitReason
from orchestrator.model.journey import RunnerStage
from orchestrator.model.phase import Phase
from orchestrator.model.platform import PlatformState
from orchestrator.model.record import Record

_NOT_BEGUN = frozenset({Phase.QUEUED, Phase.WAITING})

_STANDS_AT: Mapping[RunnerStage | None, str] = {
    RunnerStage.SCHEDULE: "The runner is made and waits for a machine",
    RunnerStage.SANDBOX: "The runner has a machine, which makes its isolation and network",
    RunnerStage.PULL_AGENT: "The runner has a machine, which gets the agent's image and makes its container",
}
"""What a runner is at whose agent has not begun."""

_PATIENT = frozenset({WaitReason.QUOTA_EXHAUSTED, WaitReason.GUARD_MISSING})
"""Reasons of a job in provisioning that are waiting for capacity, not for an answer."""


def why_pending(record: Record, around: Surroundings) -> Why:
    """The answer for a job without an outcome."""
    if record.cancel is not None:
        return _cancelling(record)
    if around.draining and record.phase in _NOT_BEGUN:
        return _draining(record)
    if record.wait is not None:
        return _waits(record, record.wait, around)
    if record.platform is not None and record.phase is Phase.RUNNING:
        return _attended(record, record.platform, around)
    return _PHASES[record.phase](record, around)


def _cancelling(record: Record) -> Why:
    assert record.cancel is not None
    by, reason = words(record.cancel.by), clause(record.cancel.reason, " (")
    sentence = f"The job is being cancelled: {by or 'somebody'} asked for its end{reason}{')' if reason else ''}."
    return Why(sentence, "Wait: its end is recorded as soon as it is looked at.", Progress.CANCELLING, _since(record))


def _draining(record: Record) -> Why:
    sentence = "The job has not begun and the daemon is draining: the next daemon takes the job up."
    step = "Operators: start the next daemon on the same state, or undo the drain (`orchestrator drain --resume`)."
    return Why(sentence, step, Progress.DRAINING, since_ns=0)  # the drain may be younger than the job's phase


def _queued(record: Record, around: Surroundings) -> Why:
    if record.platform is not None:
        asks = "The platform asked for a runner, and the demand is being taken in"
    else:
        asks = "The job waits for policy's answer"
    sentence = f"{asks}{clause(around.trouble, '; the last try failed: ')}."
    step = "Wait; operators: if it lasts, look at the policy engine and the journal (`/readyz` names what is wrong)."
    until = _since(record) + around.deadlines.admission_ns
    return Why(sentence, step, Progress.POLICY_PENDING, _since(record), until)


def _waiting(record: Record, around: Surroundings) -> Why:
    sentence = f"The job is admitted and about to ask for a place in pool {_pool(record)}{_line(around)}."
    until = _since(record) + around.deadlines.capacity_ns
    return Why(sentence, "Wait: nothing stands in its way.", Progress.PLACE_PENDING, _since(record), until)


def _provisioning(record: Record, around: Surroundings) -> Why:
    tries = f" (number {record.runner_number} for this job)" if record.runner_number > 1 else ""
    trouble = clause(around.trouble, "; the last try failed: ")
    sentence = f"A runner{tries} is being made for the job by the backend {_backend(record)}{trouble}."
    until = _since(record) + around.deadlines.provision_ns
    return Why(sentence, "Wait: this takes seconds.", Progress.RUNNER_CREATING, _since(record), until)


def _binding(record: Record, around: Surroundings) -> Why:
    trouble = clause(around.trouble, "; the last look at it failed: ")
    starts = "The runner is made and starts: its agent has not yet proven its egress and claimed the job"
    sentence = f"{_STANDS_AT.get(around.stage, starts)}{trouble}."
    step = "Wait; operators: if it lasts, the machine is overloaded or the agent cannot reach the runner API."
    if around.stage in _STANDS_AT:
        step = "Wait; operators: if it lasts, look at the cluster's machines and the way to its images."
    until = _since(record) + around.deadlines.bind_ns
    return Why(sentence, step, Progress.CLAIM_PENDING, _since(record), until)


def _running(record: Record, around: Surroundings) -> Why:
    limit, owner = _limit(record, around)
    bound = f", for at most {figure(limit * SECOND)} by {owner}" if limit else ""
    until = record.began_at_ns + limit * SECOND if limit else 0
    step = f"Wait, or follow its output: `orchestrator logs {record.id} --follow`."
    trouble = clause(around.trouble, "; the last look at its runner failed: ")
    runs = "The job is running"
    if around.stage is RunnerStage.PULL_JOB:
        runs = "The runner has its work, and its machine gets the job's image and makes its container"
    return Why(f"{runs}{bound}{trouble}.", step, Progress.RUNNING, record.began_at_ns, until)


def _attended(record: Record, state: PlatformState, around: Surroundings) -> Why:
    """A runner that was handed its registration: what it waits for from its platform."""
    deadlines = around.deadlines
    if state.refused is not None:
        sentence = f"Policy refused the job that the platform gave this runner{clause(state.refused.explain())}."
        step = "Nothing: the job shows the reason in its own log, then ends."
        return Why(
            sentence, step, Progress.REFUSAL_SHOWN, state.refused_at_ns, state.refused_at_ns + deadlines.refusal_ns
        )
    if state.completed is not None:
        word = words(state.completed.result)
        sentence = f"The platform says that the job's result is {word!r}; its runner has yet to end."
        until = state.completed_at_ns + deadlines.completion_ns
        step = "Wait: the runner is ended if it outlives its job."
        return Why(sentence, step, Progress.RUNNER_ENDING, state.completed_at_ns, until)
    if state.exit is not None:
        sentence = "The runner has ended, and the platform has yet to say how its job ended."
        step = "Wait; operators: if it lasts, look at the source (`orchestrator sources`)."
        until = state.exited_at_ns + deadlines.completion_ns
        return Why(sentence, step, Progress.COMPLETION_PENDING, state.exited_at_ns, until)
    if not state.named_at_ns:
        sentence = "The runner is ready and waits for its platform to give it a job and to prove which."
        step = "Nothing: without a job it ends by itself."
        until = record.bound_at_ns + deadlines.naming_ns
        return Why(sentence, step, Progress.NAME_PENDING, record.bound_at_ns, until)
    return _running(record, around)


_PHASES: Mapping[Phase, Callable[[Record, Surroundings], Why]] = {
    Phase.QUEUED: _queued,
    Phase.WAITING: _waiting,
    Phase.PROVISIONING: _provisioning,
    Phase.BINDING: _binding,
    Phase.RUNNING: _running,
}
"""The phases of a job without an outcome."""


def _full(record: Record, around: Surroundings, detail: str) -> str:
    if around.pool is None or around.in_use is None:
        return f"The job waits for a place{_saying(record, detail, ' in pool')}"
    capacity = around.pool.capacity
    taken = f"{around.in_use} of {capacity} {'place is' if capacity == 1 else 'places are'} taken"
    return f"The job waits for a place in pool {_pool(record)}: {taken}{_line(around)}"


def _vanished(record: Record, around: Surroundings, detail: str) -> str:
    number = record.runner_number or 1
    gone = f"Runner number {number} of the job disappeared before it had the work{clause(detail)}"
    return f"{gone}; another one is made as soon as pool {_pool(record)} has a place{_line(around)}"


def _unguarded(record: Record, _: Surroundings, detail: str) -> str:
    return f"The job gets no runner as long as its pool is not known to be protected{_saying(record, detail, ': pool')}"


def _saying(record: Record, detail: str, lead: str) -> str:
    """What the backend said, which names the pool; or the pool alone."""
    return clause(detail) or f"{lead} {_pool(record)}"


def _hindered(lead: str, record: Record, around: Surroundings, detail: str) -> str:
    return lead.format(pool=_pool(record), backend=_backend(record)) + clause(detail)


_WAITS: Mapping[WaitReason, tuple[Callable[[Record, Surroundings, str], str], str]] = {
    WaitReason.POOL_FULL: (
        _full,
        "Wait until others end (`orchestrator pools`); operators: raise the pool's `capacity` if that lasts too long.",
    ),
    WaitReason.BACKEND_UNAVAILABLE: (
        partial(_hindered, "The backend {backend} gives no runner now and is asked again"),
        "Wait; operators: look after the backend that the message names.",
    ),
    WaitReason.RUNNER_VANISHED: (
        _vanished,
        "Wait; operators: if it comes again and again, find out who deletes runners.",
    ),
    WaitReason.QUOTA_EXHAUSTED: (
        partial(_hindered, "The cluster's quota for pool {pool} leaves no room for another runner"),
        "Wait until others end; operators: raise the ResourceQuota together with the pool's `capacity`.",
    ),
    WaitReason.GUARD_MISSING: (
        _unguarded,
        "Operators: run `orchestrator preflight --config FILE`; it names the command that puts the guard back.",
    ),
    WaitReason.UNSCHEDULABLE: (
        partial(_hindered, "The runner is made, and no machine can take it now"),
        "Wait for a machine; operators: add machines, or correct the pool's size, `node_selector` and `tolerations`.",
    ),
    WaitReason.IMAGE_PULL: (
        partial(_hindered, "An image of the runner cannot be pulled now and is tried again"),
        "Operators: check the image's name, the registry and the machines' way to it.",
    ),
    WaitReason.START_FAILING: (
        partial(_hindered, "A container of the runner cannot be made now and is tried again"),
        "Operators: the message has the machine's words; an image without `/bin/sh` is the usual cause.",
    ),
    WaitReason.RUNNER_STARTING: (
        partial(_hindered, "What stood in the runner's way is gone, and it starts"),
        "Wait: this takes seconds.",
    ),
}
"""What a reason to wait means in a sentence, and what to do about it."""


def _waits(record: Record, wait: JobWaited, around: Surroundings) -> Why:
    sentence, step = _WAITS[wait.reason]
    said = sentence(record, around, wait.detail)
    since = record.wait_since_ns or _since(record)
    return Why(f"{said}.", step, wait.reason.value, since, _until(record, wait.reason, since, around))


def _until(record: Record, reason: WaitReason, since_ns: int, around: Surroundings) -> int:
    """When the job is ended for it, by the stages' own deadlines."""
    deadlines = around.deadlines
    if record.phase is Phase.RUNNING:
        limit, _ = _limit(record, around)
        last = record.began_at_ns + limit * SECOND if limit else 0
    elif record.phase is Phase.PROVISIONING and reason not in _PATIENT:
        last = record.phase_since_ns + deadlines.provision_ns
    else:
        last = record.phase_since_ns + deadlines.capacity_ns
    own = around.obstacle_ns.get(reason)
    return last if own is None else min(since_ns + own, last or since_ns + own)


def _limit(record: Record, around: Surroundings) -> tuple[int, str]:
    """The job's longest run in seconds, and whose word that is; 0 where the pool is not known."""
    if around.pool is None:
        return 0, ""
    limit = run_limit_seconds(record, around.pool)
    if limit == record.offer.spec.timeout_seconds:
        return limit, "its own wish"
    return limit, "policy" if limit == record.obligations.max_duration_seconds else "its pool's limit"


def _line(around: Surroundings) -> str:
    if around.before is None:
        return ""
    if not around.before:
        return ", and it is the next in line"
    return f", and {around.before} {'job is' if around.before == 1 else 'jobs are'} before it in the line"


def _since(record: Record) -> int:
    return record.phase_since_ns


def _pool(record: Record) -> str:
    return repr(words(record.offer.spec.pool))


def _backend(record: Record) -> str:
    return repr(words(record.backend))
