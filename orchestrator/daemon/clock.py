"""The real clock: Unix time that a step of the system clock cannot move while the daemon runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from orchestrator.daemon.timers import Timers


class SystemClock:
    """Unix time at construction plus CLOCK_BOOTTIME since: deadlines survive clock jumps, and suspends count."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._timers: Timers | None = None

    def now_ns(self) -> int:
        return self._offset_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        if self._timers is None or self._timers.loop is not loop:
            self._timers = Timers(loop)
        return self._timers.call_later(seconds, callback)
