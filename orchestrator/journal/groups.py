"""What waits for one thread, taken in groups: at once when it is little, a moment later when more is on its way."""

from __future__ import annotations

import queue
import time
from threading import Event
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
    times. So after a group of several the next one is given a moment to grow. Who comes alone does not wait, and who is
    in a hurry ends the moment for all.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._hurried = Event()
        self._several = False

    def __len__(self) -> int:
        """About how many wait."""
        return self._queue.qsize()

    def put(self, item: T, *, hurried: bool = False) -> None:
        self._queue.put(item)
        if hurried:
            self._hurried.set()

    def take(self, patience: float | None = None) -> list[T]:
        """What waits, at least one; nothing when nothing comes within `patience` seconds."""
        done = time.monotonic()
        try:
            first = self._queue.get(timeout=patience)
        except queue.Empty:
            return []
        if self._several and time.monotonic() - done < _RUSH_SECONDS:
            self._hurried.wait(GATHER_SECONDS)
        self._hurried.clear()  # before the look: what hurries from here on is seen now, or ends the next moment
        # Only this thread takes things out, so what is counted is there.
        group = [first, *(self._queue.get_nowait() for _ in range(min(self._queue.qsize(), MOST)))]
        self._several = len(group) > 1
        return group
