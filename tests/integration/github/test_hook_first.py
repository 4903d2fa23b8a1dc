"""A runner's hook with the job's own token is heard before GitHub's message, which would name it with fewer facts."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from github_plant import QUICK, Plant, plant_of

from orchestrator.errors import TryAgainError
from orchestrator.model.runner import RunnerName
from orchestrator.testing.github.model import JobPlan
from orchestrator.testing.github.oidc import claims_of


def behaviour(plant: Plant, *, token: bool):
    """A runner whose hook speaks after GitHub's message has come; `token` is whether it has one to show."""

    async def behave(self: Plant, name: RunnerName) -> int:
        runner = await self.take_job(name)
        if runner is None or not runner.busy:
            return 0
        job = runner.job
        if self.timing.hook_patience > 1:
            await self.until(lambda: bool(self.source.naming._hooks))
        claims = {key: str(value) for key, value in claims_of(job, "here", "https://issuer", self.github.state).items()}
        async with asyncio.timeout(20):
            while not self._named(name):
                with contextlib.suppress(TryAgainError):
                    await self.source.naming.reported(name, "acme/shop", job.run.id, claims if token else None)
                await asyncio.sleep(0.01)
        self.github.state.finish(runner, "succeeded")
        return 0

    return behave


async def name_of(plant: Plant) -> tuple[str, str]:
    """Proof and environment of the one job's name."""
    (record,) = await plant.assert_kept()
    platform = record.platform
    assert platform is not None
    return platform.proof, record.offer.spec.deployment_environment


@pytest.mark.parametrize(("token", "name"), [(True, ("oidc", "staging")), (False, ("api", ""))])
async def test_the_message_waits_for_the_hook(token, name):
    async with plant_of(timing=replace(QUICK, hook_patience=60.0)) as plant:
        plant.behave = behaviour(plant, token=token)
        run = plant.github.dispatch_workflow("acme/shop", [JobPlan("build", environment="staging", id_token=token)])
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        assert await name_of(plant) == name
        assert plant.source.naming._hooks == {}


async def test_a_hook_that_says_nothing_is_not_waited_for_longer_than_patience():
    async with plant_of(timing=replace(QUICK, hook_patience=0.2)) as plant:
        run = plant.dispatch(1)
        await plant.github.until(lambda: run.done, 15)
        await plant.at_rest()
        assert await name_of(plant) == ("api", "")
