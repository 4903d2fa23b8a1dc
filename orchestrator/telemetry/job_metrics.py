"""What becomes of jobs and runners: counts, and how long each part took."""

from __future__ import annotations

from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.outcome import Result
from orchestrator.telemetry.instruments import JOB_BUCKETS, PHASE_BUCKETS, Instruments, exemplar, seconds
from orchestrator.telemetry.progress import JobProgress, Moved
from orchestrator.telemetry.stages import start_seconds

ALARMS = (
    "credential_unaccounted", "evidence_lost", "evidence_refused", "exception_used", "foreign_runner",
    "job_already_named", "job_credential_misused", "job_facts_disagree", "left_behind", "named_before_claim",
    "pod_changed", "receipt_refused", "report_refused", "runner_credential_misused", "runner_name_clash",
    "runner_outlived_job", "second_claim", "second_job", "teardown_stuck", "worker_failing",
)  # fmt: skip
"""Alarms that begin at 0, so that the first one is already an increase; any other begins with its first."""


class JobMetrics:
    """Counts moves of jobs whose offer was seen."""

    def __init__(self, make: Instruments) -> None:
        self._make = make
        wait = "From the offer until the first runner was begun, or the end if none was."
        self._queue = make.histogram("job_queue_duration_seconds", wait, ("pool", "outcome"), PHASE_BUCKETS)
        start = "From the offer until the job was bound to its runner."
        self._start = make.histogram("job_start_duration_seconds", start, ("pool",), PHASE_BUCKETS)
        stage = "Each stage of the way of a runner that was bound, as far as it took its job's time."
        self._stage = make.histogram("runner_start_stage_duration_seconds", stage, ("pool", "stage"), PHASE_BUCKETS)
        named = "From the binding of a runner until its platform named the job it got."
        self._naming = make.histogram("job_naming_duration_seconds", named, ("pool",), PHASE_BUCKETS)
        self._phase = make.histogram("job_phase_duration_seconds", "Each phase.", ("phase", "pool"), PHASE_BUCKETS)
        whole = "From the offer until the end was recorded."
        self._job = make.histogram("job_duration_seconds", whole, ("pool", "result"), JOB_BUCKETS)
        waited = "Time that jobs spent without a bound runner, by why."
        self._waited = make.counter("job_wait_seconds", waited, ("pool", "reason"))
        self._offered = make.counter("job_offered", "Jobs accepted.", ("pool",))
        self._finished = make.counter("job_finished", "Jobs verified gone.", ("pool", "result", "reason"))
        self._provisioned = make.counter("runner_provisioned", "Runners begun.", ("pool",))
        self._destroyed = make.counter("runner_destroyed", "Deletions that the backend accepted.", ("pool",))
        self._vanished = make.counter("runner_vanished", "Runners gone before they had work.", ("pool",))
        self._alarms = make.counter("alarm", "Things that must not happen and did.", ("alarm",))
        self.begin()
        for alarm in ALARMS:
            self._alarms.labels(make.word("alarm", alarm))

    def begin(self) -> None:
        """Have every pool's counts begin at 0, so that the first of something is already an increase."""
        for pool in self._make.pools:
            for counter in (self._offered, self._provisioned, self._destroyed, self._vanished):
                counter.labels(pool)
            self._start.labels(pool)
            for outcome in ("started", "ended"):
                self._queue.labels(pool, outcome)
            for result in Result:
                self._job.labels(pool, result.value)

    def count(self, fact: Fact, job: JobProgress | None, moved: Moved, pool: str) -> None:
        """`job` is None for one whose offer was never seen; `moved` is what the fact ended."""
        if moved.phase is not None:
            self._phase.labels(moved.phase.value, pool).observe(moved.phase_seconds)
        if moved.waited_for:
            self._waited.labels(pool, moved.waited_for).inc(moved.waited_seconds)
        match fact.event:
            case events.JobOffered():
                self._offered.labels(pool).inc()
            case events.ProvisionStarted(number=number):
                self._provisioned.labels(pool).inc()
                if job is not None and number == 1:
                    queued = seconds(job.offered_at_ns, fact.at_ns)
                    self._queue.labels(pool, "started").observe(queued, exemplar(job.trace_id))
            case events.RunnerVanished():
                self._vanished.labels(pool).inc()
            case events.RunnerDeleted():
                self._destroyed.labels(pool).inc()
            case events.AlarmRaised(alarm=alarm):
                self._alarms.labels(self._make.word("alarm", alarm)).inc()
            case _ if job is not None:
                self._count_known(fact, job, pool)
            case _:
                pass

    def _count_known(self, fact: Fact, job: JobProgress, pool: str) -> None:
        match fact.event:
            case events.RunnerBound() as bound:
                for stage, lasted in start_seconds(job.observed, bound, job.runner_at_ns, fact.at_ns):
                    self._stage.labels(pool, stage).observe(max(lasted, 0.0))
                job.observed = ()
                self._start.labels(pool).observe(seconds(job.offered_at_ns, fact.at_ns), exemplar(job.trace_id))
            case events.PlatformJobNamed():
                self._naming.labels(pool).observe(seconds(job.bound_at_ns, fact.at_ns), exemplar(job.trace_id))
            case events.JobEnded(outcome):
                lasted = seconds(job.offered_at_ns, fact.at_ns)
                self._job.labels(pool, outcome.result.value).observe(lasted, exemplar(job.trace_id))
                if not job.provision_at_ns:
                    self._queue.labels(pool, "ended").observe(lasted, exemplar(job.trace_id))
            case events.JobFinished() if job.outcome is not None:
                self._finished.labels(pool, job.outcome.result.value, job.outcome.reason.value).inc()
            case _:
                pass
