"""The look at everything alone converges, and one backend's trouble stays its own."""

from __future__ import annotations

import asyncio

import pytest
from world import PROOF, Daemon, offer

from orchestrator.errors import TryAgainError
from orchestrator.lifecycle.sweep import Sweep
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.phase import Phase
from orchestrator.model.runner import RunnerName, RunnerSpec
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.faults import Fault


async def started(**options) -> Daemon:
    daemon = Daemon(**options)
    await daemon.start()
    return daemon


async def orphan(backend: MemoryBackend, name: str = "runner-orphan") -> RunnerName:
    runner = RunnerName(name)
    await backend.create(RunnerSpec(runner, JobId("s.nobody.1"), PoolName("default"), (), 60))
    return runner


async def test_an_end_that_nobody_heard_of_is_found():
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (name,) = daemon.backend.names()
    await daemon.claim(name, PROOF)
    daemon.backend.exit(name, tell=False)
    await daemon.settle()
    record = daemon.engine.record(offer().key.id)
    assert record is not None
    assert record.phase is Phase.RUNNING
    await daemon.start_sweep()
    assert daemon.engine.live_count == 0
    await daemon.kill()


async def test_an_orphan_is_deleted_on_the_second_sight_and_a_jobs_runner_never():
    daemon = await started()
    await daemon.offer(offer())
    await daemon.settle()
    (mine,) = daemon.backend.names()
    runner = await orphan(daemon.backend)
    await daemon.sweep.run()
    assert set(daemon.backend.names()) == {mine, runner}
    await daemon.sweep.run()
    await daemon.sweep.run()
    assert daemon.backend.names() == (mine,)
    assert daemon.sweep.orphans_deleted == 1
    await daemon.kill()


async def test_a_runner_whose_job_came_back_between_two_sights_is_kept():
    daemon = await started()
    spec = RunnerSpec(RunnerName("x"), JobId("x"), PoolName("default"), (), 1)
    await daemon.backend.create(spec)
    await daemon.sweep.run()
    daemon.backend.vanish(RunnerName("x"))
    await daemon.sweep.run()
    await daemon.backend.create(spec)
    await daemon.sweep.run()
    assert daemon.backend.names() == ("x",), "the two sights must follow each other"
    await daemon.kill()


class Broken(MemoryBackend):
    async def list(self):
        raise RuntimeError("a defect")


@pytest.mark.parametrize("trouble", ["fails", "hangs", "defect"])
async def test_a_backend_in_trouble_holds_up_no_other(trouble: str):
    daemon = await started()
    bad = Broken() if trouble == "defect" else MemoryBackend(daemon.clock)
    if trouble != "defect":
        bad.faults.add(*[Fault.FAILED if trouble == "fails" else Fault.HANGING] * 4)
    good = MemoryBackend()
    await orphan(good)
    sweep = Sweep(daemon.engine, {"bad": bad, "good": good})
    for _ in range(2):
        run = asyncio.ensure_future(sweep.run())
        await daemon.settle()
        await daemon.clock.advance(31)
        await run
    assert good.names() == ()
    await daemon.kill()


async def test_an_orphan_that_cannot_be_deleted_holds_up_no_other():
    daemon = await started()
    backend = MemoryBackend()
    first, second = await orphan(backend, "one"), await orphan(backend, "two")
    asked: list[RunnerName] = []
    delete = backend.delete

    async def refuse_first(name: RunnerName) -> None:
        asked.append(name)
        if len(asked) == 1:
            raise TryAgainError("away")
        await delete(name)

    backend.delete = refuse_first  # type: ignore[method-assign]
    sweep = Sweep(daemon.engine, {"memory": backend})
    await sweep.run()
    await sweep.run()
    assert set(asked) == {first, second}
    assert len(backend.names()) == 1
    await sweep.run()
    assert (backend.names(), sweep.orphans_deleted) == ((), 2)
    await daemon.kill()
