"""The metrics that the semantic conventions have for pipeline runs and for the CI system (CI/CD metrics, 1.44.0).

A job is a pipeline run only when it was dispatched to us and belongs to no pipeline: of a run with several jobs, or one
of GitHub's, we see parts, and to count those as runs would count them twice. Names of attributes are those of the
conventions as Prometheus writes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.model import events
from orchestrator.model.decision import CONFIGURATION, Decision, Verdict
from orchestrator.model.events import Fact
from orchestrator.model.outcome import Outcome
from orchestrator.telemetry import semconv
from orchestrator.telemetry.attributes import error_type, result_word
from orchestrator.telemetry.instruments import JOB_BUCKETS, OTHER, Instruments, seconds
from orchestrator.telemetry.progress import JobProgress, Progress, state_of

STATES: Final = (semconv.STATE_PENDING, semconv.STATE_EXECUTING, semconv.STATE_FINALIZING)
SystemErrors = Callable[[], Mapping[tuple[str, str], float]]
"""Errors since the start by component and error type, both words of ours."""

_NAMESPACE: Final = "cicd"


class RunMetrics:
    """`cicd.pipeline.run.*`. Only the pipelines in `named` have their name as a label: anybody who dispatches chooses
    one."""

    def __init__(self, make: Instruments, named: Collection[str]) -> None:
        self.named = frozenset(named)
        text = "Time that pipeline runs spent in a state."
        labels = ("cicd_pipeline_name", "cicd_pipeline_run_state", "cicd_pipeline_result", "error_type")
        self._lasted = make.histogram("pipeline_run_duration_seconds", text, labels, JOB_BUCKETS, namespace=_NAMESPACE)
        text = "Errors of pipeline runs."
        self._errors = make.counter(
            "pipeline_run_errors", text, ("cicd_pipeline_name", "error_type"), namespace=_NAMESPACE
        )

    def name(self, job: JobProgress) -> str:
        return job.run if job.run in self.named else OTHER

    def count(self, fact: Fact, job: JobProgress) -> None:
        """A run's result is told with the state in which it was found, and with what follows."""
        if not job.run:
            return
        match fact.event:
            case events.RunnerBound():
                self._observe(fact, job, semconv.STATE_PENDING, job.offered_at_ns)
            case events.JobEnded(outcome):
                state, since = semconv.STATE_EXECUTING, job.bound_at_ns
                if not since:
                    state, since = semconv.STATE_PENDING, job.offered_at_ns
                self._observe(fact, job, state, since, outcome)
                if error_type(outcome):
                    self._errors.labels(self.name(job), error_type(outcome)).inc()
            case events.JobFinished() if job.outcome is not None:
                self._observe(fact, job, semconv.STATE_FINALIZING, job.ended_at_ns, job.outcome)
            case _:
                pass

    def _observe(self, fact: Fact, job: JobProgress, state: str, since_ns: int, outcome: Outcome | None = None) -> None:
        result, error = (result_word(outcome), error_type(outcome)) if outcome is not None else ("", "")
        lasted = seconds(since_ns, fact.at_ns)
        self._lasted.labels(self.name(job), state, result, error).observe(lasted)


class SystemMetrics:
    """`cicd.system.errors`: what failed of the system itself; what a run failed of is not in it."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self.sources: list[SystemErrors] = [lambda: self._counts]

    def count(self, event: events.Event, word: Callable[[str, str], str]) -> None:
        match event:
            case events.JobRefused(decision) | events.ExchangeDecided(decision=decision):
                self._decided(decision)
            case events.AlarmRaised(alarm=alarm):
                self._counts["controller", word("alarm", alarm)] += 1
            case _:
                pass

    def _decided(self, decision: Decision) -> None:
        if decision.engine != CONFIGURATION and decision.verdict in (Verdict.UNDEFINED, Verdict.ERROR):
            self._counts["policy", f"policy_{decision.verdict.value}"] += 1


class PipelineCollector(Collector):
    """What is only known when scraped: runs under way, and errors that rooms count themselves."""

    def __init__(self, progress: Progress, runs: RunMetrics, system: SystemMetrics) -> None:
        self._progress = progress
        self._runs = runs
        self._system = system

    def collect(self) -> Iterable[Metric]:
        active = Counter({(name, state): 0 for name in (*self._runs.named, OTHER) for state in STATES})
        for job in self._progress.jobs():
            if job.run:
                active[self._runs.name(job), state_of(job.phase)] += 1
        labels = ("cicd_pipeline_name", "cicd_pipeline_run_state")
        gauge = GaugeMetricFamily(f"{_NAMESPACE}_pipeline_run_active", "Pipeline runs by state.", labels=labels)
        for pair in sorted(active):
            gauge.add_metric(pair, active[pair])
        yield gauge
        errors: Counter[tuple[str, str]] = Counter()
        for read in self._system.sources:
            errors.update({pair: int(count) for pair, count in read().items()})
        labels = ("cicd_system_component", "error_type")
        counter = CounterMetricFamily(f"{_NAMESPACE}_system_errors", "Errors of the system itself.", labels=labels)
        for pair in sorted(errors):
            counter.add_metric(pair, errors[pair])
        yield counter
