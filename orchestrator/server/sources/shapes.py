"""The documented shape of what the API shows of sources; answers are plain mappings made in `sources`."""

from __future__ import annotations

from typing import Literal

from orchestrator.model.source import SourceKind
from orchestrator.server.shapes import View


class FailureView(View):
    """What does not work now. `since` is when it ceased to work, `reason` the last error's word."""

    reason: str
    message: str
    fix: str
    since: str | None


class PlatformCountsView(View):
    """The platform's own counts. `assigned` includes `running`."""

    available: int
    acquired: int
    assigned: int
    running: int
    registered_runners: int
    busy_runners: int
    idle_runners: int


class RunnerSetView(View):
    """The runners of one kind that a source keeps: a scale set, or a rule of labels of a source with webhooks."""

    name: str
    pool: str
    stage: Literal["starting", "opening", "listening", "waiting", "conflict", "stopped"]
    """*waiting*: the last call failed and the next comes after a pause; *conflict*: another has the set's session."""
    platform_id: int
    """The platform's number of the set; 0 when it is not known, or there is none."""
    announced: int | None
    """How many jobs the platform was told that the set may hold; null where it is not told."""
    polled_at: str | None
    heard_at: str | None
    """When the platform answered last."""
    jobs: PlatformCountsView | None
    slots: dict[str, int]
    """Runners by state: `coming`, `starting`, `free`, `busy`, `over`."""
    short: int
    """Runners that are wanted and not begun, because others of the set failed just now."""
    withheld: int
    """Runners that the set's `max_runners` keeps back."""
    queued: int | None
    """Jobs known to have no runner; null where the platform does not list them."""
    waiting_for: str
    """Why not every job has a runner: `max_runners`, `runners_failing`, `pool_full`, or a failure's reason."""
    failure: FailureView | None
    labels_lacking: list[str]
    """Configured labels that the platform did not take over."""


class CallsView(View):
    calls: int
    """Requests sent, retries included."""
    retries: int
    seconds: float
    by_status: dict[str, int]
    """By class of answer: `2xx`, `4xx`, …, and `none` without one."""


class RateLimitView(View):
    limit: int
    remaining: int
    resets_at: str | None
    """By the platform's clock."""


class SourceView(View):
    """A source of jobs; counts are those since the daemon's start."""

    name: str
    kind: SourceKind
    url: str
    sets: list[RunnerSetView]
    failure: FailureView | None
    """What fails of the source as a whole; each set has its own."""
    deliveries_waiting: int
    """Webhook deliveries not yet looked into."""
    deliveries_again: int
    """Webhook deliveries that had failed and were asked for once more."""
    events: dict[str, int]
    """What it has done and met, by word."""
    calls: dict[str, CallsView]
    """Requests to the platform, by endpoint."""
    calls_per_job: float
    """All of them over the jobs that ended; 0 before the first."""
    rate_limits: dict[str, RateLimitView]


class SourceListView(View):
    sources: list[SourceView]
