"""Parts of the room with plain values, for its tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.egress.addresses import is_public
from orchestrator.identity.webhook_keys import SharedKey
from orchestrator.model.job import JobId
from orchestrator.notifications.endpoint import Endpoint, Filter, Format
from orchestrator.notifications.messages import Message, Origin
from orchestrator.notifications.notifier import Surroundings
from orchestrator.notifications.schedule import Schedule
from orchestrator.telemetry.ids import traceparent

SECRET = b"0123456789abcdefghijklmnopqrstuv"
URL = "https://daemon.example"
ORIGIN = Origin(URL, traceparent)


def sign(message_id: str, moment: int, body: bytes) -> str:
    return SharedKey(SECRET).sign(f"{message_id}.{moment}.".encode() + body)


def endpoint(url: str, name: str = "ops", **more: Any) -> Endpoint:
    given: dict[str, Any] = {"format": Format.WEBHOOK, "filter": Filter(), "sign": sign, "private": True}
    return Endpoint(name, url, **{**given, "timeout_seconds": 5.0, **more})


def message(number: int = 1, body: bytes = b"{}", at_ns: int = 1) -> Message:
    headers = {"content-type": "application/json"}
    return Message(f"msg_{number:03}", number, number, "job.queued", at_ns, headers, body)


def quick(*delays: float) -> Schedule:
    """Without jitter; a failing endpoint and a failed message come again at once when no delays are given."""
    return Schedule(lambda: 0.0, delays or (0.001,) * 9)


def near(journal: Any, now_ns: Callable[[], int], schedule: Schedule, mask: Callable[[str], str] = str) -> Surroundings:
    return Surroundings(journal, ORIGIN, mask, is_public, now_ns, schedule)


def job_url(job_id: JobId) -> str:
    return f"{URL}/v1/jobs/{job_id}"
