"""While a daemon drains: runners that wait for a job are given up, of scale sets and of webhooks; busy ones stay."""

from __future__ import annotations

from github_plant import Plant, plant_of, succeeded
from webhook_plant import webhook_plant

from orchestrator.model.outcome import EndReason
from orchestrator.model.phase import Phase
from orchestrator.model.runner import RunnerName, RunnerState
from orchestrator.testing.github.model import JobState


async def stays_offline(plant: Plant, name: RunnerName) -> int:
    """Registered, and never asks for a job; until it is deleted."""
    await plant.until(lambda: plant.backend.view(name).state is RunnerState.ABSENT, 60)
    return 0


async def is_let_go(plant: Plant) -> None:
    """The job that is dispatched now stays with GitHub, and its runner goes."""
    plant.behave = stays_offline
    run = plant.dispatch(1)
    await plant.until(lambda: bool(plant.handed_out))
    assert len(plant.github.state.runners) == 1
    plant.engine.begin_drain()
    plant.source.set_draining(True)
    await plant.source.let_go(plant.engine.active_ids())
    await plant.until(lambda: not plant.engine.active_ids())
    assert not plant.github.state.runners
    records = {record.id: record for record in await plant.records()}
    first = records.pop(plant.handed_out[0][0])
    assert first.outcome is not None
    assert first.outcome.reason is EndReason.CANCELLED
    assert {record.phase for record in records.values()} <= {Phase.QUEUED, Phase.WAITING}
    assert not run.done
    assert run.jobs[0].state is not JobState.RUNNING


async def test_a_runner_of_a_scale_set():
    async with plant_of() as plant:
        await is_let_go(plant)


async def test_a_runner_of_webhooks(tmp_path):
    async with webhook_plant(tmp_path) as plant:
        await is_let_go(plant)


async def test_a_runner_that_got_a_job_of_which_nobody_has_told_us():
    async with plant_of() as plant:
        plant.github.state.assignment.hold_started = 0.5
        run = plant.dispatch(1)
        await plant.github.until(lambda: run.jobs[0].starts == 1)
        (job_id,) = plant.engine.active_ids()
        for _ in range(3):
            await plant.source.let_go([job_id])
        record = plant.engine.record(job_id)
        assert record is not None
        assert record.cancel is None, "GitHub says that it is busy"
        assert plant.source.tally.busy == 1, "it is asked once"
        await plant.github.until(lambda: run.done)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 1
