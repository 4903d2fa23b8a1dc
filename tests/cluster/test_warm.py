"""Warm runners on a real API server: no write but one POST ahead and one DELETE behind, across kills of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.model import events as e
from orchestrator.model.egress import EgressProof
from orchestrator.model.outcome import Result
from orchestrator.model.phase import Phase
from orchestrator.testing.kubelet import Script
from orchestrator.testing.pod_states import End

pytestmark = pytest.mark.cluster

PROOF = EgressProof(denied=("metadata", "direct"))
CAPACITY = 4


def with_warm(world, warm=2, **changes):
    config = world.config()
    pools = {name: replace(pool, warm=warm, capacity=CAPACITY, **changes) for name, pool in config.pools.items()}
    return replace(config, pools=pools)


class Agents:
    """Agents that claim as warm ones do: the runner API of whichever daemon is there now holds their question."""

    def __init__(self, world) -> None:
        self.world = world
        self.daemon = None

    async def __call__(self, pod) -> int:
        while True:
            daemon = self.daemon
            if daemon is None:
                await asyncio.sleep(0.05)
                continue
            try:
                identity = await daemon.backend.warm.assignments.assigned(
                    self.world.namespaces[0], pod.name, pod.uid, 0.2
                )
                if identity is None:
                    continue
                if not daemon.backend.is_as_sent(identity.name, pod.uid):
                    raise TryAgainError("not compared yet")
                record = await daemon.engine.claim(identity, PROOF)
            except TryAgainError:
                await asyncio.sleep(0.05)
            except (GiveUpError, OrchestratorError):
                return 77
            else:
                daemon.witnessed.handed_out.append((record.id, pod.uid))
                return 0


@contextlib.asynccontextmanager
async def running(world, agents, config, **more):
    """A daemon with its warm pool, in the order in which a daemon starts."""
    backend = await world.backend(config)
    daemon = world.daemon(backend, capacity=CAPACITY, **more)
    await daemon.recover()
    agents.daemon = daemon
    tending = asyncio.create_task(backend.warm.run())
    try:
        yield daemon
    finally:
        agents.daemon = None
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)
        await daemon.stop()
        await backend.close()


async def polled(world, daemon, number=2):
    """So many pods that are there ask for work. The scripted agent of one that went asks on for a while."""

    def asking():
        there = {pod.uid for _, pod in daemon.backend.registry.warm()}
        return len(there & daemon.backend.warm.assignments.polls.keys()) == number

    await world.until(asking)


async def test_jobs_on_warm_runners_cost_two_writes_each_and_start_without_one(world):
    agents = Agents(world)
    await world.kubelet(agent=agents)
    async with running(world, agents, with_warm(world)) as daemon:
        await polled(world, daemon)
        names = set(await world.pod_names())
        backend, before = daemon.backend, daemon.backend.client.requests.copy()
        job = await daemon.offer(1)
        record = await daemon.finished(job)
        assert record.outcome.result is Result.SUCCESS
        await polled(world, daemon)
        spent = backend.client.requests - before
        assert (spent["POST"], spent["DELETE"]) == (1, 1)
        now = set(await world.pod_names())
        assert len(names & now) == 1
        assert len(now) == 2
        jobs = [await daemon.offer(number) for number in range(2, 12)]
        for job in jobs:
            assert (await daemon.finished(job, 40)).outcome.result is Result.SUCCESS
        assert await daemon.broken() == []
        assert len({uid for _, uid in daemon.witnessed.handed_out}) == 11


async def test_a_full_quota_is_shared_by_jobs_and_warm_runners_without_loss(world):
    await world.quota(CAPACITY)
    agents = Agents(world)
    world.script = lambda _: Script(run_seconds=0.1)
    await world.kubelet(agent=agents)
    async with running(world, agents, with_warm(world, warm=CAPACITY)) as daemon:
        await polled(world, daemon, CAPACITY)
        jobs = [await daemon.offer(number) for number in range(12)]
        for job in jobs:
            assert (await daemon.finished(job, 90)).outcome.result is Result.SUCCESS
        assert await daemon.broken() == []


@pytest.mark.parametrize("when", ["assigned", "created", "bound"])
async def test_a_daemon_killed_around_the_binding_gives_no_pod_to_two_jobs(world, when):
    agents = Agents(world)
    world.script = lambda _: Script(End.HOLD)
    kubelet = await world.kubelet(agent=agents)
    config = with_warm(world)
    async with running(world, agents, config) as first:
        await polled(world, first)
        if when != "bound":
            agents.daemon = None
            await polled(world, first, 0)
        held = asyncio.Event()
        real = first.journal.append

        async def append(facts):
            if when == "assigned" and any(isinstance(event, e.RunnerCreated) for _, event in facts):
                held.set()
                await asyncio.Event().wait()
            return await real(facts)

        first.journal.append = append
        job = await first.offer(1)
        match when:
            case "assigned":
                await asyncio.wait_for(held.wait(), 10)
            case "created":
                await first.at(job, Phase.BINDING)
            case "bound":
                await first.at(job, Phase.RUNNING)
        journal, taken = first.journal, first.witnessed.handed_out
    journal.append = real
    known = (await first.record(job)).runner_uid
    async with running(world, agents, config, journal=journal) as second:
        second.witnessed.accepted.append(job)
        second.witnessed.handed_out.extend(taken)
        record = await second.at(job, Phase.RUNNING)
        assert not known or record.bound_uid == known
        other = await second.offer(2)
        assert (await second.at(other, Phase.RUNNING)).bound_uid != record.bound_uid
        for pod in (await world.call("GET", world.pods()))["items"]:
            kubelet.end(pod["metadata"]["name"])
        for one in (job, other):
            assert (await second.finished(one)).outcome.result is Result.SUCCESS
        await world.until(lambda: len(second.backend.warm.assignments.polls) == 2)
        assert await second.broken() == []
        assert len(await world.pod_names()) == 2


async def test_outdated_and_ended_warm_runners_are_replaced(world):
    agents = Agents(world)
    await world.kubelet(agent=agents)
    async with running(world, agents, with_warm(world)) as daemon:
        await polled(world, daemon)
        old = set(await world.pod_names())
    changed = replace(with_warm(world), agent_image="registry.example/agent:2")
    async with running(world, agents, changed) as daemon:

        async def renewed():
            now = set(await world.pod_names())
            return len(now) == 2 and not now & old

        await world.until(renewed)
        await polled(world, daemon)
        lost = (await world.pod_names())[0]
        await world.call("DELETE", f"{world.pods()}/{lost}", {"gracePeriodSeconds": 0})

        async def replaced():
            now = await world.pod_names()
            return len(now) == 2 and lost not in now

        await world.until(replaced)
    async with running(world, agents, with_warm(world, warm=0)) as daemon:

        async def none():
            return await world.pod_names() == []

        await world.until(none)
