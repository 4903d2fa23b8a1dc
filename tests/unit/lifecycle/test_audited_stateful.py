"""The engine behind an audit log that fails, hangs and is killed: no side effect comes before its record, and each fact
is recorded once. All promises of the engine hold as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from test_engine_stateful import EXAMPLES, EngineMachine
from world import Daemon

from orchestrator.errors import TryAgainError
from orchestrator.journal.audited import AuditedJournal
from orchestrator.model.events import Event, Fact, JobAdmitted, JobEnded, RunnerBound, TokenIssued
from orchestrator.model.job import JobId
from orchestrator.model.runner import RunnerName, runner_name
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.source import MemorySource
from orchestrator.testing.trail import MemoryTrail

TURNS_OF_A_SECOND = 8


class TurnsClock:
    """Timers that count turns of the loop, so that a call which waits for one needs nobody to move time."""

    def now_ns(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        loop, left = asyncio.get_running_loop(), [int(seconds * TURNS_OF_A_SECOND) + 1]

        def turn() -> None:
            left[0] -= 1
            if left[0] == 0:
                callback()
            elif left[0] > 0:
                loop.call_soon(turn)

        loop.call_soon(turn)
        return lambda: left.__setitem__(0, -1)


class FaultyAudited(AuditedJournal[Fact]):
    """With the fault switches of the journal that it wraps."""

    def __init__(self, inner, trail: MemoryTrail) -> None:
        super().__init__(inner, trail, TurnsClock())
        self.slow, self.fail_next, self.fail_after_store = inner.slow, inner.fail_next, inner.fail_after_store


class AuditedDaemon(Daemon):
    """`early` are side effects that came before the record which they follow from."""

    def __init__(self, **given) -> None:
        super().__init__(**given)
        self.stored = self.journal
        self.trail = MemoryTrail()
        self.early: list[tuple[str, JobId]] = []
        self.backend = WatchedBackend(self)
        self.source = WatchedSource(self)

    def must_be_told(self, job_id: JobId, kind: type[Event]) -> None:
        if not any(fact.job_id == job_id and isinstance(fact.event, kind) for fact in self.trail.kept):
            self.early.append((kind.__name__, job_id))

    async def start(self) -> None:
        kept = list(self.trail.kept)
        self.trail = MemoryTrail()
        self.trail.kept = kept
        self.journal = FaultyAudited(self.stored, self.trail)
        while True:  # a daemon whose audit log is away does not start; its supervisor starts it again
            try:
                await self.journal.catch_up()
                break
            except TryAgainError:
                continue
        await super().start()

    async def kill(self) -> None:
        self.trail.break_off(self.reached)
        await super().kill()
        while self.stored.waiting:
            await asyncio.sleep(0)

    reached = 0
    """How many records get to the disk at a kill of which nobody hears any more."""

    def _recorded(self, facts) -> None:
        for fact in facts:
            if self.trail.records([fact]):
                self.must_be_told(fact.job_id, type(fact.event))
        super()._recorded(facts)

    async def claim(self, name, *proof) -> bool:
        done = await super().claim(name, *proof)
        if done:
            self.must_be_told(self.world.handed_out[-1][0], RunnerBound)
        return done

    async def get_token(self, name) -> bool:
        done = await super().get_token(name)
        if done:
            self.must_be_told(self.signed[-1][0], TokenIssued)
        return done

    async def history(self):
        return {line.job_id: await self.stored.facts_of(line.job_id) for line in await self._all_lines()}

    def job_of(self, name: RunnerName) -> JobId:
        return next(job_id for job_id in self.engine.live_ids() if runner_name(job_id) == name)


class WatchedBackend(MemoryBackend):
    def __init__(self, daemon: AuditedDaemon) -> None:
        super().__init__(daemon.clock)
        self._daemon = daemon

    async def create(self, spec):
        self._daemon.must_be_told(self._daemon.job_of(spec.name), JobAdmitted)
        return await super().create(spec)


class WatchedSource(MemorySource):
    def __init__(self, daemon: AuditedDaemon) -> None:
        super().__init__()
        self._daemon = daemon

    async def report(self, record) -> None:
        self._daemon.must_be_told(record.id, JobEnded)
        await super().report(record)


class AuditedMachine(EngineMachine):
    daemon_type = AuditedDaemon

    @rule(count=st.integers(1, 3))
    def audit_log_fails(self, count: int) -> None:
        self.daemon.trail.fail_next(count)

    @rule()
    def audit_log_hangs(self) -> None:
        self.daemon.trail.holding = True

    @rule()
    def audit_log_goes_on(self) -> None:
        self.daemon.trail.holding = False
        self.run(self._happens(self.daemon.trail.let_go))

    @rule(well=st.booleans())
    def audit_log_knows_how_it_is(self, well: bool) -> None:
        self.daemon.trail.healthy = well

    @rule(reached=st.integers(0, 4))
    def a_kill_may_leave_records(self, reached: int) -> None:
        self.daemon.reached = reached

    async def _heal_and_judge(self) -> None:
        trail = self.daemon.trail
        trail.fail_next(0)
        trail.healthy, trail.holding = True, False
        trail.let_go()
        await self.daemon.settle()
        await super()._heal_and_judge()
        daemon = self.daemon
        everything = await daemon.stored.facts_after(0, 1_000_000)
        assert daemon.trail.kept == daemon.trail.records(everything)
        assert daemon.early == []


TestAudited = AuditedMachine.TestCase
TestAudited.settings = settings(
    max_examples=EXAMPLES // 4, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
