"""Many timers, one of the event loop's: nearly all time limits are dropped long before they are due.

A timer of the loop is an object of libuv's, made and closed in two steps; an entry here is a tuple in a heap.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable

_LEAST_SECONDS = 0.001
"""The loop's timers count whole milliseconds; less than one would have it spin until the entry is due."""
_FEW = 256
"""Dropped entries that are left lying, whatever the share."""


class Timers:
    """Of one event loop, on which all is called."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._heap: list[tuple[float, int]] = []
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()
        self._armed: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    def __len__(self) -> int:
        """Entries in memory, those that were dropped included."""
        return len(self._heap)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once, no sooner than after `seconds`; returns *cancel*, which is safe to call twice."""
        if seconds <= 0:
            return self.loop.call_soon(callback).cancel
        due, number = time.monotonic() + seconds, next(self._numbers)
        heapq.heappush(self._heap, (due, number))
        self._callbacks[number] = callback
        if self._armed is None or due < self._armed_for:
            self._arm()
        return lambda: self._drop(number)

    def _drop(self, number: int) -> None:
        if self._callbacks.pop(number, None) is not None and len(self._heap) > 2 * len(self._callbacks) + _FEW:
            # Made anew no more often than half of it was dropped, so each entry pays for a constant share.
            self._heap = [entry for entry in self._heap if entry[1] in self._callbacks]
            heapq.heapify(self._heap)

    def _arm(self) -> None:
        """Wake for the first entry; one that was dropped makes for a wake-up in vain, no more."""
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        if self._heap:
            self._armed_for = self._heap[0][0]
            self._armed = self.loop.call_later(max(_LEAST_SECONDS, self._armed_for - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._armed = None
        try:
            while self._heap and self._heap[0][0] <= time.monotonic():
                callback = self._callbacks.pop(heapq.heappop(self._heap)[1], None)
                if callback is not None:
                    callback()
        except Exception as error:  # noqa: BLE001 -- as the loop does with a callback of its own
            self.loop.call_exception_handler({"message": "a timer's callback failed", "exception": error})
        finally:
            self._skip_dropped()
            self._arm()

    def _skip_dropped(self) -> None:
        while self._heap and self._heap[0][1] not in self._callbacks:
            heapq.heappop(self._heap)
