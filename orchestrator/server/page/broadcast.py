"""What changes, told to all who have the page open: made once for all of them, twice a second at most.

Nobody is told every step: a job that moved three times between two looks is one row. Whoever does not take what is
sent, or was away for too long, is told to read the list again; so are all when too much has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from orchestrator.model.events import Fact
from orchestrator.server.deps import ServerDeps
from orchestrator.server.page.activity import KINDS, item_of
from orchestrator.server.page.board import Board
from orchestrator.server.page.overview import Overview
from orchestrator.server.places import Places, Reader

log = logging.getLogger("orchestrator.server.page")

TICK_SECONDS = 0.5
OVERVIEW_TICKS = 2
"""The overview is looked at every so many ticks."""
OVERVIEW_SECONDS = 15.0
"""It is told after so long though nothing but its times changed."""
MAX_ROWS = 250
"""Rows in one message."""
MAX_CHANGED = 2500
"""With more jobs changed than this everybody reads the list again."""
MAX_ITEMS = 25
"""Items of activity in one message: the newest."""
MAX_HELD_BYTES = 1 << 20
"""What waits for one reader; with more it reads the list again."""
MAX_LISTENERS = 100
RESERVED = 25
"""Of these, for whoever has a name: nobody in particular cannot take them all."""
REPLAYED = 20
"""Messages about jobs that are kept for readers who come back."""

RESYNC = b"event: resync\ndata: {}\n\n"


class Listener:
    """What one reader is to be sent."""

    def __init__(self, *, activity: bool) -> None:
        self.activity = activity
        self._frames: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._wake = asyncio.Event()

    def put(self, frame: bytes) -> None:
        if self._held + len(frame) > MAX_HELD_BYTES:
            self._frames.clear()
            frame, self._held = RESYNC, 0
        self._frames.append(frame)
        self._held += len(frame)
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    async def take(self, timeout_seconds: float) -> bytes | None:
        """All that waits, after waiting for it; empty when nothing came in time, None when there is no more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._wake.wait()
        if self._ended:
            return None
        self._wake.clear()
        data = b"".join(self._frames)
        self._frames.clear()
        self._held = 0
        return data


class Broadcast:
    """Runs while somebody listens. `start` and `stop` are the server's."""

    def __init__(self, deps: ServerDeps, board: Board, overview: Overview) -> None:
        self._deps = deps
        self._board = board
        self._overview = overview
        self._places = Places(MAX_LISTENERS, MAX_LISTENERS - RESERVED)
        self._listeners: set[Listener] = set()
        self._activity: deque[tuple[Fact, str]] = deque(maxlen=MAX_ITEMS)
        self._omitted = 0
        self._replay: deque[tuple[int, bytes]] = deque(maxlen=REPLAYED)
        self._told: tuple[float, Any] = (0.0, None)
        self._somebody = asyncio.Event()
        self._unsubscribe: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        return len(self._listeners)

    def start(self) -> None:
        self._unsubscribe = self._deps.reader.subscribe(self.observe)
        self._task = asyncio.create_task(self._run(), name="live-broadcast")

    async def stop(self) -> None:
        """End every stream."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        for listener in self._listeners:
            listener.end()
        if self._task is not None:
            self._task.cancel("shutdown")
            await asyncio.gather(self._task, return_exceptions=True)

    def observe(self, facts: Sequence[Fact]) -> None:
        """Keep what is activity, while somebody wants it."""
        if not any(listener.activity for listener in self._listeners):
            return
        for fact in facts:
            if type(fact.event) in KINDS:
                self._omitted += len(self._activity) == MAX_ITEMS
                self._activity.append((fact, self._name(fact)))

    @contextmanager
    def listen(self, reader: Reader, *, activity: bool, after: int = 0) -> Iterator[Listener]:
        """Listen from now on; whoever was there up to `after` is told what it missed, or to read the list again.

        Raises:
            TryAgainError: `too_many_streams`.
        """
        with self._places.take(reader):
            listener = Listener(activity=activity)
            listener.put(self._overview_frame(self._overview.document()))
            if after:
                self._catch_up(listener, after)
            self._board.watched = True
            self._listeners.add(listener)
            self._somebody.set()
            try:
                yield listener
            finally:
                self._listeners.discard(listener)
                if not self._listeners:
                    self._rest()

    def _rest(self) -> None:
        self._somebody.clear()
        self._board.watched = False
        self._board.forget_changes()
        self._activity.clear()
        self._replay.clear()

    def _catch_up(self, listener: Listener, after: int) -> None:
        # From that number on, not behind it: what one message could not hold went into the next under the same number.
        # So what is kept must begin before it, too.
        if not self._replay or self._replay[0][0] >= after:
            listener.put(RESYNC)
            return
        for seq, frame in self._replay:
            if seq >= after:
                listener.put(frame)

    async def _run(self) -> None:
        ticks = 0
        while True:
            await self._somebody.wait()
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            try:
                self.tick(overview=ticks % OVERVIEW_TICKS == 0)
            except Exception:
                # The list and the overview are still there to be read; so is the next tick.
                log.exception("what changed could not be told")
                self._tell(RESYNC)

    def tick(self, *, overview: bool = True) -> None:
        """Tell what has changed since the last time."""
        if not self._listeners:
            return
        self._tell_jobs()
        if self._activity:
            self._tell_activity()
        if overview:
            self._tell_overview()

    def _tell_jobs(self) -> None:
        board = self._board
        if len(board.changed) > MAX_CHANGED or len(board.gone) > MAX_CHANGED:
            board.forget_changes()
            self._replay.clear()
            self._tell(RESYNC)
            return
        gone, board.gone = list(board.gone), {}
        rows = board.take_changed(MAX_ROWS)
        if rows or gone:
            frame = _frame("jobs", {"rows": rows, "gone": gone}, board.seq)
            self._replay.append((board.seq, frame))
            self._tell(frame)

    def _tell_activity(self) -> None:
        facts, omitted = list(self._activity), self._omitted
        self._activity.clear()
        self._omitted = 0
        items = []
        for fact, name in facts:
            if (item := item_of(fact, name or self._name(fact))) is not None:
                items.append(item)
        frame = _frame("activity", {"items": items, "omitted": omitted}, self._board.seq)
        for listener in self._listeners:
            if listener.activity:
                listener.put(frame)

    def _name(self, fact: Fact) -> str:
        """Of an unfinished job: the engine does not know it any more when it is over, nor yet in its first moment."""
        record = self._deps.engine.record(fact.job_id)
        return record.offer.spec.name if record else ""

    def _tell_overview(self) -> None:
        document = self._overview.document()
        at, told = self._told
        lasting = _lasting(document)
        now = time.monotonic()
        if lasting != told or now - at >= OVERVIEW_SECONDS:
            self._told = (now, lasting)
            self._tell(self._overview_frame(document))

    def _overview_frame(self, document: dict[str, Any]) -> bytes:
        return _frame("overview", document, self._board.seq)

    def _tell(self, frame: bytes) -> None:
        for listener in self._listeners:
            listener.put(frame)


def _lasting(document: dict[str, Any]) -> dict[str, Any]:
    """The overview without what is another at each look."""
    pools = [
        {name: value for name, value in pool.items() if name != "oldest_wait_seconds"} for pool in document["pools"]
    ]
    return document | {"at": "", "pools": pools}


def _frame(event: str, document: object, seq: int) -> bytes:
    """One server-sent event. JSON has no raw line break, so one `data` line is enough."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, event.encode(), msgspec.json.encode(document))
