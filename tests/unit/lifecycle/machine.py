"""What the stateful tests of the engine share: a daemon that is killed and started again, a journal that fails or is
slow, and the promises that are judged at every moment and, when all has healed, at rest."""

from __future__ import annotations

import asyncio
import contextlib

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from world import KEY, POOL, Daemon, by_fact, platform_job

from orchestrator.errors import TryAgainError
from orchestrator.model.phase import Phase
from orchestrator.model.record import fold
from orchestrator.testing.checker import broken_promises
from orchestrator.testing.receipts import lacking, wrong_receipts


class DaemonMachine(RuleBasedStateMachine):
    daemon_type = Daemon

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.offered = 0
        self.platform_jobs = 0

    def new_platform_job(self):
        self.platform_jobs += 1
        return platform_job(1000 + self.platform_jobs)

    def run(self, work):
        return self.loop.run_until_complete(self._and_restart(work))

    async def _and_restart(self, work):
        result = await work
        await self.daemon.settle()
        if self.daemon.gate.killed.is_set():
            await self._restart()
        return result

    async def _restart(self) -> None:
        await self.daemon.kill()
        await self.daemon.start()

    @initialize(capacity=st.integers(1, 3))
    def start(self, capacity: int) -> None:
        self.daemon = self.daemon_type(capacity=capacity, verdict_of=by_fact, receipts=True)
        self.loop.run_until_complete(self.daemon.start())

    @rule(turns=st.integers(1, 8))
    def journal_is_slow(self, turns: int) -> None:
        self.daemon.journal.slow(turns)

    async def _happens(self, change, *args, **kwargs) -> None:
        change(*args, **kwargs)

    @rule(data=st.data())
    def cancel(self, data) -> None:
        ids = self.daemon.engine.live_ids()
        if ids:
            job_id = data.draw(st.sampled_from(ids))
            self.run(self._cancel(job_id))

    async def _cancel(self, job_id) -> None:
        with contextlib.suppress(TryAgainError, TimeoutError):
            await self.daemon._unless_killed(self.daemon.engine.cancel(job_id, "tester"))

    @rule(count=st.integers(1, 3), stores=st.booleans())
    def journal_misbehaves(self, count: int, stores: bool) -> None:
        (self.daemon.journal.fail_after_store if stores else self.daemon.journal.fail_next)(count)

    @rule(after=st.integers(0, 12))
    def kill_soon(self, after: int) -> None:
        self.daemon.gate.passes_left = after

    @rule()
    def kill_now(self) -> None:
        self.loop.run_until_complete(self._restart())

    @rule(seconds=st.sampled_from([0.05, 1, 10, 61, 300, 700]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.daemon.clock.advance(seconds))

    @rule(data=st.data())
    def job_gets_a_token(self, data) -> None:
        names = self.daemon.backend.names()
        if names:
            self.run(self.daemon.get_token(data.draw(st.sampled_from(names))))

    @rule()
    def sweep(self) -> None:
        self.run(self.daemon.start_sweep())

    @invariant()
    def identity_is_worth_something_only_while_running(self) -> None:
        if not hasattr(self, "daemon"):
            return
        for name in self.daemon.backend.names():
            self.daemon.use_identity(name)

    @invariant()
    def no_pool_holds_more_runners_than_it_may(self) -> None:
        if hasattr(self, "daemon"):
            assert len(self.daemon.backend.names()) <= self.daemon.pools[POOL].capacity

    @invariant()
    def promises_hold_at_every_moment(self) -> None:
        if hasattr(self, "daemon"):
            history = self.loop.run_until_complete(self.daemon.history())
            assert broken_promises(self.daemon.world, history, at_rest=False) == []
            assert wrong_receipts(history, {KEY.id: KEY.public}) == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "daemon"):
                self.loop.run_until_complete(self._heal_and_judge())
        finally:
            self.loop.close()

    async def _heal_and_judge(self) -> None:
        daemon = self.daemon
        daemon.backend.faults.clear()
        daemon.source.faults.clear()
        daemon.journal.fail_next(0)
        daemon.journal.fail_after_store(0)
        daemon.journal.slow(1)
        daemon.gate.passes_left = None
        if daemon.gate.killed.is_set():
            await self._restart()
        for _ in range(8 + 2 * self.offered):
            await daemon.clock.advance(61)
            await daemon.start_sweep()
            for name in daemon.backend.names():
                await daemon.claim(name)
                await daemon.name_job(name, self.new_platform_job())
                await daemon.complete_job(name)
                daemon.backend.exit(name)
            await daemon.settle()
        await daemon.clock.advance(61)
        history = await daemon.history()
        daemon.world.remaining = daemon.backend.names()
        assert broken_promises(daemon.world, history) == []
        assert wrong_receipts(history, {KEY.id: KEY.public}) == []
        assert lacking(daemon.signed, history, {KEY.id: KEY.public}) == []
        records = [fold(facts) for facts in history.values()]
        assert all(record.phase is Phase.FINISHED for record in records), [r.phase for r in records]
        assert {job for job, _ in daemon.source.reports} == {record.id for record in records}
        await daemon.engine.close()
