"""What jobs and idleness cost in calls to GitHub."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from github_plant import QUICK, Plant, plant_of, succeeded

from orchestrator.lifecycle.observation import SECOND
from orchestrator.testing.github.model import Flavour

SERVICE = ("/_apis/", "/scalesets/")


def service_calls(counters: Counter) -> int:
    return sum(count for endpoint, count in counters.items() if any(part in endpoint for part in SERVICE))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("flavour", "jobs", "capacity"), [(Flavour.HOSTED, 120, 30), (Flavour.GHES, 120, 30)])
async def test_a_burst_costs_at_most_four_calls_for_each_job(flavour, jobs, capacity):
    """The service's calls, with the pace that is the default."""
    timing = replace(QUICK, pace=0.5, end_grace=15.0, surplus_grace=15.0, capacity_pace=2.0)
    async with plant_of(flavour, capacity=capacity, timing=timing, start=False, jobs_seconds=2.0) as plant:
        plant.deadlines = replace(plant.deadlines, completion_ns=60 * SECOND, naming_ns=60 * SECOND)

        async def takes_a_while(plant: Plant, name):
            await asyncio.sleep(0.2)
            return await plant.do_job(name)

        plant.behave = takes_a_while
        run = plant.dispatch(jobs)
        await plant.start()
        await plant.github.until(lambda: run.done, 150)
        await plant.at_rest(60)
        records = await plant.assert_kept()
        assert len(succeeded(records)) == len(records) == jobs
        assert [job.starts for job in run.jobs] == [1] * jobs
        per_job = service_calls(plant.github.counters) / jobs
        assert plant.github.counters["POST /_apis/runtime/runnerscalesets/{id}/generatejitconfig"] == jobs
        assert per_job <= 4.0, dict(plant.github.counters)
        assert (sum(plant.github.counters.values()) - per_job * jobs) / jobs <= 1.0, "calls to the REST API"
        picture = plant.source.status()
        assert picture.calls["generate_jit"] == jobs
        assert picture.calls_per_job > 0


async def test_an_idle_set_costs_one_long_poll():
    async with plant_of() as plant:
        plant.github.options.poll_hold = 50
        await plant.until(lambda: plant.github.counters["GET /scalesets/message"] >= 1)
        before = Counter(plant.github.counters)
        for _ in range(6):
            await plant.github.clock.step(50)
            await plant.until(lambda: plant.scale_set.session is not None and plant.scale_set.session.polls == 1)
        after = Counter(plant.github.counters)
        after.subtract(before)
        asked = {endpoint: count for endpoint, count in after.items() if count}
        assert asked.keys() == {"GET /scalesets/message"}
        assert asked["GET /scalesets/message"] <= 7


async def test_behind_a_full_message_the_next_is_fetched_at_once():
    """Jobs gather for a while between two messages, which saves nothing when there are more than one can hold."""
    async with plant_of(capacity=150, timing=replace(QUICK, pace=60.0), start=False) as plant:
        plant.dispatch(120)
        await plant.start()
        await plant.until(lambda: plant.source.tally.messages == 3, 10)
