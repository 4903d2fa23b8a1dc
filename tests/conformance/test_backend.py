"""What every backend promises the engine, asked of the one in memory and of real sandboxes alike."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import GiveUpError
from orchestrator.model.egress import EgressRule
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.journey import RunnerStage, in_order
from orchestrator.model.runner import ExitCause, RunnerName, RunnerSpec, RunnerState, runner_name
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.kubelet import Script
from orchestrator.testing.pod_states import End

CLUSTER_WORLD = Path(__file__).parents[1] / "cluster" / "conftest.py"
WORLD = Path(__file__).parents[1] / "integration" / "sandbox" / "world.py"


def spec_of(number: int) -> RunnerSpec:
    job = JobId(f"conformance.{number}.1")
    return RunnerSpec(runner_name(job), job, PoolName("default"), (EgressRule("example.org"),), 60)


class InMemory:
    """Drives a MemoryBackend: a runner ends when told."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()

    async def prepare(self, spec: RunnerSpec) -> None:
        return

    async def end(self, spec: RunnerSpec, code: int) -> None:
        self.backend.exit(spec.name, code)

    async def credential(self, spec: RunnerSpec) -> str:
        return f"token:{(await self.backend.inspect(spec.name)).uid}"

    async def close(self) -> None:
        return


class Sandboxes:
    """Drives the sandbox backend: a job says its token, then goes on until USR1."""

    def __init__(self) -> None:
        module = sys.modules.get("sandbox_world")
        if module is None:
            loader = importlib.util.spec_from_file_location("sandbox_world", WORLD)
            module = importlib.util.module_from_spec(loader)
            sys.modules["sandbox_world"] = module
            loader.loader.exec_module(module)
        self.world = module.World(grace=0.1)
        self.backend = self.world.backend

    async def prepare(self, spec: RunnerSpec) -> None:
        await self.backend.start()
        script = "cat /run/orchestrator/token; echo; trap 'exit 3' USR1; while :; do sleep 0.02; done"
        self.world.api.scripts[spec.name] = {"script": script}

    async def end(self, spec: RunnerSpec, code: int) -> None:
        assert code == 3
        await self.credential(spec)
        inner = self.backend._sandboxes[spec.name].pid
        children = Path(f"/proc/{inner}/task/{inner}/children").read_text().split()

        os.kill(int(children[0]), signal.SIGUSR1)

    async def credential(self, spec: RunnerSpec) -> str:
        await self.world.said(spec, "\n")
        return self.world.output(spec).split()[-1]

    async def close(self) -> None:
        await self.backend.close()


class Pods:
    """Drives the Kubernetes backend on a real API server: a scripted kubelet runs each pod until told."""

    def __init__(self) -> None:
        module = sys.modules.get("cluster_world")
        if module is None:
            loader = importlib.util.spec_from_file_location("cluster_world", CLUSTER_WORLD)
            module = importlib.util.module_from_spec(loader)
            sys.modules["cluster_world"] = module
            loader.loader.exec_module(module)
        self.world = module.World()
        self.world.script = lambda _: Script(End.HOLD)

    async def open(self) -> None:
        await self.world.open()
        self.backend = await self.world.backend()
        self.kubelet = await self.world.kubelet()

    async def prepare(self, spec: RunnerSpec) -> None:
        return

    async def end(self, spec: RunnerSpec, code: int) -> None:
        self.kubelet.end(spec.name, code)

    async def credential(self, spec: RunnerSpec) -> str:
        pytest.skip("a pod's credential is verified by the runner API of the cluster, which has tests of its own")

    async def close(self) -> None:
        await self.world.close()


@pytest.fixture(
    params=[
        InMemory,
        pytest.param(Sandboxes, marks=pytest.mark.sandbox),
        pytest.param(Pods, marks=pytest.mark.cluster),
    ]
)
async def driver(request):
    made = request.param()
    if isinstance(made, Pods):
        await made.open()
    yield made
    await made.close()


async def until(driver, name: RunnerName, state: RunnerState):
    async with asyncio.timeout(20):
        while (view := await driver.backend.inspect(name)).state is not state:
            await asyncio.sleep(0.005)
    return view


async def created(driver, number: int = 1):
    spec = spec_of(number)
    await driver.prepare(spec)
    return spec, await driver.backend.create(spec)


