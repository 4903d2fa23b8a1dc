"""Whoever is cancelled while a thread works goes when that is done, and goes."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.to_the_end import to_the_end


async def test_what_comes_of_it_is_returned_or_raised() -> None:
    assert await to_the_end(asyncio.to_thread(int, "7")) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await to_the_end(asyncio.to_thread(int, "seven"))


@pytest.mark.parametrize("text", ["7", "seven"])
async def test_who_is_cancelled_meanwhile_ends_when_it_is_done_however_it_went(text: str) -> None:
    """A loop that takes a failure lightly would go on otherwise, and nobody would end it."""
    begun, gate, done = asyncio.Event(), asyncio.Event(), False

    async def work() -> int:
        nonlocal done
        begun.set()
        await gate.wait()
        done = True
        return int(text)

    waiting = asyncio.create_task(to_the_end(work()))
    await begun.wait()
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    await asyncio.wait([waiting])
    assert done
    assert waiting.cancelled()
