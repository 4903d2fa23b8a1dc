"""Draining: who asked for it is told first; a job whose runner was being made when the time was up ends truly too."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.daemon.operations.drain import Drain, Drainage
from orchestrator.daemon.operations.operators import OperatingDesk
from orchestrator.errors import GiveUpError
from orchestrator.model.events import JobEnded, JobFinished, RunnerBound
from orchestrator.model.phase import Phase

from .test_audit import records, sick_disk

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


async def test_who_drains_and_who_takes_it_back_is_told_before_it_is_so(world, monkeypatch):
    rooms, drain = world.rooms, Drain()
    desk = OperatingDesk(None, Drainage(rooms, drain), rooms.notes)
    assert not (await desk.resume(world.local))["draining"]
    with sick_disk(monkeypatch):
        asked = asyncio.ensure_future(desk.drain(world.local, 5.5))
        taken_back = asyncio.ensure_future(desk.resume(world.local))
        await world.until(lambda: not rooms.audit.log.healthy)
        assert not drain.under_way
    assert ((await asked)["draining"], (await taken_back)["draining"]) == (True, False)
    await desk.drain(world.local, None)
    drain.signalled()
    with pytest.raises(GiveUpError) as stopping:
        await desk.resume(world.local)
    assert stopping.value.reason == "daemon_stopping"
    told = [one for one in records(world.state) if one["kind"] in ("daemon.drained", "daemon.resumed")]
    assert [one["kind"] for one in told] == ["daemon.drained", "daemon.resumed", "daemon.drained"]
    assert [one["data"] for one in told] == [{"limit_ms": 5500}, {}, {"limit_ms": None}]
    assert {one["actor"] for one in told} == {rooms.notes.who(world.local)}


@pytest.mark.parametrize("told", ["before the stop", "during the stop"])
async def test_the_end_is_noticed_of_a_job_that_is_dropped_long_after_it_was_told(told, world, monkeypatch):
    """The feeds tell of a job's end first, the engine drops the job later: how much later, the machine says."""
    rooms, loop = world.rooms, asyncio.get_running_loop()
    reached, go_on, dropped = asyncio.Event(), asyncio.Event(), asyncio.Event()
    append = rooms.journal.append

    async def held(facts):
        if not any(isinstance(event, JobFinished) for _, event in facts):
            return await append(facts)
        stored = await append(facts) if told == "before the stop" else None
        reached.set()
        await go_on.wait()
        stored = stored or await append(facts)
        loop.call_later(0.1, dropped.set)  # whoever looks as soon as it is told has looked by then
        await dropped.wait()
        return stored

    monkeypatch.setattr(rooms.journal, "append", held)
    job_id = await world.offer("job", "true")
    async with asyncio.timeout(30):
        await reached.wait()
    drainage = Drainage(rooms, Drain())
    assert drainage.left() == [job_id]
    quiet = asyncio.create_task(drainage.until_quiet(3600))
    await asyncio.sleep(0)  # now it has looked once
    go_on.set()
    async with asyncio.timeout(30):
        assert await quiet
    assert rooms.engine.record(job_id) is None
