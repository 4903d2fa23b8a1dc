"""The source as a whole against the test server: what users see of it when all goes well."""

from __future__ import annotations

import pytest
from github_plant import POOL, plant_of, succeeded

from orchestrator.intake.github.source_config import ScaleSetConfig
from orchestrator.testing.github.model import Flavour, JobPlan


@pytest.mark.parametrize("flavour", list(Flavour))
async def test_jobs_get_runners_names_and_results(flavour):
    async with plant_of(flavour) as plant:
        run = plant.dispatch(3)
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        records = await plant.assert_kept()
        assert [job.conclusion for job in run.jobs] == ["success"] * 3
        assert len(succeeded(records)) == len(records) == 3
        assert sorted(record.offer.spec.name for record in records) == ["job 0", "job 1", "job 2"]
        facts = records[0].offer.caller.facts
        assert (facts["repository"], facts["ref"], facts["ref_protected"]) == ("acme/shop", "refs/heads/main", "true")


async def test_a_set_that_cannot_be_had_does_not_stop_another():
    async with plant_of(start=False) as plant:
        bad = ScaleSetConfig(name="bad", pool=POOL, group="Nowhere", script="exec runner")
        plant.sets = (bad, *plant.sets)
        run = plant.dispatch(2)
        await plant.start()
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 2
        states = {one.name: one.waiting_for for one in plant.source.status().sets}
        assert states == {"nowhere/bad": "github_runner_group_unknown", "default/zt": ""}


async def test_two_sets_of_one_pool_never_have_more_runners_than_it_holds():
    async with plant_of(capacity=2, start=False) as plant:
        plant.sets = (*plant.sets, ScaleSetConfig(name="other", pool=POOL, script="exec runner", labels=("other",)))
        most = 0

        def counted(action, job):
            nonlocal most
            most = max(most, len(plant.backend.names()))

        plant.github.state.listeners.append(counted)
        plans = [JobPlan(f"job {number}", labels=(("zt", "other")[number % 2],)) for number in range(8)]
        run = plant.github.dispatch_workflow("acme/shop", plans)
        await plant.start()
        await plant.github.until(lambda: run.done, 20)
        await plant.at_rest()
        records = await plant.assert_kept()
        assert len(succeeded(records)) == len(records) == 8
        assert most <= 2
        by_set = {record.offer.spec.claimed["scale_set"] for record in records}
        assert by_set == {"default/zt", "default/other"}
