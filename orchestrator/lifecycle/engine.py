"""The thin shell: performs what `decide` asks for, makes facts durable first, and nothing else.

One worker for each job; within one job every change of its record happens under its lock, so a claim, a
cancel and the worker never interleave. Side effects run outside the lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.bind import Refusal, judge_claim
from orchestrator.lifecycle.capacity import Slots
from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.live import LiveJob, LiveJobs
from orchestrator.lifecycle.observation import Action, Deadlines, Observation, Step
from orchestrator.lifecycle.ports import Clock, Journal, RunnerIdentity
from orchestrator.lifecycle.workqueue import WorkQueue
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import (
    Event,
    Fact,
    JobCancelRequested,
    JobOffered,
)
from orchestrator.model.job import JobId, JobOffer, PoolName
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record, apply, begin, fold
from orchestrator.model.runner import RunnerName

_HOLDS_SLOT = frozenset({Phase.PROVISIONING, Phase.BINDING, Phase.RUNNING, Phase.TEARDOWN})

_NOT_BEGUN = frozenset({Phase.QUEUED, Phase.WAITING})

_UNDER_LOCK = frozenset({Action.ASK_POLICY, Action.TAKE_SLOT})
"""Actions without side effects: their facts join one commit with the facts that follow from them."""


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
        self._journal = journal
        self._jobs = LiveJobs(journal)
        self._performer = performer
        self._pools = pools
        self._clock = clock
        self._deadlines = deadlines or Deadlines()
        self._max_jobs = max_jobs
        self._slots = {name: Slots(pool.capacity) for name, pool in pools.items()}
        self._queue = WorkQueue(self._work, clock)
        self._offering: dict[JobId, asyncio.Event] = {}
        self.unsure = False
        """An offer's commit failed: the journal may hold a job that is not in memory; the sweep looks."""
        self._draining = False

    # What others may ask.

    @property
    def live_count(self) -> int:
        return len(self._jobs)

    def record(self, job_id: JobId) -> Record | None:
        """The record of an unfinished job."""
        job = self._jobs.get(job_id)
        return job.record if job else None

    def record_of_runner(self, name: RunnerName) -> Record | None:
        """The unfinished job that this runner name belongs to."""
        job = self._jobs.of_runner(name)
        return job.record if job else None

    def bound_record(self, identity: RunnerIdentity) -> Record | None:
        """The running job bound to exactly this runner; None from the moment the job's end is recorded."""
        return self._jobs.bound(identity)

    def slots(self, pool: PoolName) -> Slots:
        return self._slots[pool]

    def live_ids(self) -> list[JobId]:
        return self._jobs.ids()

    def active_ids(self) -> list[JobId]:
        """Jobs for which a runner exists or may exist."""
        return [job_id for job_id in self._jobs.ids() if (job := self._jobs.get(job_id)) and _holds_runner(job.record)]

    def begin_drain(self) -> None:
        """Begin no job that has not begun: what is queued stays queued, for the next daemon."""
        self._draining = True

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
        job_id = offer.key.id
        while (other := self._offering.get(job_id)) is not None:
            await other.wait()
        done = self._offering[job_id] = asyncio.Event()
        try:
            return await self._offer(job_id, offer)
        finally:
            del self._offering[job_id]
            done.set()

    async def _offer(self, job_id: JobId, offer: JobOffer) -> tuple[Record, bool]:
        known = self._jobs.get(job_id)
        if known is not None:
            return _same(known.record, offer), False
        facts = await self._journal.facts_of(job_id)
        if facts:
            record = _same(fold(facts), offer)
            if record.phase is not Phase.FINISHED:
                self.adopt(record)
            return record, False
        if len(self._jobs) + len(self._offering) > self._max_jobs:
            raise TryAgainError(f"{self._max_jobs} jobs are unfinished; no more are taken in", reason="queue_full")
        try:
            (fact,) = await self._journal.append([(job_id, JobOffered(offer))])
        except BaseException:
            self.unsure = True
            raise
        record = begin(fact)
        self.adopt(record)
        return record, True

    def adopt(self, record: Record) -> None:
        """Take over a job from the journal, at start or when an offer's commit was in doubt."""
        if not self._jobs.add(record):
            return
        slots = self._slots.get(record.offer.spec.pool)
        if slots and _holds_runner(record):
            slots.adopt(record.id)
        self._queue.add(record.id)

    async def cancel(self, job_id: JobId, by: str, reason: str = "") -> Record | None:
        """Ask for a job's end; durable when this returns. Idempotent; None when the job is unknown or finished."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        async with job.lock:
            if job.record.cancel is None and job.record.outcome is None:
                await self._jobs.store(job, [JobCancelRequested(by, reason)])
        self._queue.add(job_id)
        return job.record

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
                    if refusal.facts:
                        await self._jobs.store(job, refusal.facts)
                    raise GiveUpError(str(refusal), reason=refusal.reason) from None
                await self._jobs.store(job, [bound])
                return job.record
        finally:
            self._queue.add(job.record.id)

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
            if job.record.phase is Phase.FINISHED:
                raise GiveUpError(f"job {job_id} is finished", reason="job_finished")
            await self._jobs.store(job, notes)

    async def idle(self) -> None:
        """Return when no worker runs."""
        await self._queue.idle()

    async def close(self) -> None:
        """Stop all workers; runners and journal stay as they are."""
        await self._queue.close()

    # The worker.

    async def _work(self, job_id: JobId) -> None:
        job = self._jobs.get(job_id)
        if job is None or (self._draining and job.record.phase in _NOT_BEGUN):
            return
        seen = Observation(
            now_ns=self._clock.now_ns(),
            pool=self._pool_of(job.record),
            revoked=job.revoked,
            deleted=_still_deleted(job),
            failures=job.failures,
            looks=job.looks,
        )
        while True:
            try:
                async with job.lock:
                    await self._jobs.refresh(job)
                    seen, step = await self._settle(job, seen)
            except TryAgainError:
                # The journal is away. Nothing was stored and nothing was done; every fact is derived again.
                job.failures += 1
                self._queue.wake_at(job_id, self._clock.now_ns() + 1_000_000_000)
                return
            if job.record.phase is Phase.FINISHED:
                self._drop(job.record)
                return
            if step.action is None:
                if step.wake_ns is not None:
                    self._queue.wake_at(job_id, step.wake_ns)
                return
            seen = await self._perform(job, step.action, seen)

    async def _settle(self, job: LiveJob, seen: Observation) -> tuple[Observation, Step]:
        """Decide until only an action with side effects, or waiting, is left; then make all facts durable at once."""
        record = job.record
        facts: list[Event] = []
        while True:
            step = decide(record, seen, self._deadlines)
            if step.facts:
                facts.extend(step.facts)
                before = record.phase
                for event in step.facts:
                    record = apply(record, Fact(record.id, seen.now_ns, event))
                if record.phase is not before:
                    seen = _fresh(seen)
                continue
            if step.action in _UNDER_LOCK:
                seen = self._now(await self._performer.ask(step.action, record, seen, self._slots))
                continue
            if facts:
                await self._jobs.store(job, facts)
            return seen, step

    async def _perform(self, job: LiveJob, action: Action, seen: Observation) -> Observation:
        seen = await self._performer.perform(action, job.record, seen)
        job.failures = seen.failures
        job.looks = seen.looks
        job.revoked = seen.revoked
        job.deleted = seen.deleted
        return self._now(seen)

    def _now(self, seen: Observation) -> Observation:
        """The same observation after time has passed."""
        return replace(seen, now_ns=self._clock.now_ns())

    def _pool_of(self, record: Record) -> Pool | None:
        return self._pools.get(record.offer.spec.pool)

    def _drop(self, record: Record) -> None:
        self._queue.forget(record.id)
        self._jobs.remove(record.id)
        slots = self._slots.get(record.offer.spec.pool)
        for granted in slots.release(record.id) if slots else ():
            self._queue.add(granted)


def _holds_runner(record: Record) -> bool:
    return record.phase in _HOLDS_SLOT and record.runner is not None


_DELETE_AGAIN_EVERY = 5
"""A deletion that was accepted is repeated when this many looks in a row still found the runner."""


def _still_deleted(job: LiveJob) -> bool:
    accepted = job.deleted or job.record.deletion_accepted
    return accepted and job.looks % _DELETE_AGAIN_EVERY != _DELETE_AGAIN_EVERY - 1


def _same(record: Record, offer: JobOffer) -> Record:
    if record.offer.fingerprint != offer.fingerprint:
        raise GiveUpError(
            "this idempotency key was used for a job with another content",
            reason="idempotency_key_reused",
            fix="send a new key for a new job, or the very same body for a retry",
        )
    return record


def _fresh(seen: Observation) -> Observation:
    """In a new phase earlier answers and failures no longer count; what the backend showed still does."""
    if seen.decision is None and seen.slot is None and seen.failure is None and not seen.failures:
        return seen
    return replace(seen, decision=None, slot=None, failure=None, failures=0)
