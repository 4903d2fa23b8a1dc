"""The keyed work queue: events only say *look at this key*; duplicates merge; one worker for each key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from orchestrator.lifecycle.ports import Clock
from orchestrator.model.job import JobId

_log = logging.getLogger(__name__)

_CRASH_PAUSE_SECONDS = 1.0
_FAILING_PAUSE_SECONDS = 30.0

FAILURES_TO_TELL = 5
"""Failures in a row of one key's worker after which its owner is told, and tries become rare."""

Failing = Callable[[JobId, Exception], Awaitable[None]]
"""Told once for each row of failures, with the last of them. Must not raise."""


async def _nobody(_key: JobId, _error: Exception) -> None:
    """Who is told where nobody wants to know."""


class WorkQueue:
    """Runs `work(key)` for each key that was added, never twice at once for one key.

    A key added while its worker runs is looked at once more afterwards. A worker that raises is a defect:
    it is logged and the key is tried again after a pause, so that one bad job cannot stop the others.
    """

    def __init__(self, work: Callable[[JobId], Awaitable[None]], clock: Clock, failing: Failing = _nobody) -> None:
        self._work = work
        self._clock = clock
        self._failing = failing
        self._active: dict[JobId, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[JobId, tuple[int, Callable[[], None]]] = {}
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, key: JobId) -> None:
        """Have the key looked at soon."""
        if self._closed:
            return
        if key in self._active:
            self._active[key] = True
            return
        task = asyncio.get_running_loop().create_task(self._run(key), name=f"job {key}")
        self._active[key] = False
        self._idle.clear()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def wake_at(self, key: JobId, when_ns: int) -> None:
        """Have the key looked at then at the latest; replaces an earlier wish of the same key."""
        timer = self._timers.get(key)
        if timer is not None and timer[0] == when_ns:
            return  # most looks find nothing new, and the phase's deadline is what it was
        self.forget(key)
        if self._closed:
            return
        seconds = max(0.0, (when_ns - self._clock.now_ns()) / 1e9)
        self._timers[key] = (when_ns, self._clock.call_later(seconds, lambda: self._due(key)))

    def forget(self, key: JobId) -> None:
        """Drop the key's timer."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer[1]()

    async def idle(self) -> None:
        """Return when no worker runs; timers may still be set."""
        await self._idle.wait()

    async def close(self) -> None:
        """Take no more keys, drop all timers and cancel what runs; what was half done is redone at the next start."""
        self._closed = True
        for key in list(self._timers):
            self.forget(key)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel("engine closed")
        if tasks:
            await asyncio.wait(tasks)

    def _due(self, key: JobId) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _run(self, key: JobId) -> None:
        failures = 0
        try:
            while not self._closed:
                self._active[key] = False
                try:
                    await self._work(key)
                except Exception as error:  # noqa: BLE001 -- one job's defect must not stop the others
                    _log.exception("the worker of job %s failed; trying again", key)
                    failures += 1
                    if failures == FAILURES_TO_TELL:
                        await self._failing(key, error)
                    rare = failures >= FAILURES_TO_TELL
                    await self._clock.sleep(_FAILING_PAUSE_SECONDS if rare else _CRASH_PAUSE_SECONDS)
                    continue
                failures = 0
                if not self._active[key]:
                    return
        finally:
            del self._active[key]
            if not self._active:
                self._idle.set()
