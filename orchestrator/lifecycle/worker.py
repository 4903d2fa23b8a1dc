"""The thin shell: performs what `decide` asks for, makes facts durable first, and nothing else.

One worker for each job; within one job every change of its record happens under its lock, so a claim, a
cancel and the worker never interleave. Side effects run outside the lock.
"""

from __future__ import annotations

import logging

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.capacity import Slots
from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.live import LiveJob, LiveJobs
from orchestrator.lifecycle.observation import SECOND, Action, Deadlines, Observation, Step, learnt
from orchestrator.lifecycle.patience import Patience
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import Clock
from orchestrator.lifecycle.why import Surroundings
from orchestrator.lifecycle.workqueue import WorkQueue
from orchestrator.model.events import AlarmRaised, Event, Fact, ProvisionStarted
from orchestrator.model.job import JobId
from orchestrator.model.journey import RunnerStage
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record, apply

_log = logging.getLogger(__name__)

_NOT_BEGUN = frozenset({Phase.QUEUED, Phase.WAITING})

_UNDER_LOCK = frozenset({Action.ASK_POLICY, Action.TAKE_SLOT})
"""Actions without side effects: their facts join one commit with the facts that follow from them."""


class Worker:
    """Takes every job in `queue` as far as it goes now. `slots` are those of the pools, by name."""

    def __init__(
        self,
        jobs: LiveJobs,
        performer: Performer,
        pools: Pools,
        clock: Clock,
        deadlines: Deadlines,
    ) -> None:
        self._jobs = jobs
        self._performer = performer
        self._pools = pools
        self._clock = clock
        self.deadlines = deadlines
        self.patience = Patience(clock, deadlines.call_ns)
        self.slots = {name: Slots(pool.capacity) for name, pool in pools.items()}
        self.queue = WorkQueue(self._work, clock, self._failing)
        self.draining = False
        """Begin no job that has not begun."""

    def pools_changed(self) -> None:
        """Go by the capacity that pools have now. One that is gone keeps its slots: they may be held."""
        for name, pool in self._pools.items():
            slots = self.slots.setdefault(name, Slots(pool.capacity))
            for granted in slots.resize(pool.capacity):
                self.queue.add(granted)

    def around(self, record: Record, *, place: bool = True) -> Surroundings:
        """What is known here of why the job stands where it stands, beside its record; see `Engine.around`."""
        job, pool = self._jobs.get(record.id), self._pools.of(record)
        slots = self.slots.get(record.offer.spec.pool)
        return Surroundings(
            self.deadlines,
            pool,
            in_use=slots.held if slots else None,
            before=slots.before(record.id) if slots and place else None,
            draining=self.draining,
            trouble=job.trouble if job else "",
            unrecorded=job.unrecorded if job else None,
            stage=self._stage(record),
        )

    def _stage(self, record: Record) -> RunnerStage | None:
        """What the job's runner is at, as far as was seen without asking anybody."""
        journey = self._performer.journey(record) if record.outcome is None else None
        if journey is None or not journey.stages or journey.uid != (record.bound_uid or record.runner_uid):
            return None
        return journey.stages[-1].stage

    async def _work(self, job_id: JobId) -> None:
        job = self._jobs.get(job_id)
        if job is None or (self.draining and job.record.phase in _NOT_BEGUN):
            return
        seen = Observation(
            now_ns=self._clock.now_ns(),
            pool=self._pools.of(job.record),
            phase=job.record.phase,
            revoked=job.revoked,
            revoked_ns=job.revoked_ns,
            deleted=job.still_deleted,
            failures=job.failures,
            looks=job.looks,
        )
        while True:
            try:
                async with job.lock:
                    await self._jobs.refresh(job)
                    seen, step = await self._settle(job_id, job, seen)
                job.unrecorded = None
            except TryAgainError as error:
                # The journal is away. Nothing was stored and nothing was done; every fact is derived again.
                job.failures += 1
                job.trouble = str(error)
                self.queue.wake_at(job_id, self._clock.now_ns() + SECOND)
                return
            except GiveUpError as error:
                if not seen.evidence:
                    raise
                # The journal takes no such evidence, today or tomorrow: the job is finished without it.
                _log.error("evidence of job %s refused: %s", job_id, error)
                seen = learnt(seen, evidence=(AlarmRaised("evidence_refused", error.reason),))
                continue
            if job.record.phase is Phase.FINISHED:
                self._drop(job_id, job.record)
                return
            if step.vacant or step.action is Action.CLOSE:
                # Verified gone. A source that cannot be told of the end, or does not tell it, holds up no other job.
                self._free(job_id, job.record)
            if step.action is None:
                if step.wake_ns is not None:
                    self.queue.wake_at(job_id, step.wake_ns)
                return
            seen = await self._perform(job, step.action, seen, step.wake_ns)

    async def _failing(self, job_id: JobId, error: Exception) -> None:
        """Whoever waits for the job shall not have to read our log to learn that we are stuck with it."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        detail = f"the daemon fails again and again at this job ({type(error).__name__}); its log says where"
        try:
            async with job.lock:
                await self._jobs.store(job, [AlarmRaised("worker_failing", detail)])
        except Exception:  # noqa: BLE001 -- what keeps the worker from working may keep this from being stored
            _log.exception("that the worker of job %s keeps failing could not be noted", job_id)

    async def _settle(self, job_id: JobId, job: LiveJob, seen: Observation) -> tuple[Observation, Step]:
        """Decide until only an action with side effects, or waiting, is left; then make all facts durable at once."""
        record = job.record
        if record.phase is not seen.phase:
            # A claim or a cancel came while the last action was under way.
            seen = self._entering(job, seen, record)
        facts: list[Event] = []
        while True:
            step = decide(record, seen, self.deadlines)
            if step.facts:
                facts.extend(step.facts)
                for event in step.facts:
                    record = apply(record, Fact(job_id, seen.now_ns, event))
                    if isinstance(event, ProvisionStarted) and seen.pool is not None:
                        self._pools.begin(job_id, seen.pool)
                if record.phase is not seen.phase:
                    seen = self._entering(job, seen, record)
                continue
            if step.action in _UNDER_LOCK:
                seen = self._now(
                    await self._performer.ask(step.action, record, seen, self.slots, self.patience, step.wake_ns),
                    record,
                )
                continue
            if facts:
                await self._jobs.store(job, facts)
            return seen, step

    def _entering(self, job: LiveJob, seen: Observation, record: Record) -> Observation:
        job.failures = job.looks = 0
        job.trouble = ""
        return learnt(seen.entering(record.phase), pool=self._pools.of(record))

    async def _perform(self, job: LiveJob, action: Action, seen: Observation, deadline_ns: int | None) -> Observation:
        seen = await self._performer.perform(action, job.record, seen, self.patience, deadline_ns)
        job.failures = seen.failures
        job.looks = seen.looks
        if seen.revoked and not job.revoked:
            job.revoked_ns = self._clock.now_ns()
            seen = learnt(seen, revoked_ns=job.revoked_ns)
        job.revoked = seen.revoked
        job.deleted = seen.deleted
        failure = seen.failure or seen.unrevoked
        job.trouble = failure.text if failure is not None else ""
        return self._now(seen, job.record)

    def _now(self, seen: Observation, record: Record) -> Observation:
        """The same observation after time has passed, in which pools may have changed."""
        return learnt(seen, now_ns=self._clock.now_ns(), pool=self._pools.of(record))

    def _drop(self, job_id: JobId, record: Record) -> None:
        self.queue.forget(job_id)
        self._jobs.remove(job_id)
        self._pools.forget(job_id)
        self._free(job_id, record)

    def _free(self, job_id: JobId, record: Record) -> None:
        """Give the job's slot, or its place in line, to those who wait."""
        slots = self.slots.get(record.offer.spec.pool)
        for granted in slots.release(job_id) if slots else ():
            self.queue.add(granted)
