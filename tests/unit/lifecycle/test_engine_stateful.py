"""Hypothesis drives daemons against ports that fail, delay, forget and lie, with kills between any two actions."""

from __future__ import annotations

import asyncio
import contextlib
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import POOL, PROOF, Daemon, offer

from orchestrator.errors import TryAgainError
from orchestrator.lifecycle.observation import SECOND
from orchestrator.model.egress import EgressProof
from orchestrator.model.phase import Phase
from orchestrator.model.record import fold
from orchestrator.model.runner import ExitCause, Obstacle, Pending
from orchestrator.testing.checker import broken_promises
from orchestrator.testing.faults import Fault

faults = st.lists(st.sampled_from(list(Fault)), min_size=1, max_size=6)


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.offered = 0

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
        self.daemon = Daemon(capacity=capacity)
        self.loop.run_until_complete(self.daemon.start())

    @rule()
    def offer_new(self) -> None:
        self.offered += 1
        self.run(self.daemon.offer(offer(self.offered, caller=f"caller-{self.offered % 3}")))

    @precondition(lambda self: self.offered)
    @rule(data=st.data())
    def offer_again(self, data) -> None:
        number = data.draw(st.integers(1, self.offered))
        self.run(self.daemon.offer(offer(number, caller=f"caller-{number % 3}")))

    @rule(data=st.data(), proven=st.booleans() | st.just(True))
    def claim(self, data, proven: bool) -> None:
        names = self.daemon.backend.names()
        if names:
            proof = PROOF if proven else EgressProof(denied=("dns",), reached=("metadata",))
            self.run(self.daemon.claim(data.draw(st.sampled_from(names)), proof))

    @rule(data=st.data(), turns=st.integers(0, 12))
    def claim_cut_off(self, data, turns: int) -> None:
        names = self.daemon.backend.names()
        if names:
            self.run(self.daemon.claim_cut_off(data.draw(st.sampled_from(names)), turns))

    @rule(turns=st.integers(0, 12))
    def offer_cut_off(self, turns: int) -> None:
        self.offered += 1
        self.run(self.daemon.offer_cut_off(offer(self.offered, caller=f"caller-{self.offered % 3}"), turns))

    @rule(data=st.data(), turns=st.integers(0, 12), what=st.sampled_from(["note", "cancel"]))
    def call_cut_off(self, data, turns: int, what: str) -> None:
        ids = self.daemon.engine.live_ids()
        if ids:
            call = self.daemon.note_cut_off if what == "note" else self.daemon.cancel_cut_off
            self.run(call(data.draw(st.sampled_from(ids)), turns))

    @rule(turns=st.integers(1, 8))
    def journal_is_slow(self, turns: int) -> None:
        self.daemon.journal.slow(turns)

    @rule(
        data=st.data(),
        tell=st.booleans(),
        cause=st.sampled_from(list(ExitCause)),
        code=st.sampled_from([0, 0, 1, 78, 137]),
    )
    def runner_exits(self, data, tell: bool, cause: ExitCause, code: int) -> None:
        names = self.daemon.backend.names()
        if names:
            self.run(self._happens(self.daemon.backend.exit, data.draw(st.sampled_from(names)), code, cause, tell=tell))

    @rule(
        data=st.data(),
        tell=st.booleans(),
        obstacle=st.none() | st.sampled_from(list(Obstacle)),
        seconds=st.sampled_from([0, 60, 300]),
    )
    def runner_cannot_start(self, data, tell: bool, obstacle: Obstacle | None, seconds: int) -> None:
        names = self.daemon.backend.names()
        if names:
            now = self.daemon.clock.now_ns()
            pending = Pending(obstacle, "told so", now, seconds * SECOND) if obstacle else None
            name = data.draw(st.sampled_from(names))
            self.run(self._happens(self.daemon.backend.hinder, name, pending, tell=tell))

    @rule(data=st.data(), tell=st.booleans())
    def runner_vanishes(self, data, tell: bool) -> None:
        names = self.daemon.backend.names()
        if names:
            self.run(self._happens(self.daemon.backend.vanish, data.draw(st.sampled_from(names)), tell=tell))

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

    @rule(plan=faults)
    def backend_misbehaves(self, plan) -> None:
        self.daemon.backend.faults.add(*plan)

    @rule(count=st.integers(1, 3), stores=st.booleans())
    def journal_misbehaves(self, count: int, stores: bool) -> None:
        (self.daemon.journal.fail_after_store if stores else self.daemon.journal.fail_next)(count)

    @rule(plan=st.lists(st.sampled_from([Fault.FAILED, Fault.DONE_BUT_FAILED]), max_size=3))
    def source_misbehaves(self, plan) -> None:
        self.daemon.source.faults.add(*plan)

    @rule(after=st.integers(0, 12))
    def kill_soon(self, after: int) -> None:
        self.daemon.gate.passes_left = after

    @rule()
    def kill_now(self) -> None:
        self.loop.run_until_complete(self._restart())

    @rule(seconds=st.sampled_from([0.05, 1, 10, 61, 300, 700]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.daemon.clock.advance(seconds))

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
                daemon.backend.exit(name)
            await daemon.settle()
        await daemon.clock.advance(61)
        history = await daemon.history()
        daemon.world.remaining = daemon.backend.names()
        assert broken_promises(daemon.world, history) == []
        records = [fold(facts) for facts in history.values()]
        assert all(record.phase is Phase.FINISHED for record in records), [r.phase for r in records]
        assert {job for job, _ in daemon.source.reports} == {record.id for record in records}
        await daemon.engine.close()


EXAMPLES = int(os.environ.get("ENGINE_EXAMPLES", "150"))

TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
