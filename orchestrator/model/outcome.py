"""How a job ended. `result` follows OpenTelemetry's `cicd.pipeline.task.run.result`, plus *denied*."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """*failure* is the job's own doing (a red test), *error* is ours or the machine's."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    TIMEOUT = "timeout"
    CANCELLATION = "cancellation"
    DENIED = "denied"


class EndReason(StrEnum):
    """Machine words for why a job ended; each has an anchor in the docs' reason reference."""

    COMPLETED = "completed"
    EXIT_NONZERO = "exit_nonzero"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED_BY_SIGNAL = "killed_by_signal"
    POLICY_DENIED = "policy_denied"
    POLICY_UNDEFINED = "policy_undefined"
    POLICY_ERROR = "policy_error"
    CANCELLED = "cancelled"
    ADMISSION_TIMEOUT = "admission_timeout"
    CAPACITY_TIMEOUT = "capacity_timeout"
    PROVISION_TIMEOUT = "provision_timeout"
    PROVISION_FAILED = "provision_failed"
    BIND_TIMEOUT = "bind_timeout"
    RUN_TIMEOUT = "run_timeout"
    EGRESS_UNPROVEN = "egress_unproven"
    EXITED_BEFORE_CLAIM = "exited_before_claim"
    RUNNER_LOST = "runner_lost"
    CREATE_REFUSED = "create_refused"
    POD_CHANGED = "pod_changed"
    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL_FAILED = "image_pull_failed"
    RUNNER_START_FAILED = "runner_start_failed"
    AGENT_FAILED = "agent_failed"
    RUNNER_EVICTED = "runner_evicted"
    RUNNER_PREEMPTED = "runner_preempted"
    RUNNER_DELETED = "runner_deleted"
    NODE_LOST = "node_lost"
    UNKNOWN_POOL = "unknown_pool"
    NO_JOB = "no_job"
    JOB_FAILED = "job_failed"
    JOB_UNNAMED = "job_unnamed"
    COMPLETION_UNSEEN = "completion_unseen"
    SECOND_JOB = "second_job"
    JOB_ALREADY_NAMED = "job_already_named"
    WORK_UNAVAILABLE = "work_unavailable"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`exit_code` is the job's own (None when it never ran or never returned one); `message` is for people."""

    result: Result
    reason: EndReason
    message: str
    exit_code: int | None = None
