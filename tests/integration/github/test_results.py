"""How jobs ended reaches their records whatever else is going on."""

from __future__ import annotations

import asyncio

from github_plant import Plant, plant_of, succeeded

from orchestrator.model.outcome import Result
from orchestrator.testing.github.faults import Fault


async def test_a_result_does_not_wait_for_another_jobs_name():
    """A runner keeps its slot until its result is there, and GitHub's API may take long to tell a name."""
    ended = asyncio.Event()

    async def behave(plant: Plant, name):
        first = len(plant.names_out) == 0
        if not first:
            await ended.wait()
            return await plant.do_job(name)
        runner = await plant.take_job(name)
        plant.names_out.append(runner.job.key)
        await plant.until(lambda: plant._named(name))
        # From here on no name is told any more. Both messages are queued before any poll can fetch one of them.
        plant.github.faults.add(Fault.UNAVAILABLE, "/actions/runs/{id}", times=10_000)
        plant.dispatch(1)
        await plant.until(lambda: bool(plant.scale_set.assigned) and len(plant.handed_out) == 2)
        other = next(one for one in plant.github.state.runners.values() if one is not runner)
        plant.github.state.come_online(other)
        assert other.busy
        plant.github.state.finish(runner, "succeeded")
        return 0

    async with plant_of() as plant:
        plant.behave = behave
        plant.dispatch(1)
        await plant.until(lambda: len(plant.handed_out) == 2)
        await plant.until(lambda: len(plant.engine.live_ids()) == 1, 5)
        (record,) = succeeded(await plant.records())
        assert record.outcome.result is Result.SUCCESS
        unnamed = [one for one in await plant.records() if one.id != record.id]
        assert [one.named_at_ns for one in unnamed] == [0]
        plant.github.faults.clear()
        await plant.until(lambda: any(one.named_at_ns for one in map(plant.engine.record, plant.engine.live_ids())))
        ended.set()
        await plant.until(lambda: not plant.github.state.runners)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 2
