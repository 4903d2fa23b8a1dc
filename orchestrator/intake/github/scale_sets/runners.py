"""The runners that one scale set has demanded: offered, counted, and taken back when they are not needed any more."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.intake.github.errors import BusyError
from orchestrator.intake.github.names import demand_key, filler_key, ref_of_key, runner_of
from orchestrator.intake.github.registrations import Registrations
from orchestrator.intake.github.runner_offer import SCALE_SET, runner_offer
from orchestrator.intake.github.scale_sets.demand import (
    Backoff,
    Envelope,
    Ledger,
    Patient,
    Plan,
    Slot,
    SlotState,
    Untold,
    ended_without_job,
    is_jobless,
    plan,
    slot_of,
    waits_for_the_word,
)
from orchestrator.intake.github.scale_sets.messages import JobMessage
from orchestrator.intake.github.source_config import EngineOf, FreeRunners, ScaleSetConfig, SourceConfig
from orchestrator.intake.github.tally import Tally
from orchestrator.model.job import JobId, JobKey
from orchestrator.model.record import Record
from orchestrator.model.runner import runner_name

_MOST = 100_000
"""Runners of a set that has no bound of its own."""
_AT_ONCE = 64

_log = logging.getLogger(__name__)


class SetRunners:
    """One set's slots. `assigned` is the service's last believed count, None until there was one.

    What is here in memory is found again after a kill: the slots are the engine's unfinished records, and the count
    comes with the next session.
    """

    def __init__(
        self,
        source: SourceConfig,
        config: ScaleSetConfig,
        engine: EngineOf,
        free: FreeRunners,
        registrations: Registrations,
        tally: Tally,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._config = config
        self._engine = engine
        self._free = free
        self._registrations = registrations
        self._tally = tally
        self._now = now
        self._ids: dict[JobId, None] = {}
        self._busy: set[JobId] = set()
        self._done: set[JobId] = set()
        self._exited: dict[JobId, float] = {}
        self._failed: set[JobId] = set()
        self._untold = Untold()
        self._lock = asyncio.Lock()
        self._patient = Patient(source.timing.surplus_grace)
        self._fill = Backoff(source.timing.fill_first, source.timing.fill_longest)
        self.ledger = Ledger()
        self.assigned: int | None = None
        self._running = 0
        self.withheld = 0
        self.short = 0
        self.look_at: float | None = None
        """When the next look is due if nothing else happens, in monotonic seconds."""

    def adopt(self) -> None:
        """Take over the records that the engine has of this set; for the start."""
        for job_id in self._engine().live_ids():
            record = self._engine().record(job_id)
            if record is not None and self.owns(record) and job_id not in self._ids:
                self._ids[job_id] = None
                if record.outcome is None and (ref := ref_of_key(record.offer.key)):
                    self.ledger.assume(ref)

    def owns(self, record: Record) -> bool:
        """Whether this set demanded the record's runner."""
        spec = record.offer.spec
        return record.offer.key.source == self._source.name and spec.claimed.get(SCALE_SET) == self._config.key

    def ended(self, record: Record) -> None:
        """A record of this set is at its end: a runner that never had a job makes the next filler wait."""
        if record.id not in self._ids:
            return
        self._see_failure(record)
        self._see_untold(record)
        self._forget(record.id)
        self.ledger.settled(runner_name(record.id))
        if record.named_at_ns:
            self._fill.succeeded()

    def _see_untold(self, record: Record) -> None:
        if record.outcome is not None and record.named_at_ns and record.completed is None:
            self._untold.ended(runner_name(record.id), self._now())

    def _see_failure(self, record: Record) -> None:
        """Many that fail at once are one failure; each is seen once, as soon as its runner has ended."""
        if record.id in self._failed or not ended_without_job(record):
            return
        self._failed.add(record.id)
        now = self._now()
        if now >= self._fill.until:
            self._fill.failed(now, random.uniform(0.5, 1.0))  # noqa: S311 -- spreads load, hides nothing

    def hear(self, jobs: Sequence[JobMessage]) -> Envelope:
        """Sort an envelope, and take note of which runners have a job or are done, whatever becomes of their names."""
        envelope = self.ledger.read(jobs)
        for known, messages in ((self._busy, envelope.started), (self._done, envelope.completed)):
            for message in messages:
                runner = runner_of(message.runner_name)
                if runner is not None and known is self._done:
                    self._untold.told(runner)
                record = self._engine().record_of_runner(runner) if runner is not None else None
                if record is not None and record.id in self._ids:
                    known.add(record.id)
        return envelope

    def slots(self) -> list[Slot]:
        """The set's runners as they are now."""
        found = []
        for job_id in tuple(self._ids):
            record = self._engine().record(job_id)
            if record is None:
                self._forget(job_id)
                continue
            self._see_failure(record)
            self._see_untold(record)
            slot = slot_of(record)
            if job_id in self._done:
                slot = replace(slot, state=SlotState.OVER)
            elif job_id in self._busy and slot.state is SlotState.FREE:
                slot = replace(slot, state=SlotState.BUSY)
            found.append(slot)
        return found

    def silent(self) -> list[Record]:
        """Runners that ended some time ago with a job whose end GitHub has not told: its message may be lost."""
        now, grace = self._now(), self._source.timing.end_grace
        found = []
        for job_id in self._ids:
            record = self._engine().record(job_id)
            if record is None or not waits_for_the_word(record):
                self._exited.pop(job_id, None)
                continue
            since = self._exited.setdefault(job_id, now)
            if now - since >= grace:
                self._exited[job_id] = now
                found.append(record)
        if self._exited:
            self.look_soon_by(min(self._exited.values()) + grace)
        return found

    def look_soon_by(self, due: float) -> None:
        """A look is due at this time at the latest."""
        self.look_at = due if self.look_at is None else min(self.look_at, due)

    def _forget(self, job_id: JobId) -> None:
        self._ids.pop(job_id, None)
        self._busy.discard(job_id)
        self._done.discard(job_id)
        self._exited.pop(job_id, None)
        self._failed.discard(job_id)

    @property
    def bound(self) -> int:
        """The most runners that the set may have."""
        return self._config.max_runners if self._config.max_runners is not None else _MOST

    def capacity(self) -> int:
        """How many jobs the set may hold: those that it has a runner for, and those that its pool has room for."""
        slots = self.slots()
        counted = sum(slot.counts for slot in slots)
        going = len(slots) - counted
        return max(min(counted + max(self._free(self._config.pool), 0), self.bound - going), 0)

    def held(self) -> int:
        """How many jobs the set has a runner for, or a runner on its way."""
        return sum(slot.counts for slot in self.slots())

    async def demand(self, assigned: int | None, running: int, jobs: Sequence[JobMessage]) -> None:
        """Offer what the service wants, durably. `jobs` are those announced just now, `assigned` and `running` its
        counts; `assigned` is None if they are not believed.

        Raises:
            TryAgainError: the engine took not all of it; repeat the call.
        """
        async with self._lock:
            announced = {demand_key(self._source.name, job): None for job in jobs}
            fresh = [key for key in announced if key.id not in self._ids]
            if assigned is not None:
                self._running = running
            await self._act(self._plan(assigned, fresh))
            self.assigned = assigned if assigned is not None else sum(slot.counts for slot in self.slots())

    async def look(self) -> None:
        """Make good what changed since without a message: runners that ended, room that came, a surplus that lasts.

        Raises:
            TryAgainError: as `demand`.
        """
        async with self._lock:
            self.look_at = None
            if self.assigned is None:
                return
            await self._act(self._plan(self.assigned, ()))

    def _plan(self, assigned: int | None, announced: Sequence[JobKey]) -> Plan:
        """Without a count that can be true, only jobs that were announced are served."""
        slots = self.slots()
        if assigned is None:
            todo = plan(self.ledger.open, announced, slots, 0, self.bound)
            return Plan(offers=todo.offers, withheld=todo.withheld)
        strays = self.ledger.strays(slots, self._running) + self._untold.count(self.ledger, self._now())
        return plan(assigned, announced, slots, strays, self.bound)

    async def _act(self, todo: Plan) -> None:
        now = self._now()
        self.withheld, self.short = todo.withheld, todo.fillers
        self._tally.demanded += await self._offer_all(todo.offers)
        if todo.fillers and now >= self._fill.until:
            self._tally.filled += await self._offer_all([filler_key(self._source.name) for _ in range(todo.fillers)])
            self.short = 0
        lasting = self._patient.lasting(len(todo.surplus), now)
        for job_id in todo.surplus[:lasting]:
            await self._take_back(job_id)
        self.look_at = self._fill.until if self.short else None
        if todo.surplus:
            self.look_soon_by(now + self._source.timing.surplus_grace)
        if (due := self._untold.over_at(now)) is not None:
            self.look_soon_by(due)

    async def _offer_all(self, keys: Sequence[JobKey]) -> int:
        """Many at once, so that they share the journal's commits; returns how many are new."""
        new = 0
        for first in range(0, len(keys), _AT_ONCE):
            part = keys[first : first + _AT_ONCE]
            answers = await asyncio.gather(*map(self._offer, part), return_exceptions=True)
            for error in (answer for answer in answers if isinstance(answer, BaseException)):
                raise error
            new += sum(answer is True for answer in answers)
        return new

    async def _offer(self, key: JobKey) -> bool:
        try:
            record, new = await self._engine().offer(runner_offer(self._source, self._config, key))
        except GiveUpError as error:
            # Its message would come again for ever; the service's count asks for another runner in its place.
            _log.error("runner %s is not offered: %s [%s]", key.id, error, error.reason)
            return False
        if record.outcome is None:
            self._ids[record.id] = None
        return new

    async def let_go(self, ids: Iterable[JobId]) -> None:
        """Give up those of these runners that have no job, at once; repeat it while the daemon ends.

        Raises:
            TryAgainError: the engine could not take it.
        """
        async with self._lock:
            for job_id in [one for one in ids if one in self._ids and one not in self._busy]:
                await self._take_back(job_id)

    async def _take_back(self, job_id: JobId) -> None:
        """The registration goes first: GitHub refuses that for a runner that got a job meanwhile, and nobody else can
        know it."""
        record = self._engine().record(job_id)
        if record is None or not is_jobless(record):
            return
        if record.bound:
            try:
                await self._registrations.withdraw(record)
            except BusyError:
                self._busy.add(job_id)
                return
            except OrchestratorError as error:
                _log.info("runner of record %s is not taken back now: %s", job_id, error)
                return
        await self._engine().cancel(job_id, "github", "no job is left for this runner")
        self._tally.taken_back += 1
