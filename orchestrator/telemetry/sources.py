"""Metrics of sources, read from their states when `/metrics` is scraped.

Labels are names of the configuration and words of ours: sources, their sets, endpoints, events. The one word that a
platform chooses is the resource of a limit; there are at most `MAX_RESOURCES` of them for each source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.model.source import PlatformCounts, RunnerSetState, SourceState

MAX_RESOURCES: Final = 16
STAGES: Final = ("starting", "opening", "listening", "waiting", "conflict", "stopped")
_PREFIX: Final = "orchestrator_source"
_SET: Final = ("source", "set")

Sample = tuple[Sequence[str], float]


class SourcesCollector(Collector):
    """`read` gives the states; it must be quick and not raise."""

    def __init__(self, read: Callable[[], Iterable[SourceState]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        states = tuple(self._read())
        sets = [(state.name, one) for state in states for one in state.sets]
        yield from _demand(sets)
        yield from _health(states, sets)
        yield from _asking(states)
        yield _waits(sets)


def _demand(sets: Sequence[tuple[str, RunnerSetState]]) -> Iterator[Metric]:
    """What the platform counts, and the runners that there are for it."""
    known = [(source, one, one.jobs) for source, one in sets if one.jobs is not None]
    yield _gauge(
        "jobs",
        "Jobs of a set by the platform's own count; assigned includes running.",
        (*_SET, "state"),
        [((s, one.name, state), n) for s, one, jobs in known for state, n in _jobs(jobs).items()],
    )
    yield _gauge(
        "registered_runners",
        "Runners of a set by the platform's own count.",
        (*_SET, "state"),
        [((s, one.name, state), n) for s, one, jobs in known for state, n in _runners(jobs).items()],
    )
    yield _gauge(
        "slots",
        "Runners that a set has demanded, by state.",
        (*_SET, "state"),
        [((s, one.name, state), n) for s, one in sets for state, n in one.slots.items()],
    )
    yield _gauge(
        "queued_jobs",
        "Jobs known to have no runner, where the platform lists them.",
        _SET,
        [((s, one.name), one.queued) for s, one in sets if one.queued is not None],
    )
    yield _gauge("short_runners", "Runners wanted and not begun.", _SET, [((s, o.name), o.short) for s, o in sets])
    held = "Runners that the set's own bound keeps back."
    yield _gauge("withheld_runners", held, _SET, [((s, one.name), one.withheld) for s, one in sets])


def _health(states: Sequence[SourceState], sets: Sequence[tuple[str, RunnerSetState]]) -> Iterator[Metric]:
    yield _gauge(
        "stage",
        "1 for the stage that a set is in.",
        (*_SET, "stage"),
        [((s, one.name, stage), one.stage == stage) for s, one in sets for stage in STAGES],
    )
    whole = [((state.name, ""), state.failure is not None) for state in states]
    yield _gauge(
        "failing",
        "1 while something of a set, or of the source as a whole, does not work.",
        _SET,
        [*whole, *(((s, one.name), one.failure is not None) for s, one in sets)],
    )
    heard = "When the platform answered last, in Unix seconds."
    found = [((s, one.name), one.heard_at_ns / 1e9) for s, one in sets if one.heard_at_ns]
    yield _gauge("heard_timestamp_seconds", heard, _SET, found)
    yield _gauge(
        "deliveries_waiting",
        "Webhook deliveries not yet looked into.",
        ("source",),
        [((state.name,), state.deliveries_waiting) for state in states],
    )
    events = [((state.name, event), count) for state in states for event, count in state.events.items()]
    yield _counter("event", "What a source has done and met.", ("source", "event"), events)


def _asking(states: Sequence[SourceState]) -> Iterator[Metric]:
    """Requests to the platform, and what it allows."""
    calls = [(state.name, endpoint, count) for state in states for endpoint, count in state.calls.items()]
    yield _counter(
        "call",
        "Requests to the platform, retries included, by class of answer.",
        ("source", "endpoint", "status"),
        [((s, endpoint, status), n) for s, endpoint, count in calls for status, n in count.by_status.items()],
    )
    where = ("source", "endpoint")
    spent = "Time that requests to the platform took, long polls included."
    yield _counter("call_seconds", spent, where, [((s, endpoint), count.seconds) for s, endpoint, count in calls])
    again = "Requests that were repeated."
    yield _counter("call_retry", again, where, [((s, endpoint), count.retries) for s, endpoint, count in calls])
    limits = [
        ((state.name, resource), state.limits[resource])
        for state in states
        for resource in sorted(state.limits)[:MAX_RESOURCES]
    ]
    what = ("source", "resource")
    yield _gauge("rate_limit", "Requests allowed in a period.", what, [(at, one.limit) for at, one in limits])
    left = "Requests left of them."
    yield _gauge("rate_limit_remaining", left, what, [(at, one.remaining) for at, one in limits])
    anew = "When they are all there again, in Unix seconds of the platform's clock."
    yield _gauge("rate_limit_reset_timestamp_seconds", anew, what, [(at, one.resets_at) for at, one in limits])


def _waits(sets: Sequence[tuple[str, RunnerSetState]]) -> Metric:
    text = "From the platform's queue until a runner of ours had the job, by the platform's clock."
    family = HistogramMetricFamily(f"{_PREFIX}_job_wait_seconds", text, labels=_SET)
    for source, one in sets:
        bounds = [*(str(bound) for bound in one.waits.bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(one.waits.counts)), strict=True))
        family.add_metric([source, one.name], buckets, one.waits.seconds)
    return family


def _jobs(counts: PlatformCounts) -> Mapping[str, int]:
    return {
        "available": counts.available,
        "acquired": counts.acquired,
        "assigned": counts.assigned,
        "running": counts.running,
    }


def _runners(counts: PlatformCounts) -> Mapping[str, int]:
    return {"registered": counts.registered_runners, "busy": counts.busy_runners, "idle": counts.idle_runners}


def _gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
    for at, value in samples:
        family.add_metric(at, float(value))
    return family


def _counter(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
    for at, value in samples:
        family.add_metric(at, float(value))
    return family
