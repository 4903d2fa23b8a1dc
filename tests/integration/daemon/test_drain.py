"""A job whose runner was still being made when the drain's time was up ends with a true reason too."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.daemon.drain import Drain, Drainage
from orchestrator.model.events import JobEnded, RunnerBound
from orchestrator.model.phase import Phase

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize("world", [pytest.param({"deadlines": {"drain_seconds": 0.001}}, id="no-time")], indirect=True)
async def test_a_job_that_begins_during_the_drain_is_ended_by_it(world, monkeypatch):
    backend, held = world.rooms.backends["sandbox"].backend, asyncio.Event()
    create = backend.create

    async def slow(spec):
        await held.wait()
        return await create(spec)

    monkeypatch.setattr(backend, "create", slow)
    job_id = await world.offer("job", "sleep 60")
    await world.until(lambda: world.rooms.engine.record(job_id).phase is Phase.PROVISIONING)
    asyncio.get_running_loop().call_later(0.2, held.set)
    async with asyncio.timeout(12):
        assert await Drainage(world.rooms, Drain()).until_quiet(0.001), "no work is left"
    facts = [fact.event for fact in await world.rooms.journal.facts_of(job_id)]
    assert any(isinstance(fact, RunnerBound) for fact in facts)
    (ended,) = [fact for fact in facts if isinstance(fact, JobEnded)]
    assert "the daemon was stopped" in ended.outcome.message
