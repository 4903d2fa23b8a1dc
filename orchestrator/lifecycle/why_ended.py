"""Why a job ended, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.lifecycle.why_words import Surroundings, Why, clause, words
from orchestrator.model.events import WaitReason
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record

_RESULTS: Mapping[Result, str] = {
    Result.SUCCESS: "The job succeeded",
    Result.FAILURE: "The job failed",
    Result.ERROR: "The job was ended by an error that is not its own",
    Result.TIMEOUT: "The job ran out of time",
    Result.CANCELLATION: "The job was cancelled",
    Result.DENIED: "Policy denied the job",
}

_DIRECT: Mapping[EndReason, str] = {
    EndReason.NO_JOB: "The runner got no job",
    EndReason.POLICY_UNDEFINED: "Policy said nothing about the job, and silence denies",
    EndReason.POLICY_ERROR: "Policy could not be evaluated, and that denies",
    EndReason.OUT_OF_MEMORY: "The job was ended for want of memory",
    EndReason.UNKNOWN_POOL: "The job asked for a pool that is not there",
}
"""Reasons that say more than the result does."""

_AGAIN = "Check what the job did, then dispatch it again under a new key"

NEXT_STEPS: Mapping[EndReason, str] = {
    EndReason.COMPLETED: "Nothing to do; what it had and left is on its receipt: `orchestrator receipt {job}`.",
    EndReason.EXIT_NONZERO: "Read the last lines of its output: `orchestrator logs {job}`.",
    EndReason.OUT_OF_MEMORY: "Make the job use less memory, or ask for a pool with a higher `memory_bytes`.",
    EndReason.KILLED_BY_SIGNAL: "Read its output, `orchestrator logs {job}`: a crash is the usual cause.",
    EndReason.POLICY_DENIED: "Read which input failed and what was expected: `orchestrator show {job}`.",
    EndReason.POLICY_UNDEFINED: "Ask the owners of the policy for a rule that covers pool {pool} and this deployment.",
    EndReason.POLICY_ERROR: "Operators: find the decision's id in the daemon's log and run `orchestrator policy test`.",
    EndReason.CANCELLED: "Dispatch it again under a new key if it is still wanted.",
    EndReason.ADMISSION_TIMEOUT: "Dispatch it again; operators: look at the policy engine's health first.",
    EndReason.CAPACITY_TIMEOUT: "Dispatch it again when pool {pool} is less busy, or raise its `capacity`.",
    EndReason.PROVISION_TIMEOUT: "Operators: look after the backend by its last error, then dispatch the job again.",
    EndReason.PROVISION_FAILED: "Operators: correct pool {pool} or the machine, and run `orchestrator check-config`.",
    EndReason.BIND_TIMEOUT: "Dispatch it again; operators: the machine is overloaded, or the agent cannot start.",
    EndReason.RUN_TIMEOUT: "Make the job faster, or raise the shortest of its own, its pool's and policy's limits.",
    EndReason.EGRESS_UNPROVEN: "Operators: keep pool {pool} closed until that destination is out of reach.",
    EndReason.EXITED_BEFORE_CLAIM: "Dispatch it again, its script never ran; operators: its last words say why.",
    EndReason.RUNNER_LOST: f"{_AGAIN}.",
    EndReason.CREATE_REFUSED: "Operators: run `orchestrator preflight --config FILE` and apply the rendered manifests.",
    EndReason.POD_CHANGED: "Operators: find the webhook that changes pods and keep it out of the pools.",
    EndReason.UNSCHEDULABLE: "Operators: add machines, or correct `node_selector`, `tolerations` and size of the pool.",
    EndReason.IMAGE_PULL_FAILED: "Operators: check the image's name, the registry and the machines' way to it.",
    EndReason.RUNNER_START_FAILED: "Operators: correct the pool's image: one without `/bin/sh` is the usual cause.",
    EndReason.AGENT_FAILED: "Operators: look after the agent by its exit code, then dispatch the job again.",
    EndReason.RUNNER_EVICTED: f"{_AGAIN}; operators: look after the machine's disk and memory.",
    EndReason.RUNNER_PREEMPTED: f"{_AGAIN}; operators: compare the PriorityClasses.",
    EndReason.RUNNER_DELETED: f"{_AGAIN}; operators: the cluster's audit log says who deleted the runner.",
    EndReason.NODE_LOST: f"{_AGAIN}: it may even still run there; operators: look after the machine.",
    EndReason.UNKNOWN_POOL: "Ask for a pool that there is: `orchestrator pools` lists them.",
    EndReason.NO_JOB: "Nothing, if it is seldom; else see whether it reached its platform: `orchestrator logs {job}`.",
    EndReason.JOB_FAILED: "Read the job's log on its platform.",
    EndReason.JOB_UNNAMED: "Operators: see that the job-started hook runs in the runner and reaches the runner API.",
    EndReason.COMPLETION_UNSEEN: "Look on the platform for its result; operators: look at `orchestrator sources`.",
    EndReason.SECOND_JOB: "Operators: treat both jobs as hostile until you know how it came about.",
    EndReason.JOB_ALREADY_NAMED: "Operators: treat both runners' jobs as hostile until you know how it came about.",
    EndReason.WORK_UNAVAILABLE: "Look at the platform's state and at the source's errors (`orchestrator sources`).",
}
"""What to do next, for each reason why a job can have ended. `{job}` is its id, `{pool}` its pool's quoted name."""

