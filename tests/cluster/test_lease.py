"""Who leads, on a real API server: one at a time, through its outages and through answers that get lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
import yaml

from orchestrator.backends.kubernetes.answers import ConflictError, NotFoundError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.lease import LeaderLease, LeaseLostError, LeaseTiming
from orchestrator.errors import ConfigurationError
from orchestrator.testing.fault_proxy import ApiFault

pytestmark = pytest.mark.cluster

QUICK = LeaseTiming(duration=2.0, renew=0.4, deadline=1.2, retry=0.1)
CALM = LeaseTiming(duration=5.0, renew=0.4, deadline=3.5, retry=0.1)
"""For who must not be late, on a machine that is."""
LONG = LeaseTiming(duration=60.0, renew=0.4, deadline=40.0, retry=0.1)
"""Outlasts a test."""


@pytest.fixture
async def lease(world):
    """Makes a view of this test's Lease; `keep` runs in the background, its end can be awaited."""
    keeping: list[asyncio.Task] = []

    def make(holder: str, client: ApiClient | None = None, timing: LeaseTiming = QUICK) -> LeaderLease:
        return LeaderLease(client or world.admin, world.namespaces[0], "leader", holder, timing)

    def keep(one: LeaderLease) -> asyncio.Task:
        task = asyncio.create_task(one.keep())
        keeping.append(task)
        return task

    make.keep = keep
    yield make
    for task in keeping:
        task.cancel()
    await asyncio.gather(*keeping, return_exceptions=True)


def path(world) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{world.namespaces[0]}/leases/leader"


