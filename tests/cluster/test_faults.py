"""What the API server, or what lies between, can do to us: nothing is lost, nothing is made twice."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from orchestrator.backends.kubernetes.registry import Place, Registry
from orchestrator.backends.kubernetes.view import Limits
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model.outcome import EndReason
from orchestrator.model.phase import Phase
from orchestrator.model.runner import RunnerState
from orchestrator.testing.fault_proxy import ApiFault
from orchestrator.testing.kubelet import Script
from orchestrator.testing.pod_states import End

pytestmark = pytest.mark.cluster


async def test_two_daemons_one_name(world):
    """Whoever comes second finds the pod; another specification is a clash; a dying pod is neither."""
    one, other = await world.backend(), await world.backend()
    spec = world.spec()
    first = await one.create(spec)
    assert await other.create(spec) == first
    with pytest.raises(GiveUpError) as clash:
        await other.create(replace(spec, deadline_seconds=61))
    assert clash.value.reason == "runner_name_clash"

    world.script = lambda _: Script(End.NODE_LOST)
    await world.kubelet()

    async def lost():
        return (await one.inspect(spec.name)).state is RunnerState.EXITED

    await world.until(lost)
    await one.delete(spec.name)
    with pytest.raises(TryAgainError) as dying:
        await other.create(spec)
    assert dying.value.reason == "runner_being_deleted"


async def test_a_deletion_never_hits_another_pod_of_the_name(world):
    backend = await world.backend()
    spec = world.spec()
    first = await backend.create(spec)
    path = f"{world.pods()}/{spec.name}"
    document = await world.call("GET", path)
    await world.call("DELETE", path, {"gracePeriodSeconds": 0})
    kept = {key: document["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    again = await world.call("POST", world.pods(), {**document, "metadata": kept, "status": {}})
    assert again["metadata"]["uid"] != first.uid
    # As if this daemon had heard of neither the deletion nor the new pod.
    backend.registry = Registry(Limits())
    backend.registry.made(spec.name, Place(world.namespaces[0], spec.name, first.uid))
    await backend.delete(spec.name)
    assert (await world.call("GET", path))["metadata"]["uid"] == again["metadata"]["uid"]
    assert (await backend.inspect(spec.name)).uid == again["metadata"]["uid"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ApiFault.BUSY, "api_busy"),
        (ApiFault.BROKEN, "api_unavailable"),
        (ApiFault.CUT, "api_unavailable"),
        (ApiFault.HANG, "api_unavailable"),
        (ApiFault.STORED_BUT_500, "api_unavailable"),
        (ApiFault.STORED_BUT_CUT, "api_unavailable"),
    ],
)
async def test_a_create_that_fails_is_tried_again_and_makes_one_pod(world, tmp_path, fault, reason):
    proxy, config = await world.proxy(tmp_path)
    backend = await world.backend(config)
    spec = world.spec()
    proxy.add(fault, "POST", seconds=7)
    with pytest.raises(TryAgainError) as failed:
        await backend.create(spec)
    assert failed.value.reason == reason
    assert failed.value.retry_after_seconds == (7 if fault is ApiFault.BUSY else None)
    view = await backend.create(spec)
    assert view.state is RunnerState.ALIVE
    assert await world.pod_names() == [spec.name]
    assert proxy.done["POST"] == 1
    proxy.add(fault, "DELETE", seconds=7)
    # The HTTP library itself repeats an idempotent request whose connection was cut.
    cut = fault in (ApiFault.CUT, ApiFault.STORED_BUT_CUT)
    with contextlib.nullcontext() if cut else pytest.raises(TryAgainError):
        await backend.delete(spec.name)
    await backend.delete(spec.name)
    await world.until(lambda: _absent(backend, spec.name))
    assert proxy.done["DELETE"] == 1


async def test_refused_credentials_are_read_again_once(world, tmp_path):
    proxy, config = await world.proxy(tmp_path)
    backend = await world.backend(config)
    proxy.add(ApiFault.UNAUTHORIZED, "POST")
    await backend.create(world.spec(1))
    rule = proxy.add(ApiFault.UNAUTHORIZED, "POST", times=9)
    with pytest.raises(TryAgainError) as refused:
        await backend.create(world.spec(2))
    assert refused.value.reason == "api_unauthorized"
    assert rule.times == 7


async def test_lives_go_on_through_every_fault_at_once(world, tmp_path):
    proxy, config = await world.proxy(tmp_path)
    backend = await world.backend(config)
    daemon = world.daemon(backend)
    world.script = lambda name: Script(code=0 if int(name[-1], 16) % 2 else 3)
    await world.kubelet(agent=daemon.agent)
    faults = (ApiFault.BUSY, ApiFault.BROKEN, ApiFault.STORED_BUT_500, ApiFault.STORED_BUT_CUT, ApiFault.CUT)
    for method in ("POST", "DELETE", "GET"):
        for fault in faults:
            proxy.add(fault, method, times=2)
    jobs = [await daemon.offer(number) for number in range(12)]
    for _ in range(4):
        await asyncio.sleep(0.3)
        proxy.cut()
    for job in jobs:
        record = await daemon.finished(job, 60)
        assert record.outcome.reason in (EndReason.COMPLETED, EndReason.EXIT_NONZERO)
    assert await daemon.broken() == []
    assert proxy.done["POST"] == 12
    assert proxy.done["DELETE"] == 12


async def test_a_cut_watch_goes_on_from_where_it_was(world, tmp_path):
    proxy, config = await world.proxy(tmp_path)
    backend = await world.backend(config)
    (watch,) = backend._watches.values()
    specs = [world.spec(number) for number in range(3)]
    for spec in specs:
        await backend.create(spec)
        proxy.cut()
        await world.until(lambda: watch.live)
    await world.until(lambda: len(watch.pods) == 3)
    assert watch.lists == 1
    assert {view.name for view in await backend.list()} == {spec.name for spec in specs}


async def test_a_line_that_is_no_event_leads_to_a_new_list(world, tmp_path):
    proxy, config = await world.proxy(tmp_path)
    proxy.add(ApiFault.GARBAGE, "GET", "watch=1")
    backend = await world.backend(config)
    (watch,) = backend._watches.values()
    await world.until(lambda: watch.live and watch.lists == 2)
    await backend.create(world.spec())
    await world.until(lambda: len(watch.pods) == 1)


async def test_what_goes_while_nobody_watches_is_told_after_the_next_list(world, tmp_path):
    proxy, config = await world.proxy(tmp_path)
    backend = await world.backend(config)
    heard = []
    backend.subscribe(heard.append)
    spec, stays = world.spec(1), world.spec(2)
    (watch,) = backend._watches.values()
    await backend.create(spec)
    await backend.create(stays)
    await world.until(lambda: len(watch.pods) == 2)
    hole = proxy.add(ApiFault.BROKEN, "GET", "", times=1000)
    proxy.cut()
    await world.call("DELETE", f"{world.pods()}/{spec.name}", {"gracePeriodSeconds": 0})
    await world.until(lambda: not watch._version)
    assert backend.health() != {world.namespaces[0]: "ok"}
    with pytest.raises(TryAgainError):
        await backend.inspect(stays.name)
    heard.clear()
    hole.times = 0
    await world.until(lambda: watch.live)
    assert spec.name in heard  # the scheduler may have news of the other
    assert (await backend.inspect(spec.name)).state is RunnerState.ABSENT
    assert (await backend.inspect(stays.name)).state is RunnerState.ALIVE


async def test_one_namespace_that_fails_holds_up_no_other(world, tmp_path):
    other = await world.add_namespace()
    proxy, config = await world.proxy(tmp_path)
    proxy.add(ApiFault.HANG, "", f"/namespaces/{other}/", times=10_000)
    backend = await world.backend(config)
    health = backend.health()
    assert health[world.namespaces[0]] == "ok"
    assert health[other] != "ok"
    daemon = world.daemon(backend, pools=("default", "other1"))
    await world.kubelet(agent=daemon.agent)
    stuck = [await daemon.offer(number, "other1") for number in range(100, 120)]
    fine = await daemon.offer(1)
    assert (await daemon.finished(fine)).outcome.reason is EndReason.COMPLETED
    assert list(await backend.list()) == []
    assert (await daemon.record(stuck[0])).phase is Phase.PROVISIONING


async def _absent(backend, name) -> bool:
    return (await backend.inspect(name)).state is RunnerState.ABSENT
