"""The daemon is killed before and after each of its calls, to GitHub and to the engine; the next one goes on."""

from __future__ import annotations

import asyncio

import pytest
from github_plant import Gate, Plant, over_a_kill, plant_of, succeeded

from orchestrator.testing.github.model import Flavour


async def killed_after(passes: int, flavour: Flavour) -> bool:
    """Two jobs over a kill at the given call; whether the daemon lived to be killed."""
    async with plant_of(flavour, start=False) as plant:
        plant.github.options.poll_hold = 0.1
        plant.github.options.session_idle = 0.3  # of one whose id no note tells
        plant.github.options.unclaimed = 0.3
        plant.github.options.requeue_delays = (0.0,)
        run = plant.dispatch(2)
        gate = Gate()
        gate.passes_left = passes
        await plant.start(gate=gate)
        was_killed = await over_a_kill(plant, gate, run)
        await finished(plant, run)
        return was_killed


async def finished(plant: Plant, run) -> None:
    await plant.at_rest()
    await plant.source.sweep()
    await plant.source.sweep()
    records = await plant.assert_kept()
    assert [job.conclusion for job in run.jobs] == ["success"] * 2
    assert [job.starts for job in run.jobs] == [1, 1], "a job ran twice"
    # A runner whose work was lost with the daemon, or whose job's name came too late, is told apart from a success.
    assert 0 <= len(succeeded(records)) <= 2 <= len(records)
    keys = [record.platform_key for record in records if record.platform_key]
    assert len(keys) == len(set(keys))
    assert plant.scale_set.session is not None


async def kills(flavour: Flavour, step: int) -> int:
    passes = 0
    while await killed_after(passes, flavour):
        passes += step
    return passes


@pytest.mark.parametrize("flavour", list(Flavour))
async def test_a_kill_now_and_then_loses_no_job(flavour):
    assert await kills(flavour, 17) > 30


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("flavour", list(Flavour))
async def test_a_kill_at_any_call_loses_no_job(flavour):
    assert await kills(flavour, 1) > 30


async def test_runners_that_wait_outlive_the_daemon_and_are_counted():
    async with plant_of() as plant:
        plant.github.options.poll_hold = 0.05
        begun = asyncio.Event()

        async def late(plant: Plant, name):
            await begun.wait()
            return await plant.do_job(name)

        plant.behave = late
        run = plant.dispatch(2)
        await plant.until(lambda: len(plant.handed_out) == 2)
        await plant.kill()
        await plant.start()
        await plant.until(lambda: plant.source.tally.polls >= 3)
        assert plant.source.status().sets[0].slots["free"] == 2
        assert len(plant.backend.created_uids) == 2
        begun.set()
        await plant.github.until(lambda: run.done)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 2


@pytest.mark.slow
async def test_a_task_that_is_cancelled_at_any_moment_ends_cleanly():
    """A stop, not a kill: after any number of turns of the loop the source ends in time and leaves no session."""
    for turns in range(0, 400, 7):
        async with plant_of() as plant:
            plant.dispatch(2)
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.wait_for(plant.source.stop(), 5)
            assert plant.source._task is None
            assert plant.source.status().sets[0].stage in ("stopped", "starting")
