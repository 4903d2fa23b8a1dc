"""Hypothesis drives daemons against ports that fail, delay, forget and lie, with kills between any two actions."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from machine import DaemonMachine
from world import PROOF, offer

from orchestrator.lifecycle.observation import SECOND
from orchestrator.model.egress import EgressProof
from orchestrator.model.runner import ExitCause, Obstacle, Pending
from orchestrator.testing.faults import Fault

faults = st.lists(st.sampled_from(list(Fault)), min_size=1, max_size=6)


class EngineMachine(DaemonMachine):
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

    @rule(plan=faults)
    def backend_misbehaves(self, plan) -> None:
        self.daemon.backend.faults.add(*plan)

    @rule(plan=st.lists(st.sampled_from([Fault.FAILED, Fault.DONE_BUT_FAILED]), max_size=3))
    def source_misbehaves(self, plan) -> None:
        self.daemon.source.faults.add(*plan)


EXAMPLES = int(os.environ.get("ENGINE_EXAMPLES", "150"))

TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
