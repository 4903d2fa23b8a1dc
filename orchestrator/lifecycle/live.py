"""The live jobs in memory: each one's record, its lock, and the way its facts become durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.errors import TryAgainError
from orchestrator.lifecycle.observed import tells, with_journey
from orchestrator.lifecycle.ports import Journal, RunnerIdentity
from orchestrator.model.events import AlarmRaised, Event, JobEnded
from orchestrator.model.job import JobId
from orchestrator.model.journey import Journey
from orchestrator.model.record import Record, apply, fold
from orchestrator.model.runner import RunnerName, runner_name

_DELETE_AGAIN_EVERY = 5
"""A deletion that was accepted is repeated when this many looks in a row still found the runner."""


@dataclass(slots=True)
class LiveJob:
    """One unfinished job, and what survives between passes but not a restart.

    `lock` is held for every change of `record`; `stale` means that the journal may know more than we do, and
    `ending` that an end is on its way there: from then on the job's identity is worth nothing. `alarms` are the
    kinds that a claim has raised already: whoever claims for ever does not fill the journal. `trouble` is what the last
    try to move the job on ran into, for people; empty when it ran into nothing. `unrecorded` is
    why the last facts of the job could not be stored; None when they were.
    """

    record: Record
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stale: bool = False
    ending: bool = False
    failures: int = 0
    looks: int = 0
    revoked: bool = False
    revoked_ns: int = 0
    deleted: bool = False
    trouble: str = ""
    unrecorded: TryAgainError | None = None
    alarms: set[str] = field(default_factory=set)

    @property
    def still_deleted(self) -> bool:
        """The backend took the deletion, and it is not yet time to ask again."""
        accepted = self.deleted or self.record.deletion_accepted
        return accepted and self.looks % _DELETE_AGAIN_EVERY != _DELETE_AGAIN_EVERY - 1


class LiveJobs:
    """All unfinished jobs, by id and by the one name their runner can have.

    `journey` says what was seen of the way of a job's runner, without asking anybody; it must not raise.
    """

    def __init__(self, journal: Journal, journey: Callable[[Record], Journey | None] = lambda _: None) -> None:
        self._journal = journal
        self._journey = journey
        self._jobs: dict[JobId, LiveJob] = {}
        self._by_runner: dict[RunnerName, JobId] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def ids(self) -> list[JobId]:
        return list(self._jobs)

    def get(self, job_id: JobId) -> LiveJob | None:
        return self._jobs.get(job_id)

    def of_runner(self, name: RunnerName) -> LiveJob | None:
        job_id = self._by_runner.get(name)
        return self._jobs.get(job_id) if job_id else None

    def bound(self, identity: RunnerIdentity) -> Record | None:
        """The running job bound to exactly this runner; None from the moment the job's end is recorded."""
        job = self.of_runner(identity.name)
        if job is None or job.ending or not job.record.bound or job.record.bound_uid != identity.uid:
            return None
        return job.record

    def add(self, record: Record) -> bool:
        """False when the job is here already."""
        job_id = record.id
        if job_id in self._jobs:
            return False
        self._jobs[job_id] = LiveJob(record)
        self._by_runner[runner_name(job_id)] = job_id
        return True

    def remove(self, job_id: JobId) -> None:
        self._jobs.pop(job_id, None)
        self._by_runner.pop(runner_name(job_id), None)

    async def store(self, job: LiveJob, facts: Sequence[Event]) -> None:
        """Make facts durable and fold them; the caller holds the lock.

        Raises:
            TryAgainError: the journal failed. Whether it stored them is read again before the next use.
            GiveUpError: the journal refuses these facts.
        """
        job_id = job.record.id
        if any(isinstance(event, JobEnded) for event in facts):
            job.ending = True
        if tells(facts):
            facts = with_journey(job.record, self._journey(job.record), facts)
        try:
            stored = await self._journal.append([(job_id, event) for event in facts])
        except BaseException as error:
            job.stale = True
            job.unrecorded = error if isinstance(error, TryAgainError) else job.unrecorded
            raise
        job.unrecorded = None
        for fact in stored:
            job.record = apply(job.record, fact)

    async def store_news(self, job: LiveJob, facts: Sequence[Event]) -> None:
        """Store what a refused call leaves behind, but no alarm of a kind that was raised for this job before."""
        news = [fact for fact in facts if not _raised_before(job, fact)]
        if news:
            await self.store(job, news)

    async def refresh(self, job: LiveJob) -> None:
        """Read the truth again if it is in doubt; the caller holds the lock."""
        if job.stale:
            job.record = fold(await self._journal.facts_of(job.record.id))
            job.stale = job.ending = False


def _raised_before(job: LiveJob, fact: Event) -> bool:
    if not isinstance(fact, AlarmRaised):
        return False
    before = fact.alarm in job.alarms
    job.alarms.add(fact.alarm)
    return before
