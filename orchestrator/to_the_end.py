"""What a thread has begun cannot be called back, so whoever waits for it is not let go before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(doing: Coroutine[Any, Any, T]) -> T:
    """What comes of it. Who waits and is cancelled goes once it is done, and a lock that is held meanwhile stays held:
    so memory never lacks what is stored, and the next one in the queue counts on it."""
    task = asyncio.get_running_loop().create_task(doing)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:  # also when it failed: who is told to end must not go on because of that
        raise asyncio.CancelledError from task.exception()
    return task.result()
