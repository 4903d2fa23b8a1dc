"""Prometheus metrics, read from the feed of facts; docs/reference/metrics.md lists them.

Labels only hold words of ours: pools of the configuration, phases, results, reason words. What a job or
caller can choose (names, hosts, audiences) is never a label. prometheus_client is used directly, because the
OpenTelemetry exporter for it drops exemplars and breaks on exponential histograms (docs/decisions/0063).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector
from prometheus_client import exposition as plain
from prometheus_client.core import CounterMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from orchestrator.model import events
from orchestrator.model.decision import CONFIGURATION, Decision
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.model.source import SourceState
from orchestrator.telemetry import ids
from orchestrator.telemetry.progress import JobProgress, JobsCollector, Progress
from orchestrator.telemetry.scores.collector import Measured, ScoresCollector
from orchestrator.telemetry.sources import SourcesCollector

PREFIX = "orchestrator"
MAX_WORDS = 64
"""Most different values of one label; later ones count as `other`."""

_PHASE_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_JOB_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600)
_POLICY_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
_OPENMETRICS = "application/openmetrics-text"
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Feed it with `journal.subscribe(metrics.observe)` after `adopt(await journal.live())`.

    `pools` maps each configured pool to its capacity in runners; a job of any other pool counts as `other`.
    """

    def __init__(self, pools: dict[str, int], version: str = "", now_ns: Callable[[], int] = time.time_ns) -> None:
        self._registry = CollectorRegistry()
        self._progress = Progress()
        self._pools = dict(pools)
        self._words: dict[str, set[str]] = {}
        self._now_ns = now_ns
        self._registry.register(JobsCollector(self._progress, self._pool, self._pools, now_ns))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._gauge("build_info", "Always 1; the version is the label.", ("version",)).labels(version).set(1)
        capacity = self._gauge("pool_capacity_runners", "Runners that a pool may have at once.", ("pool",))
        for pool, runners in pools.items():
            capacity.labels(pool).set(runners)
        self._define_jobs()
        self._define_access()
        self._define_daemon()

    def _define_jobs(self) -> None:
        wait = "From the offer until the first runner was begun, or the end if none was."
        self._queue = self._histogram("job_queue_duration_seconds", wait, ("pool", "outcome"), _PHASE_BUCKETS)
        start = "From the offer until the job was bound to its runner."
        self._start = self._histogram("job_start_duration_seconds", start, ("pool",), _PHASE_BUCKETS)
        named = "From the binding of a runner until its platform named the job it got."
        self._naming = self._histogram("job_naming_duration_seconds", named, ("pool",), _PHASE_BUCKETS)
        self._phase = self._histogram("job_phase_duration_seconds", "Each phase.", ("phase", "pool"), _PHASE_BUCKETS)
        whole = "From the offer until the end was recorded."
        self._job = self._histogram("job_duration_seconds", whole, ("pool", "result"), _JOB_BUCKETS)
        self._offered = self._counter("job_offered", "Jobs accepted.", ("pool",))
        self._finished = self._counter("job_finished", "Jobs verified gone.", ("pool", "result", "reason"))
        self._adopted = self._counter("job_adopted", "Unfinished jobs taken over from an earlier daemon.", ())
        self._provisioned = self._counter("runner_provisioned", "Runners begun.", ("pool",))
        self._destroyed = self._counter("runner_destroyed", "Deletions that the backend accepted.", ("pool",))
        self._vanished = self._counter("runner_vanished", "Runners gone before they had work.", ("pool",))
        self._alarms = self._counter("alarm", "Things that must not happen and did.", ("alarm",))

    def _define_access(self) -> None:
        self._decisions = self._counter("policy_decision", "Policy's answers.", ("stage", "verdict"))
        policy = "How long policy took to answer."
        self._policy = self._histogram("policy_decision_duration_seconds", policy, ("stage",), _POLICY_BUCKETS)
        watched = "Requirements that were not met and are only watched for now, by the rule's code."
        self._observed = self._counter("policy_observed", watched, ("stage", "code"))
        aside = "Requirements that a signed exception set aside, by the rule's code."
        self._waived = self._counter("policy_waived", aside, ("stage", "code"))
        self._tokens = self._counter("token_request", "Token exchanges.", ("outcome", "reason"))
        verdict = "Connections that jobs asked for, the agents' own probes not counted."
        self._egress = self._counter("egress_decision", verdict, ("pool", "verdict", "reason"))
        self._bytes = self._counter("egress_bytes", "Payload through the gateway.", ("pool", "direction"))
        self._spans = self._counter("relayed_span", "Spans that jobs sent.", ("outcome",))

    def _define_daemon(self) -> None:
        late = "How late the event loop woke a sleeper."
        self._lag = self._histogram("event_loop_lag_seconds", late, (), _LAG_BUCKETS)
        append = "From asking the journal to store a fact until it was durable and told to us, the longest of a commit."
        self._append = self._histogram("journal_append_duration_seconds", append, (), _LAG_BUCKETS)
        self._reloads = self._counter("policy_reload", "Reloads of the policy bundle.", ("outcome",))
        failed = "1 when the last reload of the policy bundle was refused, and an older one is in force."
        self._reload_failed = self._gauge("policy_reload_failed", failed, ())

        self._trust_reloads = self._counter("trust_reload", "Reloads of the trust map.", ("outcome",))
        failed = "1 when the last reload of the trust map was refused, and an older one is in force."
        self._trust_failed = self._gauge("trust_reload_failed", failed, ())

    def trust_reloaded(self, outcome: str) -> None:
        """As `policy_reloaded`."""
        self._trust_reloads.labels(outcome).inc()
        self._trust_failed.set(outcome == "refused")

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
            self._append.observe(_seconds(min(fact.at_ns for fact in facts), self._now_ns()))
        for fact in facts:
            job, stretch = self._progress.follow(fact)
            pool = self._pool(job.pool) if job else "other"
            if stretch is not None:
                self._phase.labels(stretch.phase.value, pool).observe(stretch.seconds)
            self._count_move(fact, job, pool)
            self._count_note(fact.event, pool)

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A gauge named `orchestrator_<name>` that is read when scraped; `read` must be quick and not raise."""
        self._gauge(name, documentation, ()).set_function(read)

    def watch_pools(self, name: str, documentation: str, read: Callable[[str], float]) -> None:
        """As `watch`, with one value for each configured pool."""
        self.watch_each(name, documentation, "pool", self._pools, read)

    def watch_each(
        self, name: str, documentation: str, label: str, values: Iterable[str], read: Callable[[str], float]
    ) -> None:
        """As `watch`, with one value for each value of a label."""
        gauge = self._gauge(name, documentation, (label,))
        for one in values:
            gauge.labels(one).set_function(partial(read, one))

    def watch_count(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """As `watch`, for what only grows: a counter named `orchestrator_<name>_total`."""
        self._registry.register(_Count(f"{PREFIX}_{name}", documentation, read))

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

    def _count_move(self, fact: Fact, job: JobProgress | None, pool: str) -> None:
        match fact.event:
            case events.JobOffered():
                self._offered.labels(pool).inc()
            case events.ProvisionStarted(number=number):
                self._provisioned.labels(pool).inc()
                if job is not None and number == 1:
                    waited = _seconds(job.offered_at_ns, fact.at_ns)
                    self._queue.labels(pool, "started").observe(waited, _exemplar(fact.job_id))
            case events.RunnerVanished():
                self._vanished.labels(pool).inc()
            case events.RunnerDeleted():
                self._destroyed.labels(pool).inc()
            case events.RunnerBound() if job is not None:
                self._start.labels(pool).observe(_seconds(job.offered_at_ns, fact.at_ns), _exemplar(fact.job_id))
            case events.PlatformJobNamed() if job is not None:
                self._naming.labels(pool).observe(_seconds(job.bound_at_ns, fact.at_ns), _exemplar(fact.job_id))
            case events.JobEnded(outcome) if job is not None:
                lasted = _seconds(job.offered_at_ns, fact.at_ns)
                self._job.labels(pool, outcome.result.value).observe(lasted, _exemplar(fact.job_id))
                if not job.provision_at_ns:
                    self._queue.labels(pool, "ended").observe(lasted, _exemplar(fact.job_id))
            case events.JobFinished() if job is not None and job.outcome is not None:
                self._finished.labels(pool, job.outcome.result.value, job.outcome.reason.value).inc()
            case _:
                pass

    def _count_note(self, event: events.Event, pool: str) -> None:
        match event:
            case events.JobAdmitted(decision) | events.JobRefused(decision) | events.ExchangeDecided(decision=decision):
                self._decided(decision)
            case events.PlatformJobNamed(decision=decision) if decision.allowed:  # else a JobRefused follows
                self._decided(decision)
            case events.TokenIssued():
                self._tokens.labels("issued", "").inc()
            case events.TokenRefused(reason=reason):
                self._tokens.labels("refused", self._word("token", reason)).inc()
            case events.EgressDecided():
                self._connected(event, pool)
            case events.AlarmRaised(alarm=alarm):
                self._alarms.labels(self._word("alarm", alarm)).inc()
            case events.SpansRelayed(accepted=accepted, refused=refused):
                self._spans.labels("accepted").inc(max(accepted, 0))
                self._spans.labels("refused").inc(max(refused, 0))
            case _:
                pass

    def _decided(self, decision: Decision) -> None:
        if decision.engine == CONFIGURATION:
            return  # nobody was asked
        stage = decision.stage.value
        self._decisions.labels(stage, decision.verdict.value).inc()
        self._policy.labels(stage).observe(max(decision.duration_ns, 0) / 1e9)
        for reason in decision.observed:
            self._observed.labels(stage, self._word("policy", reason.code)).inc()
        for code in (code for waiver in decision.waivers for code in waiver.codes):
            self._waived.labels(stage, self._word("policy", code)).inc()

    def _connected(self, event: events.EgressDecided, pool: str) -> None:
        if event.canary:
            return
        verdict = "allow" if event.allowed else "deny"
        self._egress.labels(pool, verdict, self._word("egress", event.reason)).inc(max(event.connections, 1))
        self._bytes.labels(pool, "up").inc(max(event.bytes_up, 0))
        self._bytes.labels(pool, "down").inc(max(event.bytes_down, 0))

    def _pool(self, name: str) -> str:
        return name if name in self._pools else "other"

    def _word(self, label: str, word: str) -> str:
        known = self._words.setdefault(label, set())
        if word not in known and len(known) >= MAX_WORDS:
            return "other"
        known.add(word)
        return word[:64]

    def _counter(self, name: str, documentation: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, documentation, labels, namespace=PREFIX, registry=self._registry)

    def _gauge(self, name: str, documentation: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, documentation, labels, namespace=PREFIX, registry=self._registry)

    def _histogram(
        self, name: str, documentation: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, documentation, labels, namespace=PREFIX, buckets=buckets, registry=self._registry)


class _Count(Collector):
    """A counter that somebody else counts."""

    def __init__(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        self._name = name
        self._documentation = documentation
        self._read = read

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._documentation, self._read())


def _accepts_openmetrics(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, section 12.5.1) names OpenMetrics, and not only to refuse it."""
    for media_range in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
        if kind == _OPENMETRICS:
            return not any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)
    return False


def _seconds(start_ns: int, end_ns: int) -> float:
    return max(end_ns - start_ns, 0) / 1e9


def _exemplar(job_id: JobId) -> dict[str, str]:
    return {"trace_id": ids.trace_id(job_id)}
