"""Reading the answers of the Actions service and its message queue. Pure.

Unknown fields are ignored, unset times are None, sizes are bounded. The shapes are those that `actions/scaleset`
reads; nothing else documents them.
"""

from __future__ import annotations

from typing import Any, Final

from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.fields import Fields, read_json, read_object
from orchestrator.intake.github.scale_sets.messages import (
    AcquirableJob,
    JitConfig,
    JobMessage,
    JobMessageKind,
    Message,
    RunnerEntry,
    RunnerGroup,
    ScaleSet,
    SessionFacts,
    Statistics,
)

ENVELOPE: Final = "RunnerScaleSetJobMessages"
MAX_JOB_MESSAGES: Final = 1000
"""Of one envelope; the service sends at most 50."""
MAX_JIT_CONFIG: Final = 64 << 10
_RESULTS: Final = {"cancelled": "canceled", "success": "succeeded", "failure": "failed"}


def parse_scale_set(body: bytes) -> ScaleSet:
    """Raises: UnreadableAnswerError."""
    return _scale_set(read_object(body))


def parse_scale_sets(body: bytes) -> list[ScaleSet]:
    """Raises: UnreadableAnswerError."""
    return [_scale_set(item) for item in read_object(body).objects("value")]


def parse_groups(body: bytes) -> list[RunnerGroup]:
    """Raises: UnreadableAnswerError."""
    return [
        RunnerGroup(item.number("id"), item.text("name"), item.flag("isDefaultGroup"))
        for item in read_object(body).objects("value")
    ]


def parse_session(body: bytes) -> SessionFacts:
    """Fields may be empty, as a service in trouble sends them; the caller judges. Raises: UnreadableAnswerError."""
    data = read_object(body)
    return SessionFacts(
        id=data.text("sessionId", 128),
        owner=data.shown("ownerName"),
        queue_url=data.text("messageQueueUrl", 4096),
        token=data.text("messageQueueAccessToken", 16_384),
        statistics=_statistics(data),
    )


def parse_message(body: bytes) -> Message:
    """An envelope of the queue. What is wrong inside is skipped and counted, for it would come again for ever.

    Raises:
        UnreadableAnswerError: there is no envelope with an id.
    """
    data = read_object(body)
    number = data.number("messageId")
    data.need("messageId", number > 0)
    try:
        statistics = _statistics(data)
    except UnreadableAnswerError:
        statistics = None
    if data.shown("messageType") != ENVELOPE:
        return Message(number, statistics, skipped=1)
    jobs, skipped = _job_messages(data)
    return Message(number, statistics, jobs, skipped)


def parse_acquired(body: bytes) -> list[int]:
    """Request ids that were won. Raises: UnreadableAnswerError."""
    items = read_object(body).items("value")
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise UnreadableAnswerError("the answer's value is not a list of whole numbers")
    return items


def parse_acquirable(body: bytes) -> list[AcquirableJob]:
    """Raises: UnreadableAnswerError."""
    if not body.strip():
        return []
    return [
        AcquirableJob(
            request_id=item.number("runnerRequestId"),
            owner=item.text("ownerName"),
            repository=item.text("repositoryName"),
            workflow_ref=item.text("jobWorkflowRef"),
            event=item.text("eventName"),
            labels=item.texts("requestLabels"),
        )
        for item in read_object(body).objects("value")
    ]


def parse_jit_config(body: bytes) -> JitConfig:
    """Raises: UnreadableAnswerError, without any part of the configuration."""
    data = read_object(body)
    runner = data.object("runner")
    encoded = data.text("encodedJITConfig", MAX_JIT_CONFIG)
    data.need("encodedJITConfig", encoded)
    data.need("runner", runner)
    assert runner is not None
    made = JitConfig(runner.number("id"), runner.text("name"), encoded)
    data.need("runner.id", made.runner_id > 0)
    return made


def parse_runners(body: bytes) -> list[RunnerEntry]:
    """Raises: UnreadableAnswerError."""
    return [_runner(item) for item in read_object(body).objects("value")]


def _scale_set(data: Fields) -> ScaleSet:
    found = ScaleSet(
        id=data.number("id"),
        name=data.text("name"),
        group_id=data.number("runnerGroupId"),
        group_name=data.text("runnerGroupName"),
        labels=data.texts("labels"),
        statistics=_statistics(data),
    )
    data.need("id", found.id > 0)
    return found


def _statistics(data: Fields) -> Statistics | None:
    found = data.object("statistics")
    if found is None:
        return None
    return Statistics(
        available=max(0, found.number("totalAvailableJobs")),
        acquired=max(0, found.number("totalAcquiredJobs")),
        assigned=max(0, found.number("totalAssignedJobs")),
        running=max(0, found.number("totalRunningJobs")),
        registered_runners=max(0, found.number("totalRegisteredRunners")),
        busy_runners=max(0, found.number("totalBusyRunners")),
        idle_runners=max(0, found.number("totalIdleRunners")),
    )


def _job_messages(data: Fields) -> tuple[tuple[JobMessage, ...], int]:
    try:
        text = data.text("body", 8 << 20)
        items = read_json(text) if text.strip() else []
    except UnreadableAnswerError:
        return (), 1
    if not isinstance(items, list):
        return (), 1
    found = [_job_message(item) for item in items[:MAX_JOB_MESSAGES]]
    jobs = tuple(job for job in found if job is not None)
    return jobs, len(items) - len(jobs)


def _job_message(item: Any) -> JobMessage | None:
    try:
        data = Fields(item, "body")
        kind = JobMessageKind(data.text("messageType"))
        result = data.text("result", 64).lower()
        message = JobMessage(
            kind=kind,
            job_id=data.text("jobId", 128),
            request_id=data.number("runnerRequestId"),
            owner=data.text("ownerName"),
            repository=data.text("repositoryName"),
            workflow_ref=data.text("jobWorkflowRef"),
            name=data.shown("jobDisplayName"),
            run_id=data.number("workflowRunId"),
            event=data.text("eventName"),
            labels=data.texts("requestLabels"),
            queued_at_ns=data.time_ns("queueTime"),
            assigned_at_ns=data.time_ns("scaleSetAssignTime"),
            runner_assigned_at_ns=data.time_ns("runnerAssignTime"),
            finished_at_ns=data.time_ns("finishTime"),
            runner_id=data.number("runnerId"),
            runner_name=data.text("runnerName"),
            result=_RESULTS.get(result, result),
        )
    except (UnreadableAnswerError, ValueError):
        return None
    return message if message.job_id or message.request_id else None


def _runner(data: Fields) -> RunnerEntry:
    found = RunnerEntry(
        id=data.number("id"),
        name=data.text("name"),
        scale_set_id=data.number("runnerScaleSetId"),
        status=data.shown("status").lower(),
        busy=data.flag("busy"),
        labels=data.texts("labels"),
        created_at_ns=data.time_ns("createdOn"),
    )
    data.need("id", found.id > 0)
    return found
