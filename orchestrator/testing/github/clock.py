"""The server's clock: runs like the machine's, or stands still, and can be stepped ahead."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from datetime import UTC, datetime

_SETTLE_ROUNDS = 20


class GitHubClock:
    """Epoch seconds. `step` fires what falls due on the way, in order, so that rules of days are tested in no time.

    A frozen clock moves by `step` only; otherwise it runs and can be stepped ahead besides. Timers need a running loop.
    """

    def __init__(self, start: float | None = None, *, frozen: bool = False) -> None:
        self._base = time.time() if start is None else start
        self._since = time.monotonic()
        self._frozen = frozen
        self._timers: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._count = 0
        self._wakeup: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return self._base if self._frozen else self._base + time.monotonic() - self._since

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once the clock has moved on by `seconds`; returns what cancels that."""
        self._count += 1
        number = self._count
        held = [callback]
        heapq.heappush(self._timers, (self.now() + seconds, number, held))
        if self._timers[0][1] == number:
            self._arm()
        return held.clear

    async def wait(self, future: asyncio.Future[None], seconds: float) -> bool:
        """Whether `future` was done before `seconds` had passed on this clock; it is cancelled if not."""
        cancel = self.call_later(seconds, lambda: None if future.done() else future.set_result(None))
        due = self.now() + seconds
        try:
            await future
        finally:
            cancel()
        return self.now() < due

    async def step(self, seconds: float) -> None:
        """Move ahead; everything that falls due fires at its own time, and what it wakes gets to run."""
        target = self.now() + seconds
        while self._timers and self._timers[0][0] <= target:
            self._base += max(0.0, self._timers[0][0] - self.now())
            self._fire()
            await _settle()
        self._base += max(0.0, target - self.now())
        self._arm()
        await _settle()

    def close(self) -> None:
        """Forget every timer."""
        self._timers.clear()
        self._arm()

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= self.now():
            _, _, held = heapq.heappop(self._timers)
            for callback in held:
                callback()
        self._arm()

    def _arm(self) -> None:
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        if self._timers and not self._frozen:
            wait = max(0.0, self._timers[0][0] - self.now())
            self._wakeup = asyncio.get_running_loop().call_later(min(wait, 86_400.0), self._fire)


ZERO_TIME = "0001-01-01T00:00:00Z"
"""How the Actions service writes a time that is not set."""


def instant(seconds: float | None) -> str:
    """RFC 3339 with fractions, as the Actions service writes it."""
    if seconds is None:
        return ZERO_TIME
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rest_time(seconds: float | None) -> str | None:
    """RFC 3339 in whole seconds, as the REST API writes it; null when it is not set."""
    return None if seconds is None else datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _settle() -> None:
    for _ in range(_SETTLE_ROUNDS):
        await asyncio.sleep(0)
