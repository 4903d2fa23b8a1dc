"""The documented shape of what operators ask of the daemon itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.server.operation import Answer, Operation
from orchestrator.server.schemas import Request
from orchestrator.server.shapes import View


class ReloadPartView(View):
    """One part of what was read again. *refused* has a reason, and what was in force before stays so. For settings,
    `changed` are those that are in force now, `needs_restart` those that differ too, by their paths and never by their
    values; `jobs_ending` counts jobs that had not begun and end, by pool that is gone; `ports_closed` are those that a
    pool on a cluster allows and that no gateway reaches before the manifests are rendered and applied again."""

    what: str
    outcome: Literal["loaded", "unchanged", "refused"]
    changed: list[str]
    needs_restart: list[str]
    jobs_ending: dict[str, int]
    ports_closed: dict[str, list[int]]
    reason: str
    detail: str
    fix: str


class ReloadView(View):
    """`outcome` is *refused* if any part was."""

    outcome: Literal["loaded", "unchanged", "refused"]
    parts: list[ReloadPartView]


class DrainView(View):
    """How far a drain has come. Jobs by phase: `left` are those that a stop would have to wait for, `jobs_left` in all;
    the runners of those `going_on` outlive the daemon; those `not_begun` wait to be begun by this daemon or the next.
    From `limit_at` on, jobs that still run are cancelled. `stopping` cannot be taken back."""

    draining: bool
    stopping: bool
    since: str | None
    limit_at: str | None
    jobs_left: int
    left: dict[str, int]
    going_on: dict[str, int]
    not_begun: dict[str, int]


class DrainRequest(Request):
    """`limit_seconds` is how long running jobs may go on: null for as long as they may anyway, 0 to cancel them now."""

    limit_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] | None = None


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "reload",
        "POST",
        "/v1/reload",
        "Read settings, policy, trust map and keys again; for operators",
        {200: Answer("What came of each part; what was refused changed nothing", ReloadView)},
        problems=(403, 404, 409),
    ),
    Operation(
        "read_drain",
        "GET",
        "/v1/drain",
        "Read whether jobs are begun, and which are under way; for operators",
        {200: Answer("As of now", DrainView)},
        problems=(403, 404),
    ),
    Operation(
        "drain",
        "POST",
        "/v1/drain",
        "Begin no job any more; again to change the limit; for operators",
        {200: Answer("The daemon drains", DrainView)},
        body=DrainRequest,
        problems=(403, 404, 422, 503),
    ),
    Operation(
        "resume",
        "DELETE",
        "/v1/drain",
        "Begin jobs again; for operators",
        {200: Answer("The daemon begins jobs", DrainView)},
        problems=(403, 404, 409, 503),
    ),
)
