"""Hypothesis as a platform that names jobs for our runners: in time, late, twice, for two at once, refused, or never.

Few jobs and many names, so that runners and jobs get into each other's way; between any two actions the daemon may die.
"""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from machine import DaemonMachine
from world import PLATFORM_HOST, REGISTRY, offer, platform_job

from orchestrator.model.runner import ExitCause, runner_name

JOBS = st.integers(1, 4)


def some_job(number: int):
    """Every fourth one is refused by policy."""
    return platform_job(number, refused=number % 4 == 0)


class PlatformMachine(DaemonMachine):
    @rule(claims=st.booleans(), awaits=st.booleans())
    def somebody_asks_for_a_runner(self, claims: bool, awaits: bool) -> None:
        self.platform_asks_for_a_runner(claims=claims, awaits=awaits)

    def platform_asks_for_a_runner(self, *, claims: bool, awaits: bool) -> None:
        self.offered += 1
        job = offer(self.offered, awaits=awaits)
        self.run(self.daemon.offer(job))
        name = runner_name(job.key.id)
        if claims and name in self.daemon.backend.names():
            self.run(self.daemon.claim(name))

    @rule(count=st.integers(2, 3))
    def platform_asks_for_several(self, count: int) -> None:
        for _ in range(count):
            self.platform_asks_for_a_runner(claims=True, awaits=True)

    def drawn_runner(self, data):
        """Of any unfinished job, whatever it is doing."""
        return runner_name(data.draw(st.sampled_from(self.daemon.engine.live_ids())))

    def some_job_is_unfinished(self) -> bool:
        return bool(self.daemon.engine.live_ids())

    @precondition(some_job_is_unfinished)
    @rule(data=st.data(), number=JOBS)
    def platform_names(self, data, number: int) -> None:
        self.run(self.daemon.name_job(self.drawn_runner(data), some_job(number)))

    @precondition(some_job_is_unfinished)
    @rule(data=st.data())
    def platform_names_a_job_of_its_own(self, data) -> None:
        self.run(self.daemon.name_job(self.drawn_runner(data), self.new_platform_job()))

    @precondition(some_job_is_unfinished)
    @rule(numbers=st.lists(JOBS, min_size=2, max_size=3), data=st.data())
    def platform_names_several_at_once(self, numbers, data) -> None:
        pairs = [(self.drawn_runner(data), some_job(number)) for number in numbers]
        self.run(self._at_once([self.daemon.name_job(name, job) for name, job in pairs]))

    @precondition(some_job_is_unfinished)
    @rule(number=JOBS)
    def platform_names_one_for_every_runner_at_once(self, number: int) -> None:
        names = [runner_name(job_id) for job_id in self.daemon.engine.live_ids()]
        self.run(self._at_once([self.daemon.name_job(name, some_job(number)) for name in names]))

    @precondition(some_job_is_unfinished)
    @rule(data=st.data(), number=JOBS, turns=st.integers(0, 12))
    def hook_is_cut_off(self, data, number: int, turns: int) -> None:
        self.run(self.daemon.name_cut_off(self.drawn_runner(data), some_job(number), turns))

    @precondition(some_job_is_unfinished)
    @rule(data=st.data(), result=st.sampled_from(["succeeded", "succeeded", "failed", "canceled"]))
    def platform_tells_the_end(self, data, result: str) -> None:
        self.run(self.daemon.complete_job(self.drawn_runner(data), result))

    @precondition(some_job_is_unfinished)
    @rule(data=st.data(), named=st.booleans(), first=st.booleans(), late=st.sampled_from([0, 10, 130]))
    def job_comes_to_its_end(self, data, named: bool, first: bool, late: int) -> None:
        """The platform's word first or the runner's end first, and some time between the two."""
        name = self.drawn_runner(data)
        if named:
            self.run(self.daemon.name_job(name, self.new_platform_job()))
        for told in (first, not first):
            if told:
                self.run(self.daemon.complete_job(name, "succeeded"))
            elif name in self.daemon.backend.names():
                self.run(self._happens(self.daemon.backend.exit, name))
            self.run(self.daemon.clock.advance(late))

    async def _at_once(self, calls) -> None:
        await asyncio.gather(*calls)

    @rule(turns=st.integers(0, 6))
    def policy_is_slow(self, turns: int) -> None:
        self.daemon.policy.turns = turns

    @rule(
        data=st.data(),
        tell=st.booleans(),
        cause=st.sampled_from([ExitCause.EXITED, *ExitCause]),
        code=st.sampled_from([0, 0, 7]),
    )
    def runner_exits(self, data, tell: bool, cause: ExitCause, code: int) -> None:
        names = self.daemon.backend.names()
        if names:
            self.run(self._happens(self.daemon.backend.exit, data.draw(st.sampled_from(names)), code, cause, tell=tell))

    @rule(data=st.data(), tell=st.booleans())
    def runner_vanishes(self, data, tell: bool) -> None:
        names = self.daemon.backend.names()
        if names:
            self.run(self._happens(self.daemon.backend.vanish, data.draw(st.sampled_from(names)), tell=tell))

    @invariant()
    def without_a_name_that_policy_allows_only_the_platform_is_in_reach(self) -> None:
        if not hasattr(self, "daemon"):
            return
        for job_id in self.daemon.engine.live_ids():
            record = self.daemon.engine.record(job_id)
            if record.platform is not None:
                allowed = record.named_at_ns and record.refused is None
                assert allowed or not record.live
                assert set(record.obligations.egress) <= ({PLATFORM_HOST, REGISTRY} if allowed else {PLATFORM_HOST})


EXAMPLES = int(os.environ.get("ENGINE_EXAMPLES", "80"))


def played(times: int) -> settings:
    return settings(max_examples=times, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


TestPlatform = PlatformMachine.TestCase
TestPlatform.settings = played(EXAMPLES)


@pytest.mark.slow
class TestPlatformForLonger(PlatformMachine.TestCase):
    settings = played(5 * EXAMPLES)
