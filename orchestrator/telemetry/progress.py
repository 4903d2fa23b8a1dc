"""How far each unfinished job is and how long each part took: the small state that metrics need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.model.outcome import Outcome
from orchestrator.model.phase import IllegalMoveError, Phase, advance
from orchestrator.telemetry import semconv


@dataclass(slots=True)
class JobProgress:
    """An unfinished job. Times are Unix nanoseconds; 0 is *not yet*.

    `unnamed` says that a platform has asked for a runner and not yet said for which job.
    """

    pool: str
    offered_at_ns: int
    phase: Phase
    phase_since_ns: int
    provision_at_ns: int = 0
    bound_at_ns: int = 0
    ended_at_ns: int = 0
    outcome: Outcome | None = None
    unnamed: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase that has just ended, in seconds."""

    phase: Phase
    seconds: float


class Progress:
    """Follows the feed of facts; jobs whose offer was never seen are unknown and stay so."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, JobProgress] = {}

    def jobs(self) -> Iterator[JobProgress]:
        return iter(self._jobs.values())

    def follow(self, fact: Fact) -> tuple[JobProgress | None, Stretch | None]:
        """Take one more fact; returns the job as it now is, if known, and the phase that this ended."""
        event = fact.event
        if isinstance(event, events.JobOffered):
            spec = event.offer.spec
            begun = JobProgress(spec.pool, fact.at_ns, Phase.QUEUED, fact.at_ns, unnamed=spec.awaits_platform_job)
            return self._jobs.setdefault(fact.job_id, begun), None
        known = self._jobs.get(fact.job_id)
        if known is None:
            return None, None
        match event:
            case events.ProvisionStarted() if not known.provision_at_ns:
                known.provision_at_ns = fact.at_ns
            case events.RunnerBound():
                known.bound_at_ns = fact.at_ns
            case events.PlatformJobNamed():
                known.unnamed = False
            case events.JobEnded(outcome):
                known.outcome, known.ended_at_ns = outcome, fact.at_ns
            case events.JobFinished():
                del self._jobs[fact.job_id]
            case _:
                pass
        return known, _move(known, fact)


_QUEUED = (Phase.QUEUED, Phase.WAITING)
_STATES: Mapping[Phase, str] = {
    Phase.QUEUED: semconv.STATE_PENDING,
    Phase.WAITING: semconv.STATE_PENDING,
    Phase.PROVISIONING: semconv.STATE_PENDING,
    Phase.BINDING: semconv.STATE_PENDING,
    Phase.RUNNING: semconv.STATE_EXECUTING,
    Phase.TEARDOWN: semconv.STATE_FINALIZING,
}


class JobsCollector(Collector):
    """Gauges over the unfinished jobs, counted when scraped. `pool_label` bounds the pool names."""

    def __init__(
        self,
        progress: Progress,
        pool_label: Callable[[str], str],
        pools: Iterable[str],
        now_ns: Callable[[], int],
    ) -> None:
        self._progress = progress
        self._pool_label = pool_label
        self._pools = tuple(pools)
        self._now_ns = now_ns

    def collect(self) -> Iterable[Metric]:
        depth = Counter(dict.fromkeys(self._pools, 0))
        oldest = dict.fromkeys(self._pools, 0.0)
        active = Counter(dict.fromkeys(_STATES.values(), 0))
        now_ns = self._now_ns()
        for job in self._progress.jobs():
            idle = job.unnamed and job.phase is Phase.RUNNING
            active[semconv.STATE_PENDING if idle else _STATES.get(job.phase, semconv.STATE_FINALIZING)] += 1
            if job.phase in _QUEUED:
                pool = self._pool_label(job.pool)
                depth[pool] += 1
                oldest[pool] = max(oldest.get(pool, 0.0), (now_ns - job.offered_at_ns) / 1e9)
        yield _family("queue_depth", "Jobs without a runner.", "pool", depth)
        yield _family("queue_oldest_age_seconds", "Age of the oldest job without a runner.", "pool", oldest)
        yield _family("job_active", "Unfinished jobs.", "state", active)


def _family(name: str, documentation: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"orchestrator_{name}", documentation, labels=[label])
    for value in sorted(values):
        family.add_metric([value], values[value])
    return family


def _move(job: JobProgress, fact: Fact) -> Stretch | None:
    try:
        phase = advance(job.phase, fact.event)
    except IllegalMoveError:
        return None
    if phase is job.phase:
        return None
    stretch = Stretch(job.phase, max(fact.at_ns - job.phase_since_ns, 0) / 1e9)
    job.phase, job.phase_since_ns = phase, fact.at_ns
    return stretch
