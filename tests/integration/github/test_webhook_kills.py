"""A source of webhooks whose daemon is killed before and after each of its calls; the next one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from github_plant import Gate, over_a_kill, succeeded
from webhook_plant import webhook_plant

from orchestrator.intake.github.webhooks.job_table import Place


async def killed_after(passes: int, folder: Path) -> bool:
    """Two jobs over a kill at the given call; whether the daemon lived to be killed."""
    folder.mkdir()
    async with webhook_plant(folder, start=False) as plant:
        plant.places = (Place("acme", "shop"),)
        plant.queued_seconds = 0.2
        gate = Gate()
        gate.passes_left = passes
        await plant.start(gate=gate)
        run = plant.dispatch(2)
        was_killed = await over_a_kill(plant, gate, run)
        await plant.at_rest()
        await plant.source.sweep()
        await plant.source.sweep()
        await plant.until(lambda: plant.inbox.waiting == 0)
        records = await plant.assert_kept()
        assert [job.conclusion for job in run.jobs] == ["success"] * 2
        assert [job.starts for job in run.jobs] == [1, 1], "a job ran twice"
        assert 0 <= len(succeeded(records)) <= 2 <= len(records)
        keys = [record.platform_key for record in records if record.platform_key]
        assert len(keys) == len(set(keys))
        return was_killed


async def kills(folder: Path, step: int) -> int:
    passes = 0
    while await killed_after(passes, folder / str(passes)):
        passes += step
    return passes


async def test_a_kill_now_and_then_loses_no_job(tmp_path):
    assert await kills(tmp_path, 13) > 20


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_kill_at_any_call_loses_no_job(tmp_path):
    assert await kills(tmp_path, 1) > 20
