"""A task that loses a cancellation ends all the same, and what a stop waits for is named."""

from __future__ import annotations

import asyncio
import logging

from orchestrator.daemon.last_resort import expect_the_end, until_ended


async def test_a_task_that_loses_its_first_cancellation_is_told_again(caplog):
    lost = asyncio.Event()

    async def deaf() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost.is_set():
                    raise
                lost.set()

    async def well() -> None:
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(deaf(), name="deaf"), asyncio.create_task(well(), name="well")]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await until_ended(tasks, again_seconds=0.01)
    assert lost.is_set()
    assert all(task.cancelled() for task in tasks)
    assert [one.getMessage() for one in caplog.records] == ["did not end when told to: deaf"]


async def test_tasks_that_have_ended_are_not_waited_for():
    over = asyncio.create_task(asyncio.sleep(0), name="over")
    await over
    async with asyncio.timeout(30):
        await until_ended([over])
        await until_ended([])


async def test_what_a_stop_waits_for_is_told_with_its_place(caplog, monkeypatch):
    armed = []
    monkeypatch.setattr(
        "faulthandler.dump_traceback_later", lambda seconds, **how: armed.append((seconds, how["exit"]))
    )

    async def inner() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await inner()

    hangs = asyncio.create_task(outer(), name="closing of the vault")
    with caplog.at_level(logging.ERROR, "orchestrator"):
        expect_the_end(0.01, 3600.0)
        async with asyncio.timeout(30):
            while len(caplog.records) < 2 or "vault" not in caplog.text:
                await asyncio.sleep(0.01)
    hangs.cancel()
    assert armed == [(3600.0, True)]
    (told,) = [one.getMessage() for one in caplog.records if "vault" in one.getMessage()]
    assert "inner" in told.partition("outer")[0], "the innermost place comes first"
