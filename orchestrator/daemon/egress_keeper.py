"""Keeps what runners reach in step with their records, for those whose job is named only when they run.

Looking is enough: a fact that may have changed a record's rules only makes for an earlier look. Each look compares what
the record says with what the gateway was told last, so it costs next to nothing when nothing has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from orchestrator.daemon.verdicts import EngineOf
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.ports import Clock, RunnerIdentity
from orchestrator.lifecycle.turns import Turns
from orchestrator.lifecycle.workqueue import WorkQueue
from orchestrator.model.events import Fact, JobRefused, PlatformJobNamed
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.server.deps import HookReport, Namer

_log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""Time between two looks at every such runner."""
RETRY_SECONDS = 1.0
_LOOKS_IN_A_ROW = 256

_CHANGING = (PlatformJobNamed, JobRefused)


class Aligns(Protocol):
    """`daemon.backends.BackendRoom`, as far as it is used here."""

    async def align(self, record: Record) -> None: ...


class EgressKeeper:
    """`observe` is for `journal.subscribe`, `look` to be called now and then; `close` ends what is under way."""

    def __init__(self, engine: EngineOf, rooms: Mapping[str, Aligns], clock: Clock) -> None:
        """`rooms` by backend."""
        self._engine = engine
        self._rooms = rooms
        self._clock = clock
        self._queue = WorkQueue(self._work, clock)
        self._turns: Turns[JobId] = Turns()

    def observe(self, facts: Sequence[Fact]) -> None:
        """Facts that were just stored."""
        for fact in facts:
            if isinstance(fact.event, _CHANGING):
                self._queue.add(fact.job_id)

    async def look(self) -> None:
        """Have every runner looked at whose rules may change."""
        engine = self._engine()
        for number, job_id in enumerate(engine.live_ids()):
            if number % _LOOKS_IN_A_ROW == 0:
                await asyncio.sleep(0)  # others get a turn
            record = engine.record(job_id)
            if record is not None and _changes(record):
                self._queue.add(job_id)

    async def aligned(self, job_id: JobId) -> None:
        """Return when the job's runner reaches what its record says and nothing else, or the job runs no more.

        Raises:
            TryAgainError: it is not so yet; it is tried again by itself.
            GiveUpError: it cannot be; the runner has no egress.
        """
        async with self._turns.of(job_id):
            # A fact is told of before the record has it; and what is in doubt must not be acted upon.
            record = await self._engine().current(job_id)
            room = self._rooms.get(record.backend) if record is not None else None
            if record is not None and room is not None and _changes(record):
                await room.align(record)

    def with_egress(self, namer: Namer) -> Namer:
        """`namer`, answering when what the named job may reach is in force."""

        async def named(identity: RunnerIdentity, report: HookReport) -> Record | None:
            record = await namer(identity, report)
            if record is None:
                return None
            try:
                await self.aligned(record.id)
            except TryAgainError:
                self._queue.add(record.id)
                raise
            return self._engine().record(record.id) or record

        return named

    async def close(self) -> None:
        """What is not done is found again by whoever looks next."""
        await self._queue.close()

    async def _work(self, job_id: JobId) -> None:
        try:
            await self.aligned(job_id)
        except TryAgainError as error:
            _log.warning("egress of job %s is not what it should be yet: %s", job_id, error)
            self._queue.wake_at(job_id, self._clock.now_ns() + int(RETRY_SECONDS * SECOND))
        except GiveUpError as error:
            # What comes of trying again is the same, until the record changes; each look says it once more.
            _log.error("job %s has no egress: %s", job_id, error, extra={"reason": error.reason})


def _changes(record: Record) -> bool:
    return record.bound and record.platform is not None
