"""How far each unfinished job is and how long each part took: the small state that metrics need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.model import events
from orchestrator.model.events import Fact, WaitReason
from orchestrator.model.job import JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import Outcome
from orchestrator.model.phase import IllegalMoveError, Phase, advance
from orchestrator.model.platform import PlatformJob
from orchestrator.telemetry import ids, semconv
from orchestrator.telemetry.attributes import whole_run
from orchestrator.telemetry.joining import sent_trace_id

POLICY: Final = "policy"
"""What a job waits for that was offered and not yet decided about."""
SLOT: Final = "starting"
"""What an admitted job waits for that nothing keeps from having a runner begun."""
_RUNNER: Final = WaitReason.RUNNER_STARTING.value
WAITS: Final = (POLICY, SLOT, *(reason.value for reason in WaitReason))
_REASON_OF: Final[Mapping[Phase, str]] = {
    Phase.WAITING: SLOT,
    Phase.PROVISIONING: _RUNNER,
    Phase.BINDING: _RUNNER,
}
"""What a job waits for that has just come into a phase, until a fact tells better."""


@dataclass(slots=True)
class JobProgress:
    """An unfinished job. Times are Unix nanoseconds; 0 is *not yet*.

    `unnamed` says that a platform has asked for a runner and not yet said for which job. `observed` are the notes on
    the runner that was begun at `runner_at_ns`, until it is bound. `waits_for` is why there is no bound runner, in a
    word, and empty once there is or the job has ended. `run` is the name of the pipeline run that the job is all of,
    and empty for one that is a part of a run of others. `trace_id` is that by which its trace is sent, and empty while
    that cannot be said.
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
    runner: bool = False
    runner_at_ns: int = 0
    observed: tuple[events.RunnerObserved, ...] = ()
    waits_for: str = POLICY
    waits_since_ns: int = 0
    run: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a fact ended, with its seconds: the phase `phase`, and the waiting for `waited_for`. None and empty for
    nothing."""

    phase: Phase | None = None
    phase_seconds: float = 0.0
    waited_for: str = ""
    waited_seconds: float = 0.0


_NOTHING: Final = Moved()
_MAX_NOTES: Final = 16
"""Kept of one runner's way; there are about two."""


class Progress:
    """Follows the feed of facts; jobs whose offer was never seen are unknown and stay so. With `join` traces are sent
    into their platform's, where that is known."""

    def __init__(self, *, join: bool = False) -> None:
        self._join = join
        self._jobs: dict[JobId, JobProgress] = {}

    def jobs(self) -> Iterator[JobProgress]:
        return iter(self._jobs.values())

    def follow(self, fact: Fact) -> tuple[JobProgress | None, Moved]:
        """Take one more fact; returns the job as it now is, if known, and what this ended."""
        event = fact.event
        if isinstance(event, events.JobOffered):
            return self._jobs.setdefault(fact.job_id, _begun(event, fact.at_ns, join=self._join)), _NOTHING
        known = self._jobs.get(fact.job_id)
        if known is None:
            return None, _NOTHING
        match event:
            case events.ProvisionStarted():
                known.provision_at_ns = known.provision_at_ns or fact.at_ns
                known.runner, known.runner_at_ns, known.observed = True, fact.at_ns, ()
            case events.RunnerObserved():
                known.observed = (*known.observed, event)[-_MAX_NOTES:]
            case events.RunnerVanished() | events.RunnerDeleted():
                known.runner = False
            case events.RunnerBound():
                known.bound_at_ns = fact.at_ns
            case events.PlatformJobNamed(job):
                known.unnamed = False
                known.trace_id = known.trace_id or sent_trace_id(_as_named(fact.job_id, job))
            case events.JobEnded(outcome):
                known.outcome, known.ended_at_ns = outcome, fact.at_ns
            case events.JobFinished():
                del self._jobs[fact.job_id]
            case _:
                pass
        return known, _move(known, fact)


def _begun(event: events.JobOffered, at_ns: int, *, join: bool) -> JobProgress:
    spec, own = event.offer.spec, ids.trace_id(event.offer.key.id)
    return JobProgress(
        spec.pool,
        at_ns,
        Phase.QUEUED,
        at_ns,
        unnamed=spec.awaits_platform_job,
        waits_since_ns=at_ns,
        run=spec.name if whole_run(event.offer) else "",
        trace_id=own if not join else "" if spec.awaits_platform_job else sent_trace_id(event.offer),
    )


