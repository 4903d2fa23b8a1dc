"""Nobody gets another job's name: not by pointing elsewhere, not by another job's token, not by a runner of one's own
that is called as ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
from github_plant import QUICK, Plant, plant_of
from webhook_plant import webhook_plant

from orchestrator.errors import GiveUpError
from orchestrator.model.outcome import EndReason
from orchestrator.model.runner import RunnerName
from orchestrator.testing.github.model import Job, JobPlan
from orchestrator.testing.github.oidc import claims_of


def twin_of(plant: Plant, repository: str, registered: str) -> Job:
    """A job elsewhere, on somebody's own runner that is called as one of ours."""
    plant.github.add_repository(repository, branches={"main": True})
    (job,) = plant.github.dispatch_workflow(repository, [JobPlan("trap", labels=("theirs",))]).jobs
    state = plant.github.state
    runner = state.register(repository, registered, labels=("theirs",), group_id=1, work_folder="_work", one=None)
    state.come_online(runner)
    assert (job.runner_name, job.runner_id) == (registered, runner.id)
    return job


async def ended(plant: Plant) -> list[EndReason]:
    await plant.until(lambda: not plant.engine.live_ids(), 15)
    return [record.outcome.reason for record in await plant.records() if record.outcome is not None]


async def test_a_hook_that_points_to_a_strangers_repository_is_not_believed():
    """Anybody's public repository can be read with our token, and can have a runner of any name."""
    said: list[object] = []

    async def behave(plant: Plant, name: RunnerName) -> int:
        runner = await plant.take_job(name)
        trap = twin_of(plant, "mallory/trap", runner.name)
        asked = plant.source.status().calls.get("run_jobs", 0)
        said.append(await plant.source.naming.reported(name, "mallory/trap", trap.run.id))
        assert plant.source.status().calls.get("run_jobs", 0) == asked
        plant.github.state.finish(trap.runner, "succeeded")
        await plant.until(lambda: plant._named(name))
        with pytest.raises(GiveUpError, match="contradicts"):
            await plant.source.naming.reported(name, "mallory/trap", trap.run.id)
        plant.github.state.finish(runner, "succeeded")
        return 0

    async with plant_of(timing=replace(QUICK, hook_patience=0.2)) as plant:
        plant.behave = behave
        plant.dispatch(1)
        await plant.until(lambda: len(said) > 0)
        await plant.at_rest()
        assert said == [None]
        (record,) = await plant.assert_kept()
        assert record.offer.caller.facts["repository"] == "acme/shop"


@pytest.mark.parametrize("repository", ["acme/shop", "acme/other"])
async def test_another_jobs_token_ends_the_runner_that_shows_it_as_soon_as_github_speaks(repository):
    async def behave(plant: Plant, name: RunnerName) -> int:
        runner = await plant.take_job(name)
        await plant.until(lambda: bool(plant.source.naming._hooks))
        (other,) = plant.github.dispatch_workflow(repository, [JobPlan("deploy", labels=("elsewhere",))]).jobs
        given = {key: str(value) for key, value in claims_of(other, "us", "https://issuer", plant.github.state).items()}
        named = await plant.source.naming.reported(name, repository, other.run.id, given)
        assert named.live
        await plant.until(lambda: not (record := plant.engine.record_of_runner(name)) or record.outcome is not None)
        plant.github.state.finish(runner, "succeeded")
        return 0

    async with plant_of(timing=replace(QUICK, hook_patience=60.0)) as plant:
        plant.github.add_repository("acme/other", branches={"main": True})
        plant.behave = behave
        plant.dispatch(1)
        await plant.until(lambda: bool(plant.handed_out))
        assert await ended(plant) == [EndReason.SECOND_JOB]
        await plant.assert_kept()


async def test_a_webhook_of_somebodys_runner_that_is_called_as_ours_changes_nothing(tmp_path):
    """Whoever may register runners for one repository of the organisation may give them any name."""

    async def behave(plant: Plant, name: RunnerName) -> int:
        runner = await plant.take_job(name)
        trap = twin_of(plant, "acme/other", runner.name)
        for action in ("in_progress", "completed"):
            if action == "completed":
                plant.github.state.finish(trap.runner, "succeeded")
            await plant.deliver(action, trap)
            await plant.until(lambda: plant.inbox.waiting == 0)
            record = plant.engine.record_of_runner(name)
            assert (record.named_at_ns, record.completed) == (0, None)
        assert await plant.source.naming.reported(name, "acme/other", trap.run.id) is None
        named = await plant.source.naming.reported(name, "acme/shop", runner.job.run.id)
        assert named.live
        job = runner.job
        plant.github.state.finish(runner, "succeeded")
        await plant.deliver("completed", job)
        return 0

    async with webhook_plant(tmp_path) as plant:
        plant.sends = {"queued"}
        plant.behave = behave
        plant.dispatch(1)
        await plant.until(lambda: bool(plant.handed_out))
        assert await ended(plant) == [EndReason.COMPLETED]
        (record,) = await plant.assert_kept()
        assert record.offer.caller.facts["repository"] == "acme/shop"
