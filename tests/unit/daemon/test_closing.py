"""A room that hangs is left behind, said so, and the others are still closed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

from orchestrator.daemon.closing import push_closing


async def test_a_hanging_room_does_not_keep_the_others_open(caplog):
    closed = []

    async def well():
        closed.append("well")

    async def hangs():
        await asyncio.Event().wait()

    with caplog.at_level(logging.ERROR, "orchestrator"):
        async with asyncio.timeout(5), AsyncExitStack() as stack:
            push_closing(stack, "first", well)
            push_closing(stack, "gateway", hangs, seconds=0.05)
            push_closing(stack, "last", well)
    assert closed == ["well", "well"]
    assert "gateway did not close" in caplog.text


async def test_a_room_that_fails_to_close_does_not_keep_the_others_open():
    closed = []

    async def well():
        closed.append("well")

    async def fails():
        raise OSError("no")

    try:
        async with AsyncExitStack() as stack:
            push_closing(stack, "first", well)
            push_closing(stack, "bad", fails)
    except OSError:
        closed.append("told")
    assert closed == ["well", "told"]
