"""What waits for one thread, taken in groups: at once when it is little, a moment later when more is on its way."""

from __future__ import annotations

import queue
import time
from typing import Generic, TypeVar

MOST = 1024
"""Most items of a group, besides its first."""

GATHER_SECONDS = 0.004
"""The time that a group is given to grow in a rush: about what one takes on a busy machine."""

_RUSH_SECONDS = 0.02
"""What comes later than this after a group comes alone, whatever was before."""

T = TypeVar("T")


class Groups(Generic[T]):
    """Any thread may `put`. One thread takes a group, works it off and takes the next.

    Each group costs something of its own: a flush of the disk, the interpreter lock given away and won back a few
    times. So after a group of several the next one is given a moment to grow, and who comes alone does not wait.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._several = False

    def __len__(self) -> int:
        """About how many wait."""
        return self._queue.qsize()

    def put(self, item: T) -> None:
        self._queue.put(item)

    def take(self, patience: float | None = None) -> list[T]:
        """What waits, at least one; nothing when nothing comes within `patience` seconds."""
        done = time.monotonic()
        try:
            first = self._queue.get(timeout=patience)
        except queue.Empty:
            return []
        if self._several and time.monotonic() - done < _RUSH_SECONDS:
            time.sleep(GATHER_SECONDS)
        # Only this thread takes things out, so what is counted is there.
        group = [first, *(self._queue.get_nowait() for _ in range(min(self._queue.qsize(), MOST)))]
        self._several = len(group) > 1
        return group