BY_WAIT: Mapping[tuple[EndReason, WaitReason], str] = {
    (EndReason.CAPACITY_TIMEOUT, WaitReason.QUOTA_EXHAUSTED): (
        "Operators: raise the ResourceQuota together with the `capacity` of pool {pool}; then dispatch the job again."
    ),
    (EndReason.CAPACITY_TIMEOUT, WaitReason.GUARD_MISSING): (
        "Operators: run `orchestrator preflight --config FILE`; it names the command that puts the guard back."
    ),
    (EndReason.PROVISION_FAILED, WaitReason.RUNNER_VANISHED): (
        "Operators: find out who deletes runners of pool {pool}; then dispatch the job again."
    ),
}
"""The next step where what the job waited for last tells more than the reason of its end."""


def why_ended(record: Record, around: Surroundings) -> Why:
    """The answer for a job with an outcome, whether or not all that was left of it is gone."""
    outcome = record.outcome
    assert outcome is not None
    sentence = f"{_cause(record, outcome)}{_rest(record, around)}."
    last = record.wait.reason if record.wait is not None else None
    step = (
        NEXT_STEPS[outcome.reason] if last is None else BY_WAIT.get((outcome.reason, last), NEXT_STEPS[outcome.reason])
    )
    step = step.replace("{job}", record.id).replace("{pool}", _pool(record))
    return Why(sentence, step, outcome.reason.value, record.ended_at_ns, pending=False, hints=around.hints)


def _cause(record: Record, outcome: Outcome) -> str:
    lead = _DIRECT.get(outcome.reason) or _RESULTS[outcome.result]
    if outcome.result is Result.SUCCESS:
        return lead
    if outcome.reason is EndReason.CANCELLED and record.cancel is not None:
        reason = words(record.cancel.reason)
        return f"{lead}: {words(record.cancel.by) or 'somebody'} asked for its end{f' ({reason})' if reason else ''}"
    if outcome.result is Result.DENIED:
        return _denial(lead, outcome.message)
    return f"{lead}{clause(outcome.message)}"


def _denial(lead: str, reasons: str) -> str:
    """How many reasons policy had, and the first of them, which may be long. `Decision.explain` joins them.

    A job that lacks much has more of them than a sentence holds; `show` lists them all.
    """
    first, *more = reasons.split("]; ")
    count = f" for {len(more) + 1} reasons, the first" if more else ""
    return f"{lead}{count}{clause((f'{first}]' if more else first).replace('. [', ' ['))}"


def _rest(record: Record, around: Surroundings) -> str:
    """How far the tidying up of a job is that has ended and is not finished."""
    if record.phase is not Phase.TEARDOWN:
        return ""
    trouble = clause(around.trouble, "; the last try failed: ")
    if record.alarmed:
        return f"; what is left of it should be gone by now and is not, and an alarm is raised{trouble}"
    if record.deletion_accepted:
        return f"; its runner is deleted, and is looked for until it is gone{trouble}"
    return f"; its credentials and its runner are being taken away{trouble}"


def _pool(record: Record) -> str:
    return repr(words(record.offer.spec.pool))