async def test_a_created_runner_is_alive_and_listed(driver):
    spec, view = await created(driver)
    assert (view.name, view.state) == (spec.name, RunnerState.ALIVE)
    assert view.uid
    assert await driver.backend.inspect(spec.name) == view
    assert list(await driver.backend.list()) == [view]


async def test_a_runners_way_is_told_in_order_and_to_nobodys_cost(driver):
    assert driver.backend.journey(RunnerName("nobody")) is None
    spec, view = await created(driver)
    journey = driver.backend.journey(spec.name)
    if journey is None:
        assert isinstance(driver, InMemory)  # it says what a test has it say
        return
    assert journey.uid == view.uid
    assert journey.stages[0].stage is RunnerStage.CREATE
    assert journey.stages == in_order(journey.stages)
    await driver.end(spec, 3)
    await until(driver, spec.name, RunnerState.EXITED)
    after = driver.backend.journey(spec.name)
    assert after is not None
    assert after.stages[: len(journey.stages)] == journey.stages
    assert after.stages[-1].stage is RunnerStage.FLUSH


async def test_an_equal_specification_is_the_same_runner(driver):
    spec, view = await created(driver)
    assert (await driver.backend.create(spec)).uid == view.uid
    assert len(await driver.backend.list()) == 1


@pytest.mark.parametrize("other", [{"deadline_seconds": 61}, {"egress": ()}])
async def test_another_specification_under_the_name_is_a_clash(driver, other):
    spec, view = await created(driver)
    with pytest.raises(GiveUpError) as problem:
        await driver.backend.create(replace(spec, **other))
    assert problem.value.reason == "runner_name_clash"
    assert (await driver.backend.inspect(spec.name)).uid == view.uid


async def test_concurrent_creations_make_one_runner(driver):
    spec = spec_of(1)
    await driver.prepare(spec)
    views = await asyncio.gather(*(driver.backend.create(spec) for _ in range(4)))
    assert len({view.uid for view in views}) == 1


async def test_an_unknown_name_is_absent_and_its_deletion_is_fine(driver):
    name = RunnerName("runner-that-never-was")
    await driver.backend.delete(name)
    view = await driver.backend.inspect(name)
    assert (view.state, view.uid) == (RunnerState.ABSENT, "")


async def test_a_deleted_runner_is_absent_in_the_end_and_twice_is_fine(driver):
    spec, _ = await created(driver)
    await driver.backend.delete(spec.name)
    await driver.backend.delete(spec.name)
    await until(driver, spec.name, RunnerState.ABSENT)
    assert list(await driver.backend.list()) == []


async def test_the_same_name_again_has_another_uid(driver):
    spec, view = await created(driver)
    await driver.backend.delete(spec.name)
    await until(driver, spec.name, RunnerState.ABSENT)
    assert (await driver.backend.create(spec)).uid != view.uid


async def test_an_exited_runner_keeps_its_code_and_cause_until_it_is_deleted(driver):
    spec, alive = await created(driver)
    await driver.end(spec, 3)
    view = await until(driver, spec.name, RunnerState.EXITED)
    assert (view.exit_code, view.cause, view.uid) == (3, ExitCause.EXITED, alive.uid)
    assert (await driver.backend.create(spec)).state is RunnerState.EXITED
    assert list(await driver.backend.list()) == [view]
    await driver.backend.delete(spec.name)
    await until(driver, spec.name, RunnerState.ABSENT)


async def test_watchers_hear_of_an_exit_and_of_the_end(driver):
    heard: list[RunnerName] = []
    driver.backend.subscribe(heard.append)
    spec, _ = await created(driver)
    await driver.end(spec, 3)
    await until(driver, spec.name, RunnerState.EXITED)
    assert spec.name in heard
    heard.clear()
    await driver.backend.delete(spec.name)
    await until(driver, spec.name, RunnerState.ABSENT)
    assert spec.name in heard


async def test_a_credential_names_this_runner_while_it_lives(driver):
    spec, view = await created(driver)
    other, _ = await created(driver, 2)
    credential = await driver.credential(spec)
    identity = await driver.backend.verify(credential)
    assert (identity.name, identity.uid) == (spec.name, view.uid)
    assert (await driver.backend.verify(await driver.credential(other))).name == other.name
    assert await driver.backend.verify(credential + "x") is None
    assert await driver.backend.verify("") is None
    await driver.backend.delete(spec.name)
    await until(driver, spec.name, RunnerState.ABSENT)
    assert await driver.backend.verify(credential) is None
