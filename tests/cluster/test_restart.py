"""The control plane itself goes away and comes back."""

from __future__ import annotations

import asyncio
import os

import aiohttp
import msgspec
import pytest

from orchestrator.backends.kubernetes import watch as watches
from orchestrator.model.outcome import EndReason
from orchestrator.model.phase import Phase
from orchestrator.model.runner import runner_name
from orchestrator.testing.kubelet import Script
from orchestrator.testing.pod_states import End

pytestmark = pytest.mark.cluster


async def test_the_api_server_is_killed_and_comes_back(world, restart):
    backend = await world.backend()
    daemon = world.daemon(backend)
    world.script = lambda _: Script(End.HOLD)
    kubelet = await world.kubelet(agent=daemon.agent)
    (watch,) = backend._watches.values()
    running = [await daemon.offer(number) for number in range(3)]
    for job in running:
        await daemon.at(job, Phase.RUNNING)
    restarting = asyncio.ensure_future(asyncio.to_thread(restart, "kube-apiserver", 2))
    await world.until(lambda: not watch.live)
    meanwhile = await daemon.offer(10)
    for job in (*running, meanwhile):
        kubelet.end(runner_name(job))
    await restarting
    for job in (*running, meanwhile):
        assert (await daemon.finished(job, 60)).outcome.reason is EndReason.COMPLETED
    assert await daemon.broken() == []
    # The server forgot our version (410 as an event), so there was a second list.
    assert watch.lists >= 2
    assert backend.health() == {world.namespaces[0]: "ok"}


async def test_a_list_in_pages_over_a_compaction_is_begun_again(world, monkeypatch):
    """HTTP 410 to a `continue` whose history was compacted away between two pages."""
    if not os.environ.get("ETCD_URL"):
        pytest.skip("needs ETCD_URL, the address of the cluster's etcd")
    monkeypatch.setattr(watches, "PAGE", 2)
    first = await world.backend()
    for number in range(5):
        await first.create(world.spec(number))
    backend = await world.backend()
    (watch,) = backend._watches.values()
    assert len(watch.pods) == 5
    pages = []
    request = backend.client.request

    async def compacting(method, path, **more):
        answer = await request(method, path, **more)
        listed = msgspec.json.decode(answer)
        pages.append(more["params"].get("limit"))
        if len(pages) == 1:
            await _compact(world, os.environ["ETCD_URL"])
        assert listed["kind"] == "PodList"
        return answer

    monkeypatch.setattr(backend.client, "request", compacting)
    await watch.list_once()
    assert len(watch.pods) == 5
    assert len(pages) >= 4


async def _compact(world, etcd: str) -> None:
    """Write something, then forget all history before it."""
    await world.ensure(f"/api/v1/namespaces/{world.namespaces[0]}/configmaps", {"metadata": {"name": "newer"}})
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{etcd}/v3/kv/range", json={"key": "Lw=="}) as answer:
            revision = int((await answer.json())["header"]["revision"])
        async with session.post(f"{etcd}/v3/kv/compaction", json={"revision": revision, "physical": True}) as answer:
            assert answer.status == 200
