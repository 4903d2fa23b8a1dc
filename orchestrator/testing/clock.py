"""A clock that moves only when told to."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

START_NS = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z."""


class SteppedClock:
    """Timers fire in order during `advance`; everything they wake gets to run before the next one."""

    def __init__(self, start_ns: int = START_NS) -> None:
        self._now_ns = start_ns
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._count = 0

    def now_ns(self) -> int:
        return self._now_ns

    async def sleep(self, seconds: float) -> None:
        done = asyncio.get_running_loop().create_future()
        cancel = self.call_later(seconds, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            cancel()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        self._count += 1
        number = self._count
        heapq.heappush(self._timers, (self._now_ns + int(seconds * 1e9), number, callback))
        return lambda: self._cancelled.add(number)

    def tick(self) -> int:
        """The time, which has then passed by a nanosecond: what comes after is later."""
        self._now_ns += 1
        return self._now_ns

    async def advance(self, seconds: float) -> None:
        """Move time forward, firing what falls due on the way."""
        until = self._now_ns + int(seconds * 1e9)
        while self._timers and self._timers[0][0] <= until:
            due_ns, number, callback = heapq.heappop(self._timers)
            if number in self._cancelled:
                self._cancelled.discard(number)
                continue
            self._now_ns = max(self._now_ns, due_ns)
            callback()
            await self._settle()
        self._now_ns = until
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
