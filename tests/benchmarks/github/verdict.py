"""The judge over server and journal, and the figures that follow from both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from arena import Burst, service_calls
from cluster import figure, percentile

from orchestrator.daemon.clock import SystemClock
from orchestrator.intake.github.names import runner_of
from orchestrator.journal.port import JobQuery
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.events import Fact, PlatformJobNamed, RunnerBound
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason
from orchestrator.model.record import Record, fold
from orchestrator.model.runner import RunnerName, runner_name
from orchestrator.testing.checker import World, broken_promises
from orchestrator.testing.github.model import Job, JobState
from orchestrator.testing.github.server import GitHubServer

Figures = dict[str, dict[str, object]]
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Verdict:
    """What journal and server say together. `records` counts runners made for `jobs`."""

    jobs: int
    records: int
    bound_at: Mapping[RunnerName, float]
    proofs: Counter[str]
    history: Mapping[JobId, Sequence[Fact]]


async def judge(
    state: Path, jobs: Sequence[Job], server: GitHubServer, remaining: Sequence[RunnerName] = ()
) -> Verdict:
    """Every job ran once on one runner, by the server's record, by the journal, and by both together.

    Raises:
        AssertionError: one is lost, ran twice, or something is left behind.
    """
    assert Counter(job.result for job in jobs) == {"succeeded": len(jobs)}, Counter(job.result for job in jobs)
    twice = [job.id for job in jobs if job.starts != 1]
    assert not twice, f"jobs started more than once: {twice[:5]}"
    assert all(job.state is JobState.COMPLETED for job in jobs)
    assert not server.state.runners, f"{len(server.state.runners)} registrations are left at GitHub"
    history = await _history(state)
    records = {job_id: fold(facts) for job_id, facts in history.items()}
    bound = {fact.job_id: fact for facts in history.values() for fact in facts if isinstance(fact.event, RunnerBound)}
    handed_out = [(job_id, fact.event.uid) for job_id, fact in bound.items() if isinstance(fact.event, RunnerBound)]
    world = World(accepted=list(history), handed_out=handed_out, remaining=remaining)
    assert (broken := broken_promises(world, history)) == [], broken[:5]
    by_runner = {runner_name(job_id): record for job_id, record in records.items()}
    proofs: Counter[str] = Counter()
    for job in jobs:
        proofs[_agreed(job, by_runner)] += 1
    at = {runner_name(job_id): fact.at_ns / 1e9 for job_id, fact in bound.items()}
    return Verdict(len(jobs), len(records), at, proofs, history)


def _agreed(job: Job, by_runner: Mapping[RunnerName, Record]) -> str:
    """The server's job and the journal's record of its runner tell the same story; how the job was proven."""
    runner = runner_of(job.runner_name)
    assert runner is not None, f"job {job.id} ran on {job.runner_name!r}, which is no runner of ours"
    record = by_runner[runner]
    assert record.outcome is not None, f"the record of job {job.id} has no end"
    assert record.outcome.reason is EndReason.COMPLETED, f"{job.id}: {record.outcome}"
    ids = (job.run.repository.id, job.run.id, job.attempt, job.check_run_id)
    assert record.platform is not None
    assert record.platform.key.split("/")[1:] == [str(one) for one in ids], f"{job.id} is {record.platform.key} here"
    return record.platform.proof


async def _history(state: Path) -> dict[JobId, Sequence[Fact]]:
    journal = await SqliteJournal.open(state / "journal.db", SystemClock())
    found: dict[JobId, Sequence[Fact]] = {}
    after = ""
    try:
        while page := await journal.jobs(JobQuery(after=after, limit=200)):
            for line in page:
                found[line.job_id] = await journal.facts_of(line.job_id)
            after = page[-1].job_id
    finally:
        await journal.close()
    named = Counter(fact.event.job.key for facts in found.values() for fact in facts if _names(fact))
    assert all(times == 1 for times in named.values()), named.most_common(3)
    return found


def _names(fact: Fact) -> bool:
    return isinstance(fact.event, PlatformJobNamed)


def began(job: Job) -> float:
    """When the job's own step said that it ran; it must have said so once."""
    said = [line for line in job.log.splitlines() if line.startswith("began=")]
    assert len(said) == 1, f"job {job.id} said its line {len(said)} times:\n{job.log}"
    return float(said[0].removeprefix("began="))


