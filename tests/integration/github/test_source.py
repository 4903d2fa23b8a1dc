"""The source as a whole against the test server: what users see of it when all goes well."""

from __future__ import annotations

import pytest
from github_plant import plant_of, succeeded

from orchestrator.testing.github.model import Flavour


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
