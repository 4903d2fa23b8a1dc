"""The real clock: Unix time that a step of the system clock cannot move while the daemon runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class SystemClock:
    """Unix time at construction plus CLOCK_BOOTTIME since: deadlines survive clock jumps, and suspends count."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now_ns(self) -> int:
        return self._offset_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(seconds, callback).cancel
