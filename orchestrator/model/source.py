"""How a source of jobs is doing at one moment, whatever its platform: for the API, metrics and people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class SourceKind(StrEnum):
    """How a source learns of jobs."""

    SCALE_SETS = "scale_sets"
    WEBHOOKS = "webhooks"


@dataclass(frozen=True, slots=True)
class Failure:
    """What does not work now. `since_ns` is when it ceased to work, whatever the reason was then, in Unix
    nanoseconds; `fix` is for people."""

    reason: str
    message: str
    fix: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class PlatformCounts:
    """The platform's own counts of a set's jobs and runners. `assigned` includes the running ones."""

    available: int
    acquired: int
    assigned: int
    running: int
    registered_runners: int
    busy_runners: int
    idle_runners: int


@dataclass(frozen=True, slots=True)
class WaitCounts:
    """A histogram of seconds: `counts` has one more than `bounds`, for what is longer than all of them."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSetState:
    """The runners of one kind that a source keeps for its platform: a scale set, or a rule of labels.

    `slots` counts runners by state; `short` are those that are wanted and not begun yet, `withheld` those that the
    set's own bound keeps back, `queued` jobs known to have no runner (None where the platform does not list them).
    `announced` is how many jobs the platform was told that the set may hold, None where it is not told. `waiting_for`
    says in a word why not every job has a runner, and is empty otherwise. `waits` is the time from the platform's
    queue to a runner, by the platform's clock. Times are Unix nanoseconds, 0 for *not yet*.
    """

    name: str
    pool: str
    stage: str
    platform_id: int = 0
    announced: int | None = None
    polled_at_ns: int = 0
    heard_at_ns: int = 0
    jobs: PlatformCounts | None = None
    slots: Mapping[str, int]
    short: int = 0
    withheld: int = 0
    queued: int | None = None
    waiting_for: str = ""
    failure: Failure | None = None
    labels_lacking: tuple[str, ...] = ()
    waits: WaitCounts


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Requests to one endpoint, retries included, by class of answer (`2xx`, …, `none` without one); `seconds` is
    their time."""

    by_status: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        return sum(self.by_status.values())


@dataclass(frozen=True, slots=True)
class CallLimit:
    """What the platform lets us ask: `resets_at` is Unix seconds by its clock."""

    limit: int
    remaining: int
    resets_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """A source: its sets, what it has done since the daemon's start (`events` by word, `calls` by endpoint), and what
    its platform allows (`limits` by resource).

    `calls_per_job` is all calls over the jobs that ended, 0 before the first. `deliveries_waiting` are webhook
    deliveries not yet looked into, `deliveries_again` those that had failed and were asked for once more. `failure` is
    what fails of the source as a whole; its sets have their own.
    """

    name: str
    kind: SourceKind
    url: str
    sets: tuple[RunnerSetState, ...]
    events: Mapping[str, int]
    calls: Mapping[str, CallCounts]
    calls_per_job: float
    limits: Mapping[str, CallLimit]
    deliveries_waiting: int = 0
    deliveries_again: int = 0
    failure: Failure | None = None
