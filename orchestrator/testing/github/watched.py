"""Waiting for something to become true, instead of for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watched:
    """Conditions are looked at whenever `notify` says that something has changed."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Raises TimeoutError when it has not come true in time, by the machine's clock."""
        if condition():
            return
        entry = (condition, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(seconds):
                await entry[1]
        finally:
            self._waiting.remove(entry)

    def notify(self) -> None:
        """Something has changed: see who waited for it."""
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)
