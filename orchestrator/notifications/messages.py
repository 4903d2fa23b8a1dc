"""A notice as the body and headers that are sent. Pure.

Sources: Standard Webhooks 1.0.0, *Payload structure*; CDEvents 0.5.0 and its CloudEvents binding; CloudEvents 1.0.2,
HTTP binding, binary content mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from orchestrator.model.job import JobId
from orchestrator.model.moment import rfc3339
from orchestrator.model.outcome import EndReason, Result
from orchestrator.notifications.endpoint import Format
from orchestrator.notifications.notices import JobContext, Notice, NoticeType

SPEC_VERSION = "0.5.0"
"""Of CDEvents."""

_OUTCOMES: Mapping[Result, str] = {
    Result.SUCCESS: "success",
    Result.FAILURE: "failure",
    Result.ERROR: "error",
    Result.TIMEOUT: "error",
    Result.CANCELLATION: "cancel",
    Result.DENIED: "error",
}
_PREDICATES: Mapping[NoticeType, str] = {
    NoticeType.JOB_QUEUED: "queued",
    NoticeType.JOB_STARTED: "started",
    NoticeType.JOB_ENDED: "finished",
}

Traceparent = Callable[[JobId], str]


@dataclass(frozen=True, slots=True)
class Origin:
    """Who tells. `url` is the daemon's public one, `traceparent` the W3C trace context of a job's trace."""

    url: str
    traceparent: Traceparent


@dataclass(frozen=True, slots=True)
class Message:
    """Ready to be signed and sent, again and again in the same bytes. `number` counts the endpoint's messages from 1;
    `seq` is the fact's place in the journal, 0 for none."""

    id: str
    number: int
    seq: int
    type: str
    at_ns: int
    headers: Mapping[str, str]
    body: bytes


def message_of(notice: Notice, message_id: str, number: int, form: Format, origin: Origin) -> Message:
    """The notice in an endpoint's format."""
    make = cdevent if form is Format.CDEVENTS else webhook
    headers, body = make(notice, message_id, number, origin)
    return Message(message_id, number, notice.seq, notice.type.value, notice.at_ns, headers, body)


def webhook(notice: Notice, message_id: str, number: int, origin: Origin) -> tuple[dict[str, str], bytes]:
    """Headers and body in Standard Webhooks' own form."""
    payload = {
        "type": notice.type.value,
        "timestamp": rfc3339(notice.at_ns),
        "id": message_id,
        "sequence": number,
        "source": origin.url,
        "data": _data(notice, origin),
    }
    return {"content-type": "application/json"}, msgspec.json.encode(payload)


def cdevent(notice: Notice, message_id: str, number: int, origin: Origin) -> tuple[dict[str, str], bytes]:
    """Headers and body as a CDEvent in a CloudEvent of binary mode."""
    kind, content = _standard(notice, origin) or _custom(notice)
    traceparent = origin.traceparent(notice.job.id)
    context = {
        "specversion": SPEC_VERSION,
        "id": message_id,
        "source": origin.url,
        "type": kind,
        "timestamp": rfc3339(notice.at_ns),
        "chainId": traceparent.split("-")[1],
    }
    body = {
        "context": context,
        "subject": {"id": notice.subject, "content": content},
        "customData": {"sequence": number, **_data(notice, origin)},
        "customDataContentType": "application/json",
    }
    headers = {
        "content-type": "application/cdevents+json",
        "ce-specversion": "1.0",
        "ce-id": message_id,
        "ce-source": _header(origin.url),
        "ce-type": kind,
        "ce-subject": _header(notice.subject),
        "ce-time": context["timestamp"],
        "ce-sequence": str(number),
        "ce-sequencetype": "Integer",
        "ce-traceparent": traceparent,
    }
    return headers, msgspec.json.encode(body)


def _standard(notice: Notice, origin: Origin) -> tuple[str, dict[str, Any]] | None:
    """Type and content of the events that CDEvents itself knows. A dispatched job is all that we know of its run, so it
    is a *pipelineRun*; one of a platform is a *taskRun* of the platform's run, and CDEvents 0.5 queues no such."""
    predicate, job = _PREDICATES.get(notice.type), notice.job
    if predicate is None or (job.by_platform and predicate == "queued"):
        return None
    content: dict[str, Any] = {"uri": _job_url(job, origin)}
    if job.by_platform:
        subject = "taskrun"
        content["taskName"] = job.name
        if job.run_id:
            content["pipelineRun"] = {"id": job.run_id, "source": _header(job.source)}
    else:
        subject = "pipelinerun"
        content["pipelineName"] = job.pipeline or job.name
    if predicate == "finished":
        content["outcome"] = outcome_of(job)
        if content["outcome"] != "success":
            content["errors"] = f"{job.reason}: {notice.sentence}" if notice.sentence else job.reason
    return f"dev.cdevents.{subject}.{predicate}.0.3.0", content


def outcome_of(job: JobContext) -> str:
    """CDEvents' word for the job's end: *failure* is the job's own doing, *error* ours, the machine's or policy's."""
    if job.reason == EndReason.RUN_TIMEOUT:
        return "failure"
    return _OUTCOMES[Result(job.result)]


def _custom(notice: Notice) -> tuple[str, dict[str, Any]]:
    subject, predicate = notice.type.value.split(".")
    return custom_type(subject, predicate), dict(notice.data)


def custom_type(subject: str, predicate: str) -> str:
    """The name of an event that is ours alone; it may hold letters only."""
    return f"dev.cdeventsx.orchestrator-{subject}.{predicate.replace('_', '')}.0.1.0"


def _data(notice: Notice, origin: Origin) -> dict[str, Any]:
    job = notice.job
    told: dict[str, Any] = {
        "job": {
            "id": job.id,
            "name": job.name,
            "pool": job.pool,
            "source": job.source,
            "pipeline": job.pipeline,
            "attempt": job.attempt,
            "environment": job.environment,
            "url": _job_url(job, origin),
            "trace_id": origin.traceparent(job.id).split("-")[1],
        },
        "seq": notice.seq,
        **notice.data,
    }
    return told | {"message": notice.sentence} if notice.sentence else told


def _job_url(job: JobContext, origin: Origin) -> str:
    return f"{origin.url}/v1/jobs/{job.id}"


def _header(text: str) -> str:
    """Text as a CloudEvents header value may hold it (HTTP binding, 3.1.3.2)."""
    return quote(text, safe="!#$&'()*+,/:;=?@[]-._~")


def trial_message(message_id: str, form: Format, origin: Origin, at_ns: int) -> Message:
    """What an operator sends to see whether it arrives. It tells of no job and has no number."""
    kind = "notification.test"
    if form is Format.WEBHOOK:
        payload = {"type": kind, "timestamp": rfc3339(at_ns), "id": message_id, "source": origin.url, "data": {}}
        headers = {"content-type": "application/json"}
        return Message(message_id, 0, 0, kind, at_ns, headers, msgspec.json.encode(payload))
    context = {
        "specversion": SPEC_VERSION,
        "id": message_id,
        "source": origin.url,
        "type": custom_type("notification", "test"),
        "timestamp": rfc3339(at_ns),
    }
    headers = {"content-type": "application/cdevents+json", "ce-specversion": "1.0", "ce-subject": message_id}
    headers |= {f"ce-{name}": _header(context[name]) for name in ("id", "source", "type")}
    headers["ce-time"] = context["timestamp"]
    body = msgspec.json.encode({"context": context, "subject": {"id": message_id, "content": {}}})
    return Message(message_id, 0, 0, kind, at_ns, headers, body)