def _as_named(job_id: JobId, job: PlatformJob) -> JobOffer:
    """As much of the offer as says where the trace of a job is that its platform has named."""
    spec = JobSpec(name=job.name, pool=PoolName(""), script="", awaits_platform_job=True)
    return JobOffer(JobKey.parse(job_id), spec, job.caller)


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
    """Gauges over the unfinished jobs, counted when scraped. `pool_label` bounds the pool names; `warm` says how many
    unbound runners of each pool wait ready."""

    def __init__(
        self,
        progress: Progress,
        pool_label: Callable[[str], str],
        pools: Callable[[], Iterable[str]],
        now_ns: Callable[[], int],
        warm: Callable[[], Mapping[str, int]],
    ) -> None:
        self._progress = progress
        self._pool_label = pool_label
        self._pools = pools
        self._now_ns = now_ns
        self._warm = warm

    def collect(self) -> Iterable[Metric]:
        pools = tuple(self._pools())
        depth = Counter(dict.fromkeys(pools, 0))
        oldest = dict.fromkeys(pools, 0.0)
        active = Counter(dict.fromkeys(_STATES.values(), 0))
        waiting = Counter({(pool, reason): 0 for pool in pools for reason in WAITS})
        workers = Counter({(pool, state): 0 for pool in pools for state in _WORKERS})
        now_ns = self._now_ns()
        for job in self._progress.jobs():
            pool = self._pool_label(job.pool)
            idle = job.unnamed and job.phase is Phase.RUNNING
            active[semconv.STATE_PENDING if idle else state_of(job.phase)] += 1
            if job.phase in _QUEUED:
                depth[pool] += 1
                oldest[pool] = max(oldest.get(pool, 0.0), (now_ns - job.offered_at_ns) / 1e9)
            if job.waits_for:
                waiting[pool, job.waits_for] += 1
            if job.runner:
                workers[pool, _worker_state(job)] += 1
        for pool, ready in self._warm().items():
            workers[self._pool_label(pool), semconv.WORKER_AVAILABLE] += ready
        yield _family("queue_depth", "Jobs without a runner.", "pool", depth)
        yield _family("queue_oldest_age_seconds", "Age of the oldest job without a runner.", "pool", oldest)
        yield _family("job_active", "Unfinished jobs.", "state", active)
        yield _pairs("orchestrator_job_waiting", "Jobs without a bound runner, by why.", ("pool", "reason"), waiting)
        yield _pairs("cicd_worker_count", "Runners by state.", ("pool", "cicd_worker_state"), workers)


_WORKERS: Final = (semconv.WORKER_AVAILABLE, semconv.WORKER_BUSY, semconv.WORKER_OFFLINE)


def _worker_state(job: JobProgress) -> str:
    """One that is starting or going cannot take work, which the conventions call *offline*."""
    if job.phase is not Phase.RUNNING:
        return semconv.WORKER_OFFLINE
    return semconv.WORKER_AVAILABLE if job.unnamed else semconv.WORKER_BUSY


def state_of(phase: Phase) -> str:
    """`cicd.pipeline.run.state` of a phase."""
    return _STATES.get(phase, semconv.STATE_FINALIZING)


def _pairs(
    name: str, documentation: str, labels: tuple[str, str], values: Mapping[tuple[str, str], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for pair in sorted(values):
        family.add_metric(pair, values[pair])
    return family


def _family(name: str, documentation: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"orchestrator_{name}", documentation, labels=[label])
    for value in sorted(values):
        family.add_metric([value], values[value])
    return family


def _move(job: JobProgress, fact: Fact) -> Moved:
    try:
        phase = advance(job.phase, fact.event)
    except IllegalMoveError:
        return _NOTHING
    waits_for = job.waits_for
    if phase is not job.phase:
        waits_for = _REASON_OF.get(phase, "")
    if isinstance(fact.event, events.JobWaited) and waits_for:
        waits_for = fact.event.reason.value
    elif isinstance(fact.event, events.RunnerVanished):
        waits_for = WaitReason.RUNNER_VANISHED.value
    if phase is job.phase and waits_for == job.waits_for:
        return _NOTHING
    ended, waited, lasted, waiting = None, "", 0.0, 0.0
    if phase is not job.phase:
        ended, lasted = job.phase, max(fact.at_ns - job.phase_since_ns, 0) / 1e9
        job.phase, job.phase_since_ns = phase, fact.at_ns
    if waits_for != job.waits_for:
        waited, waiting = job.waits_for, max(fact.at_ns - job.waits_since_ns, 0) / 1e9
        job.waits_for, job.waits_since_ns = waits_for, fact.at_ns
    return Moved(ended, lasted, waited, waiting)
