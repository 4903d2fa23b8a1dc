"""Between a pod, its job's record and the gateways: when a pod gets its work, and what is published of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pod_world import PROOF, Cluster, Daemon
from test_warm import CONFIG, POOL

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.cluster.egress import ClusterEgress
from orchestrator.daemon.cluster.runners import ClusterRunners
from orchestrator.errors import TryAgainError
from orchestrator.identity.job_credential import JobCredentials
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.testing.journal import MemoryJournal


class World:
    """One job in a pod that is about to claim; the agent is the test itself."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        config = replace(CONFIG, pools={POOL.name: replace(POOL, warm=0)})
        self.daemon = Daemon(self.cluster, config, MemoryJournal(SystemClock()))
        engine = self.daemon.engine
        self.egress = ClusterEgress(lambda: engine, lambda text: text, max_age=5.0)
        self.followed: list[str] = []
        logs = SimpleNamespace(follow=lambda record: self.followed.append(record.runner))
        self.runners = ClusterRunners(
            config, self.daemon.backend, lambda: engine, self.egress, JobCredentials(b"k" * 32), Masker(), logs
        )

    async def binding(self, *addresses: str) -> RunnerIdentity:
        self.cluster._agent = lambda *_: asyncio.sleep(3600)
        await self.daemon.start()
        self.egress.hub.begin()
        self.job = await self.daemon.offer(1)
        async with asyncio.timeout(5):
            while not (record := self.daemon.engine.record(self.job)).runner_uid:
                await asyncio.sleep(0.01)
            pod = self.cluster.pods[record.runner]
            pod["status"] |= {"podIP": addresses[0], "podIPs": [{"ip": one} for one in addresses]}
            self.cluster._tell("MODIFIED", pod)
            while not await self.runners._addresses(record.runner):
                await asyncio.sleep(0.01)
        return RunnerIdentity(record.runner, record.runner_uid)

    async def close(self) -> None:
        await self.egress.stop()
        await self.daemon.stop()
        await self.cluster.close()


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.close()


async def test_the_gateways_know_a_pod_by_its_address_of_each_family(world):
    who = await world.binding("10.0.0.7", "fd00::7")
    await world.runners.ready_to_bind(who)
    await world.runners.bound(await world.daemon.engine.claim(who, PROOF))
    (entry,) = (await world.egress.hub.poll("pod", "g", "")).runners
    assert (entry.runner, entry.addresses) == (who.name, ("10.0.0.7", "fd00::7"))
    assert world.followed == [who.name]


async def test_a_pod_that_was_not_compared_with_what_was_sent_gets_no_work(world):
    who = await world.binding("10.0.0.7")
    world.daemon.backend.maker._as_sent.clear()
    with pytest.raises(TryAgainError) as refused:
        await world.runners.ready_to_bind(who)
    assert refused.value.reason == "temporarily_unavailable"
    world.daemon.backend.adopt(who.name, who.uid)  # as the next daemon does with what the journal knows
    await world.runners.ready_to_bind(who)


async def test_a_pod_that_was_made_before_a_guard_went_missing_gets_no_work_until_it_is_back(world):
    who = await world.binding("10.0.0.7")
    world.daemon.backend.guard = lambda pool: f"pool {pool.name} lacks network-policy"
    with pytest.raises(TryAgainError) as refused:
        await world.runners.ready_to_bind(who)
    assert (refused.value.reason, "network-policy" in str(refused.value)) == ("temporarily_unavailable", True)
    world.daemon.backend.guard = lambda _: ""
    await world.runners.ready_to_bind(who)


async def test_the_log_of_a_job_that_ended_while_gateways_were_told_is_not_opened_again(world):
    who = await world.binding("10.0.0.7")
    asked = await world.egress.hub.poll("pod", "g", "")
    record = await world.daemon.engine.claim(who, PROOF)
    bound = asyncio.create_task(world.runners.bound(record))
    await asyncio.sleep(0.05)
    assert not bound.done(), "it waits for the gateway to have heard"
    await world.daemon.engine.cancel(world.job, "tester")
    async with asyncio.timeout(5):
        while world.daemon.engine.bound_record(who) is not None:
            await asyncio.sleep(0.01)
    await world.egress.hub.poll("pod", "g", asked.version)
    await bound
    assert world.followed == []
