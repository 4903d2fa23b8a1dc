"""An audit trail in memory with fault switches, for journals that must not be heard before it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.errors import TryAgainError
from orchestrator.journal.trail import unavailable
from orchestrator.model.events import Fact, JobOffered
from orchestrator.model.job import JobId


class MemoryTrail:
    """Every fact but an offer is a record. Hand the same object to a *restarted* journal, as one would its file.

    Faults: `fail_next(n)` makes the next n writes fail with nothing kept; while `holding` writes wait for `let_go`;
    `healthy` can be set.
    """

    def __init__(self) -> None:
        self.healthy = True
        self.holding = False
        self.kept: list[Fact] = []
        self.recalled: dict[JobId, list[Fact]] = {}
        self._failing = 0
        self._broken_off = False
        self._waiting: list[tuple[Sequence[Fact], asyncio.Future[None]]] = []

    @property
    def problem(self) -> TryAgainError | None:
        return None if self.healthy else unavailable("told to be unwell")

    @property
    def last_seq(self) -> int:
        return self.kept[-1].seq if self.kept else 0

    def fail_next(self, count: int = 1) -> None:
        self._failing = count

    def recall(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            self.recalled.setdefault(fact.job_id, []).append(fact)

    def records(self, facts: Sequence[Fact]) -> Sequence[Fact]:
        return [fact for fact in facts if not isinstance(fact.event, JobOffered)]

    def write(self, records: Sequence[Fact]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if self._broken_off:
            return done
        self._waiting.append((records, done))
        if not self.holding:
            loop.call_soon(self.let_go)
        return done

    def break_off(self, reached: int) -> None:
        """As a kill would: of the records that wait, the first `reached` are kept, and nobody is told any more."""
        waiting, self._waiting = self._waiting, []
        self.kept += [fact for records, _ in waiting for fact in records][:reached]
        self._broken_off = True

    def let_go(self) -> None:
        """Decide the writes that wait."""
        waiting, self._waiting = self._waiting, []
        for records, done in waiting:
            if self._failing:
                self._failing -= 1
                done.set_exception(unavailable("told to fail"))
            else:
                self.kept += records
                done.set_result(None)
