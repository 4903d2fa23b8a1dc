"""All live jobs, and who may ask what of them: the front of the engine; `worker` is what moves the jobs on."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.errors import GiveUpError
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.bind import Refusal, judge_claim
from orchestrator.lifecycle.capacity import Slots
from orchestrator.lifecycle.live import LiveJobs
from orchestrator.lifecycle.naming import Namings
from orchestrator.lifecycle.observation import Deadlines
from orchestrator.lifecycle.observed import unrecorded
from orchestrator.lifecycle.offers import Offers
from orchestrator.lifecycle.patience import Patience
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import Clock, Journal, RunnerIdentity
from orchestrator.lifecycle.why import Surroundings
from orchestrator.lifecycle.worker import Worker
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import Event, JobCancelRequested, JobEnded, RunnerObserved
from orchestrator.model.job import JobId, JobOffer, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import Phase
from orchestrator.model.platform import PlatformJob, PlatformResult
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName

_HOLDS_SLOT = frozenset({Phase.PROVISIONING, Phase.BINDING, Phase.RUNNING, Phase.TEARDOWN})


class Engine:
    """All live jobs, and the only writer of their records.

    `pools` are the configured ones; `max_jobs` bounds the unfinished jobs. Call `adopt` for each job that
    the journal had (see `recovery`), then `offer` freely. `close` stops looking; nothing is lost by it.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        performer: Performer,
        pools: Mapping[PoolName, Pool],
        clock: Clock,
        deadlines: Deadlines | None = None,
        max_jobs: int = 20_000,
    ) -> None:
        self._journey = performer.journey
        self._jobs = LiveJobs(journal, self._journey)
        self._pools = Pools.over(pools)
        self._offers = Offers(journal, self._jobs, self.adopt, max_jobs)
        self._worker = Worker(self._jobs, performer, self._pools, clock, deadlines or Deadlines())
        self._queue = self._worker.queue
        patience, wake = self._worker.patience, self._queue.add
        self._namings = Namings(journal, self._jobs, performer.policy, self._pools, patience, wake)

    # What others may ask.

    @property
    def patience(self) -> Patience:
        """For every call to the outside."""
        return self._worker.patience

    @property
    def live_count(self) -> int:
        return len(self._jobs)

    def record(self, job_id: JobId) -> Record | None:
        """The record of an unfinished job."""
        job = self._jobs.get(job_id)
        return job.record if job else None

    async def current(self, job_id: JobId) -> Record | None:
        """The record of an unfinished job once no change of it is under way.

        Raises:
            TryAgainError: what is recorded is in doubt, and the journal cannot be read.
        """
        job = self._jobs.get(job_id)
        if job is None:
            return None
        async with job.lock:
            await self._jobs.refresh(job)
            return job.record

    def record_of_runner(self, name: RunnerName) -> Record | None:
        """The unfinished job that this runner name belongs to."""
        job = self._jobs.of_runner(name)
        return job.record if job else None

    def bound_record(self, identity: RunnerIdentity) -> Record | None:
        """The running job bound to exactly this runner; None from the moment the job's end is recorded.

        It has an identity only if it is also `live`: of a runner whose job is not named yet this is the record too.
        """
        return self._jobs.bound(identity)

    def slots(self, pool: PoolName) -> Slots:
        return self._worker.slots[pool]

    def around(self, record: Record, *, place: bool = True) -> Surroundings:
        """What is known beside a record of why its job stands where it stands; for `why.why`. Only with `place` its
        place in the line is counted, which takes time with the length of the line."""
        return self._worker.around(record, place=place)

    def under_way(self, record: Record) -> RunnerObserved | None:
        """What was seen of the way of the record's runner and is not on record yet, without asking anybody."""
        return unrecorded(record, self._journey(record)) if record.outcome is None else None

    def live_ids(self) -> list[JobId]:
        return self._jobs.ids()

    def active_ids(self) -> list[JobId]:
        """Jobs for which a runner exists or may exist."""
        return [job_id for job_id in self._jobs.ids() if (job := self._jobs.get(job_id)) and _holds_runner(job.record)]

    def begin_drain(self) -> None:
        """Begin no job that has not begun: what is queued stays queued, for the next daemon or `end_drain`."""
        self._worker.draining = True

    def end_drain(self) -> None:
        """Begin jobs again."""
        self._worker.draining = False
        for job_id in self._jobs.ids():
            self._queue.add(job_id)

    def pools_changed(self, pools: Mapping[PoolName, Pool], deadlines: Deadlines) -> None:
        """Go by these from now on. Jobs whose runner was begun keep their pool as it was; those of a pool that is gone
        end with a reason when they are looked at, which is soon."""
        self._pools.replace(pools)
        self._worker.deadlines = deadlines
        self._worker.pools_changed()
        for job_id in self._jobs.ids():
            self._queue.add(job_id)

    def look_at(self, job_id: JobId) -> None:
        """Have a job looked at soon; a hint that may come twice or not at all."""
        if self._jobs.get(job_id):
            self._queue.add(job_id)

    def runner_changed(self, name: RunnerName) -> None:
        """For `Backend.subscribe`."""
        job = self._jobs.of_runner(name)
        if job:
            self._queue.add(job.record.id)

    async def offer(self, offer: JobOffer) -> tuple[Record, bool]:
        """Take a job in. Returns its record once the offer is durable, and whether it is new.

        Raises:
            TryAgainError: reason `queue_full` or `journal_unavailable`; nothing was taken in.
            GiveUpError: reason `idempotency_key_reused`: the same key with another content.
        """
        return await self._offers.take(offer)

    @property
    def unsure(self) -> Collection[JobId]:
        """Offers whose commit failed: the journal may hold a job that is not in memory. For the sweep."""
        return self._offers.unsure

    async def settle(self, job_id: JobId) -> None:
        """Take over the job of an offer in doubt, if the journal has it.

        Raises:
            TryAgainError: the journal cannot be read.
        """
        await self._offers.settle(job_id)

    def adopt(self, record: Record) -> None:
        """Take over a job from the journal, at start or when an offer's commit was in doubt."""
        if not self._jobs.add(record):
            return
        name = record.offer.spec.pool
        slots, pool = self._worker.slots.get(name), self._pools.get(name)
        if slots and _holds_runner(record):
            slots.adopt(record.id)
        if pool and record.runner is not None:
            self._pools.begin(record.id, pool)
        self._queue.add(record.id)

    async def cancel(self, job_id: JobId, by: str, reason: str = "") -> Record | None:
        """Ask for a job's end; durable when this returns. Idempotent; None when the job is unknown or finished."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        try:
            async with job.lock:
                await self._jobs.refresh(job)
                if job.record.cancel is None and job.record.outcome is None:
                    await self._jobs.store(job, [JobCancelRequested(by, reason)])
                return job.record
        finally:
            self._queue.add(job_id)

    async def claim(self, identity: RunnerIdentity, proof: EgressProof) -> Record:
        """Bind a runner to its job. The binding is durable when this returns; only then may the work go out.

        Raises:
            GiveUpError: reason `already_bound`, `job_ended`, `runner_unknown` or `egress_unproven`.
            TryAgainError: the journal could not take the binding; nothing was bound.
        """
        job = self._jobs.of_runner(identity.name)
        if job is None:
            raise GiveUpError("this runner has no job", reason="runner_unknown")
        try:
            async with job.lock:
                await self._jobs.refresh(job)
                try:
                    bound = judge_claim(job.record, self._pool_of(job.record), identity, proof)
                except Refusal as refusal:
                    await self._jobs.store_news(job, refusal.facts)
                    raise GiveUpError(str(refusal), reason=refusal.reason) from None
                await self._jobs.store(job, [bound])
                return job.record
        finally:
            self._queue.add(job.record.id)

    async def abandon(self, job_id: JobId, message: str) -> None:
        """The runner has claimed its work and it cannot be had: end the job, for nobody asks again. Durable when this
        returns; nothing for a job that does not run.

        Raises:
            TryAgainError: the journal could not take it.
        """
        job = self._jobs.get(job_id)
        if job is None:
            return
        try:
            async with job.lock:
                await self._jobs.refresh(job)
                if job.record.bound:
                    ended = JobEnded(Outcome(Result.ERROR, EndReason.WORK_UNAVAILABLE, message))
                    await self._jobs.store(job, [ended])
        finally:
            self._queue.add(job_id)

    async def name_job(self, runner: RunnerName, job: PlatformJob) -> Record:
        """The platform has proven which job this runner got: store it, and what policy says of it. Durable when this
        returns; from then on the job has an identity. Idempotent for the same key.

        Raises:
            GiveUpError: `runner_unknown`, `not_awaiting`, `job_ended`, `unknown_pool`; `second_job` and
                `job_already_named`, with which the runner's record ends; `policy_denied`, `policy_undefined` and
                `policy_error`, with policy's reasons for the job's author as the message.
            TryAgainError: journal or policy gave no answer; whether the job is named is known when asked again.
        """
        return await self._namings.name(runner, job)

    async def complete_job(self, runner: RunnerName, result: PlatformResult) -> Record:
        """The platform says how the job of this runner ended; durable when this returns. Only the first word counts.

        Raises:
            GiveUpError: `runner_unknown`, `not_awaiting` or `job_ended`.
            TryAgainError: the journal could not take it.
        """
        return await self._namings.complete(runner, result)

    async def note(self, job_id: JobId, *notes: Event) -> None:
        """Append facts that change no phase; durable when this returns.

        Raises:
            GiveUpError: reason `job_finished`: too late to add to this job.
            TryAgainError: the journal could not take them.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise GiveUpError(f"job {job_id} is finished or unknown", reason="job_finished")
        async with job.lock:
            await self._jobs.refresh(job)
            if job.record.phase is Phase.FINISHED:
                raise GiveUpError(f"job {job_id} is finished", reason="job_finished")
            await self._jobs.store(job, notes)

    async def idle(self) -> None:
        """Return when no worker runs."""
        await self._queue.idle()

    async def close(self) -> None:
        """Stop all workers; runners and journal stay as they are."""
        await self._queue.close()

    def _pool_of(self, record: Record) -> Pool | None:
        return self._pools.of(record)


def _holds_runner(record: Record) -> bool:
    return record.phase in _HOLDS_SLOT and record.runner is not None