async def test_the_first_makes_it_and_holds_it_and_a_clean_end_lets_the_next_one_in_at_once(world, lease):
    one, other = lease("one", timing=LONG), lease("other", timing=LONG)
    await one.acquire()
    task = lease.keep(one)
    waiting = asyncio.create_task(other.acquire())
    await world.until(lambda: other.waits_for == "one leads")
    began = (await world.call("GET", path(world)))["spec"]["renewTime"]

    async def renewed():
        return (await world.call("GET", path(world)))["spec"]["renewTime"] > began

    await world.until(renewed)
    assert not waiting.done()
    assert one.valid_for > 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.release()
    async with asyncio.timeout(LONG.duration / 3):
        await waiting
    spec = (await world.call("GET", path(world)))["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("other", 2)


async def test_a_leader_that_renews_is_not_overtaken(lease):
    one, other = lease("one", timing=CALM), lease("other")
    await one.acquire()
    task = lease.keep(one)
    waiting = asyncio.create_task(other.acquire())
    await asyncio.sleep(1.2 * CALM.duration)
    assert not waiting.done()
    assert not task.done()
    assert other.waits_for == "one leads"
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def made_anew(world) -> bool:
    """The standby has made the Lease again, or an operator has."""
    try:
        return bool(await world.call("GET", path(world)))
    except NotFoundError:
        return False


async def test_of_many_at_once_one_gets_it(world, lease):
    many = [lease(f"d{number}", timing=LONG) for number in range(8)]
    tasks = [asyncio.create_task(one.acquire()) for one in many]
    await world.until(lambda: sum(one.waits_for.endswith(" leads") for one in many) == 7)
    assert sum(task.done() for task in tasks) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_dead_leader_is_followed_after_its_duration_and_not_before(lease):
    one, other = lease("one"), lease("other")
    await one.acquire()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await other.acquire()
    assert QUICK.duration <= loop.time() - began < 5 * QUICK.duration
    assert one.valid_for < 0, "the old leader had stopped by its own clock before"
    with pytest.raises(LeaseLostError):
        await one.keep()


async def test_who_is_overtaken_notices_at_its_next_renewal(world, lease):
    one = lease("one")
    await one.acquire()
    task = lease.keep(one)
    found = await world.call("GET", path(world))
    found["spec"]["holderIdentity"] = "thief"
    await world.call("PUT", path(world), found)
    async with asyncio.timeout(20):
        with pytest.raises(LeaseLostError, match="thief"):
            await task


async def test_a_deleted_lease_is_lost(world, lease):
    one = lease("one")
    await one.acquire()
    task = lease.keep(one)
    await world.call("DELETE", path(world))
    async with asyncio.timeout(20):
        with pytest.raises(LeaseLostError):
            await task


@pytest.mark.parametrize("by", ["a standby", "an operator"])
async def test_a_lease_that_was_deleted_and_made_anew_lets_nobody_in_before_its_leader_can_have_stopped(
    world, lease, by
):
    one, other = lease("one", timing=CALM), lease("other", timing=CALM)
    await one.acquire()
    waiting = asyncio.create_task(other.acquire())
    await world.until(lambda: other.waits_for == "one leads")
    await world.call("DELETE", path(world))
    if by == "an operator":
        metadata = {"name": "leader", "namespace": world.namespaces[0]}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
        with contextlib.suppress(ConflictError):  # the standby was quicker
            await world.call("POST", path(world).rpartition("/")[0], body)
    await world.until(lambda: made_anew(world))
    assert one.valid_for > 0, "it does not know yet"
    assert not waiting.done()
    assert "one" in other.waits_for
    async with asyncio.timeout(5 * CALM.duration):
        await waiting
    assert one.valid_for < 0


@pytest.mark.parametrize("fault", [ApiFault.STORED_BUT_500, ApiFault.STORED_BUT_CUT, ApiFault.BROKEN, ApiFault.CUT])
async def test_a_lost_answer_costs_nobody_the_lease(world, lease, tmp_path, fault):
    proxy, config = await world.proxy(tmp_path)
    client = await ApiClient.open(config)
    try:
        one = lease("one", client, CALM)
        await one.acquire()
        task = lease.keep(one)
        rule = proxy.add(fault, "PUT", "/leases/", times=2)
        await world.until(lambda: rule.times == 0)
        await world.until(lambda: one.valid_for > CALM.deadline - CALM.renew)  # renewed since
        assert not task.done()
    finally:
        await client.close()


@pytest.mark.parametrize("fault", [ApiFault.HANG, ApiFault.BROKEN, ApiFault.BUSY, ApiFault.UNAUTHORIZED])
async def test_a_leader_that_cannot_renew_stops_in_time(world, lease, tmp_path, fault):
    proxy, config = await world.proxy(tmp_path)
    client = await ApiClient.open(config)
    try:
        one = lease("one", client, CALM)
        await one.acquire()
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = lease.keep(one)
        proxy.add(fault, "PUT", "/leases/", times=1000, seconds=0)
        proxy.add(fault, "GET", "/leases/", times=1000, seconds=0)
        with pytest.raises(LeaseLostError):
            await task
        assert loop.time() - began < CALM.duration
    finally:
        await client.close()


async def test_a_standby_waits_through_an_outage(world, lease, tmp_path):
    proxy, config = await world.proxy(tmp_path)
    client = await ApiClient.open(config)
    try:
        outage = proxy.add(ApiFault.BROKEN, "GET", "/leases/", times=100_000)
        one = lease("one", client)
        task = asyncio.create_task(one.acquire())
        await world.until(lambda: "cannot be read" in one.waits_for)
        outage.times = 0
        async with asyncio.timeout(20):
            await task
        assert one.waits_for == ""
    finally:
        await client.close()


async def test_without_the_right_to_it_the_daemon_does_not_start(world, tmp_path):
    """As the namespace's own ServiceAccount, which may do nothing."""
    account = f"/api/v1/namespaces/{world.namespaces[0]}/serviceaccounts/runner/token"
    answer = await world.call("POST", account, {"spec": {"expirationSeconds": 600}})
    config = world.config(kubeconfig=str(kubeconfig_of(answer["status"]["token"], tmp_path)))
    client = await ApiClient.open(config)
    try:
        with pytest.raises(ConfigurationError) as caught:
            await LeaderLease(client, world.namespaces[0], "leader", "one", QUICK).acquire()
        assert caught.value.reason == "lease_forbidden"
        assert "lease: false" in caught.value.fix
    finally:
        await client.close()


def kubeconfig_of(token: str, folder):
    """The tests' own kubeconfig with another's token."""
    document = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    document["users"] = [{"name": one["name"], "user": {"token": token}} for one in document["users"]]
    written = folder / "other-kubeconfig"
    written.write_text(yaml.safe_dump(document))
    return written
