"""Prometheus metrics, read from the feed of facts; docs/reference/metrics.md lists them.

Labels only hold words of ours: pools of the configuration, phases, results, reason words. What a job or
caller can choose (names, hosts, audiences) is never a label. prometheus_client is used directly, because the
OpenTelemetry exporter for it drops exemplars and breaks on exponential histograms (docs/decisions/0063).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client import exposition as plain
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from orchestrator.model.events import Fact
from orchestrator.model.source import SourceState
from orchestrator.telemetry import api_calls
from orchestrator.telemetry.access_metrics import AccessMetrics
from orchestrator.telemetry.instruments import HTTP_BUCKETS, LAG_BUCKETS, OTHER, PREFIX, Instruments, seconds
from orchestrator.telemetry.job_metrics import JobMetrics
from orchestrator.telemetry.pipeline_metrics import PipelineCollector, RunMetrics, SystemErrors, SystemMetrics
from orchestrator.telemetry.progress import JobsCollector, Progress
from orchestrator.telemetry.scores.collector import Measured, ScoresCollector
from orchestrator.telemetry.sources import SourcesCollector

_OPENMETRICS = "application/openmetrics-text"


class Metrics:
    """Feed it with `journal.subscribe(metrics.observe)` after `adopt(await journal.live())`.

    `pools` maps each configured pool to its capacity in runners; a job of any other pool counts as `other`.
    `pipelines` are the runs whose name may be a label. `join` says that traces are sent into their platform's.
    """

    def __init__(
        self,
        pools: dict[str, int],
        version: str = "",
        now_ns: Callable[[], int] = time.time_ns,
        pipelines: Collection[str] = (),
        *,
        join: bool = False,
    ) -> None:
        self._registry = CollectorRegistry()
        self._make = make = Instruments(self._registry, pools)
        self._progress = Progress(join=join)
        self._now_ns = now_ns
        self._warm: list[Callable[[], Mapping[str, int]]] = []
        self._registry.register(JobsCollector(self._progress, make.pool, lambda: make.pools, now_ns, self._ready))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        make.gauge("build_info", "Always 1; the version is the label.", ("version",)).labels(version).set(1)
        capacity = "Runners that a pool may have at once."
        self.watch_words("pool_capacity_runners", capacity, "pool", lambda: make.pools)
        self._adopted = make.counter("job_adopted", "Unfinished jobs taken over from an earlier daemon.")
        self._jobs, self._access = JobMetrics(make), AccessMetrics(make)
        self._runs, self._system = RunMetrics(make, pipelines), SystemMetrics()
        self._registry.register(PipelineCollector(self._progress, self._runs, self._system))
        self._define_daemon(make)

    def _define_daemon(self, make: Instruments) -> None:
        self._lag = make.histogram("event_loop_lag_seconds", "How late the event loop woke a sleeper.", (), LAG_BUCKETS)
        append = "From asking the journal to store a fact until it was durable and told to us, the longest of a commit."
        self._append = make.histogram("journal_append_duration_seconds", append, (), LAG_BUCKETS)
        self._reloads = make.counter("policy_reload", "Reloads of the policy bundle.", ("outcome",))
        failed = "1 when the last reload of the policy bundle was refused, and an older one is in force."
        self._reload_failed = make.gauge("policy_reload_failed", failed)
        self._trust_reloads = make.counter("trust_reload", "Reloads of the trust map.", ("outcome",))
        failed = "1 when the last reload of the trust map was refused, and an older one is in force."
        self._trust_failed = make.gauge("trust_reload_failed", failed)
        self._settings_reloads = make.counter("settings_reload", "Reloads of the settings.", ("outcome",))
        failed = "1 when the last reload of the settings was refused, and older ones are in force."
        self._settings_failed = make.gauge("settings_reload_failed", failed)
        labels = ("http_request_method", "http_route", "http_response_status_code")
        text = "Requests to the daemon's API; streams are not timed."
        self._http = make.histogram("server_request_duration_seconds", text, labels, HTTP_BUCKETS, namespace="http")

    def set_pools(self, pools: Mapping[str, int]) -> None:
        """Other pools are configured now, or other capacities. What was counted of a pool that is gone stays."""
        self._make.pools = dict(pools)
        self._jobs.begin()

    def request_served(self, method: str, route: str, status: int, lasted: float) -> None:
        """`http.server.request.duration` of the semantic conventions; `route` is the operation's path, in seconds."""
        self._http.labels(method, route, str(status)).observe(lasted)

    def trust_reloaded(self, outcome: str) -> None:
        """As `policy_reloaded`."""
        self._trust_reloads.labels(outcome).inc()
        self._trust_failed.set(outcome == "refused")

    def settings_reloaded(self, outcome: str) -> None:
        """As `policy_reloaded`."""
        self._settings_reloads.labels(outcome).inc()
        self._settings_failed.set(outcome == "refused")

    def policy_reloaded(self, outcome: str) -> None:
        """`outcome` is `loaded`, `unchanged` or `refused`."""
        self._reloads.labels(outcome).inc()
        self._reload_failed.set(outcome == "refused")

    def adopt(self, jobs: Iterable[Sequence[Fact]]) -> None:
        """Learn the jobs an earlier daemon left unfinished, without counting what it has counted."""
        for facts in jobs:
            self._adopted.inc()
            for fact in facts:
                self._progress.follow(fact)

    def observe(self, facts: Sequence[Fact]) -> None:
        """Count a batch of new facts, all of one commit. Quick, and raises nothing."""
        if facts:
            self._append.observe(seconds(min(fact.at_ns for fact in facts), self._now_ns()))
        for fact in facts:
            job, moved = self._progress.follow(fact)
            pool = self._make.pool(job.pool) if job else OTHER
            self._jobs.count(fact, job, moved, pool)
            self._access.count(fact.event, pool)
            self._system.count(fact.event, self._make.word)
            if job is not None:
                self._runs.count(fact, job)

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A gauge named `orchestrator_<name>` that is read when scraped; `read` must be quick and not raise."""
        self._make.gauge(name, documentation).set_function(read)

    def watch_pools(self, name: str, documentation: str, read: Callable[[str], float]) -> None:
        """As `watch`, with one value for each configured pool."""
        self.watch_words(name, documentation, "pool", lambda: {pool: read(pool) for pool in self._make.pools})

    def watch_count(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """As `watch`, for what only grows: a counter named `orchestrator_<name>_total`."""
        family = partial(CounterMetricFamily, f"{PREFIX}_{name}", documentation)
        self._registry.register(_Read(lambda: family(value=read())))

    def watch_counts(
        self, name: str, documentation: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        """As `watch_count`, with a value for each of the labels' values that `read` gives: words of a closed set."""
        self._registry.register(
            _Read(lambda: _filled(CounterMetricFamily(f"{PREFIX}_{name}", documentation, labels=labels), read()))
        )

    def watch_words(self, name: str, documentation: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """As `watch`, with a value for each value of a label that `read` gives: words of a closed set."""

        def collect() -> GaugeMetricFamily:
            family = GaugeMetricFamily(f"{PREFIX}_{name}", documentation, labels=[label])
            return _filled(family, {(word,): value for word, value in read().items()})

        self._registry.register(_Read(collect))

    def watch_warm(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Runners that wait unbound, by pool; they are `available` among `cicd_worker_count`."""
        self._warm.append(read)

    def watch_errors(self, read: SystemErrors) -> None:
        """More errors of the system itself, for `cicd_system_errors_total`."""
        self._system.sources.append(read)

    def watch_api(self, read: api_calls.Read) -> None:
        """The metrics of requests to the cluster's API."""
        self._registry.register(api_calls.ApiCollector(read))
        self.watch_errors(partial(api_calls.errors_of, read))

    def watch_sources(self, read: Callable[[], Iterable[SourceState]]) -> None:
        """The metrics of sources, from their states when scraped; `read` must be quick and not raise."""
        self._registry.register(SourcesCollector(read))

    def watch_scores(self, read: Callable[[], Measured]) -> None:
        """The metrics of the scorecard, as they were last counted; `read` must be quick and not raise."""
        self._registry.register(ScoresCollector(read))

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body for a scrape; OpenMetrics, with exemplars, when `accept` names it."""
        if _accepts_openmetrics(accept):
            return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return plain.CONTENT_TYPE_PLAIN_0_0_4, plain.generate_latest(self._registry)

    async def sample_loop_lag(self, interval_seconds: float = 0.5) -> None:
        """Measure how late the event loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + interval_seconds
            await asyncio.sleep(interval_seconds)
            self._lag.observe(max(loop.time() - due, 0.0))

    def _ready(self) -> Mapping[str, int]:
        return {pool: count for read in self._warm for pool, count in read().items()}


class _Read(Collector):
    """A family that is made when scraped."""

    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read_now = read

    def collect(self) -> Iterable[Metric]:
        yield self._read_now()


_Family = TypeVar("_Family", CounterMetricFamily, GaugeMetricFamily)


def _filled(family: _Family, values: Mapping[tuple[str, ...], float]) -> _Family:
    for labels in sorted(values):
        family.add_metric(labels, values[labels])
    return family


def _accepts_openmetrics(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, section 12.5.1) names OpenMetrics, and not only to refuse it."""
    for media_range in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
        if kind == _OPENMETRICS:
            return not any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)
    return False
