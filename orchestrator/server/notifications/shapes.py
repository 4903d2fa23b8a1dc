"""What the API shows of notifications, and its operations on them; answers are plain mappings."""

from __future__ import annotations

from typing import Literal

from orchestrator.server.operation import Answer, Operation
from orchestrator.server.shapes import View


class EndpointFailureView(View):
    """What does not work now, since when, and what to do."""

    reason: str
    message: str
    fix: str
    since: str | None


class EndpointView(View):
    """A receiver of messages. `delivered` and `failed` count tries since the daemon's start, `dropped` messages that
    were given up in the outbox's whole life. `host` is all that is shown of the address."""

    name: str
    host: str
    format: Literal["webhook", "cdevents"]
    state: Literal["active", "failing", "disabled"]
    """*disabled*: it answered 410, so nothing is sent until it is asked for by `retry`."""
    disabled_at: str | None
    events: list[str]
    pools: list[str]
    results: list[str]
    waiting: int
    waiting_bytes: int
    oldest_at: str | None
    delivered: int
    failed: int
    dropped: int
    delivered_at: str | None
    next_try_at: str | None
    failure: EndpointFailureView | None
    public_keys: list[str]
    """What its messages verify with (`whpk_…`), where it has keys of that kind."""


class EndpointListView(View):
    endpoints: list[EndpointView]


class TrialView(View):
    """How a test message went. `status` is null without an answer; `reason` is empty when it was delivered."""

    endpoint: str
    message_id: str
    delivered: bool
    status: int | None
    seconds: float
    reason: str
    detail: str


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "list_notifications",
        "GET",
        "/v1/notifications",
        "List the endpoints of notifications and how they are doing; for operators",
        {200: Answer("All endpoints", EndpointListView)},
        problems=(403,),
    ),
    Operation(
        "test_notification",
        "POST",
        "/v1/notifications/{name}/test",
        "Send a test message to an endpoint now; for operators",
        {200: Answer("How it went", TrialView)},
        problems=(403, 404),
    ),
    Operation(
        "retry_notifications",
        "POST",
        "/v1/notifications/{name}/retry",
        "Try now what waits for an endpoint, also for one that is disabled; for operators",
        {200: Answer("The endpoint", EndpointView)},
        problems=(403, 404, 503),
    ),
)
