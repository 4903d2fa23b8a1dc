"""Closing rooms within a bound: one that hangs must not keep the others, or the daemon, from ending."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

_log = logging.getLogger("orchestrator")

CLOSING_SECONDS = 45.0
"""Longest wait for one room. More than any room's own bounds add up to, so it only ends what hangs."""


def push_closing(
    stack: AsyncExitStack, name: str, close: Callable[[], Awaitable[object]], seconds: float = CLOSING_SECONDS
) -> None:
    """Have `stack` close the room called `name`, waiting `seconds` at most; then it is logged and left."""

    async def bounded() -> None:
        try:
            async with asyncio.timeout(seconds):
                await close()
        except TimeoutError:
            _log.error("%s did not close within %g s; going on without it", name, seconds)

    stack.push_async_callback(bounded)