def latencies(jobs: Sequence[Job], verdict: Verdict) -> Figures:
    """Since each job was queued, and since GitHub gave it to our set, which it does when we have said there is room."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        runner = runner_of(job.runner_name)
        assert runner is not None
        assert job.assigned_at is not None
        assert job.started_at is not None
        bound, step = verdict.bound_at[runner], began(job)
        took = {
            "queued_to_bound": bound - job.created_at,
            "queued_to_started": job.started_at - job.created_at,
            "queued_to_first_step": step - job.created_at,
            "assigned_to_bound": bound - job.assigned_at,
            "assigned_to_started": job.started_at - job.assigned_at,
            "started_to_first_step": step - job.started_at,
        }
        for name, seconds in took.items():
            found.setdefault(name, []).append(seconds)
    return {
        f"{name}_{word}": figure(percentile(seconds, share), None, "s")
        for name, seconds in found.items()
        for word, share in SHARES.items()
    }


def print_steps(burst: Burst, verdict: Verdict) -> None:
    """Where a runner's time went in the burst: medians between its facts."""
    since = min(job.created_at for job in burst.many) * 1e9
    steps: dict[tuple[str, str], list[float]] = {}
    for facts in verdict.history.values():
        for before, fact in pairwise(facts if facts[0].at_ns > since else ()):
            if fact.at_ns > before.at_ns:
                names = (type(before.event).__name__, type(fact.event).__name__)
                steps.setdefault(names, []).append((fact.at_ns - before.at_ns) / 1e6)
    for (before_name, after_name), took in steps.items():
        print(f"  {before_name} to {after_name}: median {percentile(took, 0.5):.1f} ms, in {len(took)} runners")


def figures_of(burst: Burst, verdict: Verdict, rate: float | None = None, cpu: float | None = None) -> Figures:
    """What every burst has, `rate` and `cpu` (jobs a second, processor seconds for each) being the floor's."""
    jobs = len(burst.many)
    service = service_calls(burst.calls)
    held = sum((job.completed_at or 0.0) - (job.assigned_at or 0.0) for job in burst.many)
    print(f"{jobs} jobs, {burst.at_once} at once: none lost, none twice; proven by {dict(verdict.proofs)}")
    for name, count in sorted(burst.calls.items(), key=lambda one: -one[1]):
        print(f"  {count:6} {count / jobs:7.3f} a job  {name}")
    print_steps(burst, verdict)
    alone = {f"alone_{name}": value for name, value in latencies(burst.alone, verdict).items()}
    return {
        "jobs_per_second": figure(jobs / burst.seconds, rate, "1/s"),
        "service_calls_per_job": figure(service / jobs, None, "", aim="<= 4", arc="8 to 9"),
        "rest_calls_per_job": figure((sum(burst.calls.values()) - service) / jobs, None, ""),
        "runners_per_job": figure(verdict.records / verdict.jobs, None, "", aim="1"),
        "slots_in_use": figure(held / burst.seconds, burst.at_once, ""),
        "cpu_per_job": figure(sum(burst.cpu.values()) / jobs * 1e3, cpu * 1e3 if cpu else None, "ms"),
        "cpu_per_job_daemon": figure(burst.cpu["daemon"] / jobs * 1e3, None, "ms"),
        "memory_idle": figure(burst.memory_before, None, "MiB"),
        "memory_peak": figure(burst.memory_peak, burst.memory_before, "MiB"),
        **latencies(burst.many, verdict),
        **alone,
    }
