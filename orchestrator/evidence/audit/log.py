"""The audit log as the daemon holds it: what is submitted is written in order, once, by a thread of its own.

What was taken is never given back: while the disk refuses, it waits here in its order, the log says that it is not
`healthy` and tries again by itself. So whoever submits facts in the order of the journal gets a log without gaps, and
after a crash goes on behind `last_journal_seq`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.evidence.audit.checkpoint import Checkpoint
from orchestrator.evidence.audit.note import NoteKey
from orchestrator.evidence.audit.record import AuditEvent, Prepared, prepare
from orchestrator.evidence.audit.store import AuditStore, Pace, unavailable

PROBE_SECONDS: Final = 1.0
"""Time between two tries of a log that could not write."""

MAX_GROUP: Final = 1024
"""Most submissions that one sync makes durable."""

MAX_WAITING: Final = 20_000
"""Most events that wait for the writer; beyond it nothing is taken, unless it would wait alone."""

STALLED_SECONDS: Final = 10.0
"""A log that has made nothing durable for so long, while something waits, is not healthy: its disk may hang."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    records: Sequence[Prepared]
    future: asyncio.Future[None]


class AuditLog:
    """An open audit log. Made by `open`, on the loop it will be used on; all members are for that loop."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._feeds: list[Callable[[Checkpoint], None]] = []
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._pending: deque[_Waiting] = deque()
        self._waiting = 0
        self._moved = 0.0
        self._taken_seq = store.last_journal_seq
        self._size = store.size
        self._written_seq = store.last_journal_seq
        self._checkpoint = store.checkpoint
        self._closed = False
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._write, name="audit-write", daemon=True)
        self._thread.start()

    @classmethod
    async def open(
        cls,
        folder: Path,
        key: NoteKey,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        *,
        pace: Pace | None = None,
    ) -> AuditLog:
        """Open, or make, the log in `folder`. `clock_ns` paces checkpoints only; it should never go back.

        Raises:
            ConfigurationError: reason `audit_tampered` (it is shorter than its last checkpoint, or contradicts it, or a
                record does not hold), `audit_in_use`, `audit_foreign` (made with another key), `audit_unwritable`;
                what is there was not changed.
        """
        return cls(await asyncio.to_thread(AuditStore.open, folder, key, clock_ns, pace or Pace()))

    @property
    def healthy(self) -> bool:
        """Whether the last try to write went through, in time. While False, the log tries by itself to get well."""
        return self.problem is None and not self._closed

    @property
    def problem(self) -> OrchestratorError | None:
        """Why it is not healthy, with a fix; None while it is."""
        if self._store.problem is None and self._waiting and time.monotonic() - self._moved > STALLED_SECONDS:
            return unavailable(f"it has taken nothing for {STALLED_SECONDS:g} s", "check whether the disk hangs")
        return self._store.problem

    @property
    def waiting(self) -> int:
        """How many events were taken and are not durable yet."""
        return self._waiting

    @property
    def size(self) -> int:
        """How many records are durable; the last one's `seq`."""
        return self._size

    @property
    def last_journal_seq(self) -> int:
        """The highest `journal_seq` that is durable, 0 if none is. At start: where to catch up from."""
        return self._written_seq

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest signed checkpoint; of size 0 for a new log."""
        return self._checkpoint

    @property
    def vkey(self) -> str:
        """The public key in C2SP's text form, for those who verify."""
        return self._store.vkey

    def submit(self, events: Sequence[AuditEvent]) -> asyncio.Future[None]:
        """Take `events`, to be written next to each other, behind all that was taken before. Returns at once.

        The future is done once they are durable. They are written even when it is cancelled, or when nobody waits any
        longer; it raises only when the log was closed without their having been written: TryAgainError, reason
        `audit_unavailable`.

        Raises:
            RecordRefusedError: nothing was taken: see `record.prepare`.
            GiveUpError: nothing was taken; reason `audit_out_of_order`: a `journal_seq` that is not above all that
                came in earlier calls (within one call it may repeat, but not fall).
            TryAgainError: nothing was taken; reason `audit_unavailable`: too much waits, or the log is closed.
        """
        # What waits alone is taken whatever its size, or whoever offers it as one could offer it for ever.
        if self._closed or (self._waiting and self._waiting + len(events) > MAX_WAITING):
            raise unavailable("it is closed" if self._closed else "too much waits to be written")
        records = [prepare(event) for event in events]
        self._follow(records)
        future: asyncio.Future[None] = self._loop.create_future()
        if not records:
            future.set_result(None)
            return future
        if not self._waiting:
            self._moved = time.monotonic()
        self._waiting += len(records)
        self._queue.put(_Waiting(records, future))
        return future

    def _follow(self, records: Sequence[Prepared]) -> None:
        last = 0
        for record in records:
            if record.journal_seq and (record.journal_seq <= self._taken_seq or record.journal_seq < last):
                raise GiveUpError(
                    f"fact {record.journal_seq} is told to the audit log after fact {max(last, self._taken_seq)}",
                    reason="audit_out_of_order",
                    fix="report this defect",
                )
            last = record.journal_seq or last
        self._taken_seq = max(self._taken_seq, last)

    def subscribe(self, feed: Callable[[Checkpoint], None]) -> Callable[[], None]:
        """Call `feed` with each new checkpoint, on the loop; returns what ends that. The last comes while closing."""
        self._feeds.append(feed)

        def unsubscribe() -> None:
            if feed in self._feeds:
                self._feeds.remove(feed)

        return unsubscribe

    async def close(self) -> None:
        """Write what waits, sign a last checkpoint, let go of the folder. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.shield(self._stopped)

    # ── on the writer thread ──────────────────────────────────────────────────────────────────────────────

    def _write(self) -> None:
        open_ = True
        while open_:
            open_ = self._take()
            before = str(self._store.problem or "")
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 -- the thread must outlive any defect, and readiness must show it
                self._store.problem = unavailable(type(error).__name__, "report this defect")
                with contextlib.suppress(OSError):
                    _log.exception("audit_write_failed")
            _tell_change(before, self._store.problem)
        signed = self._store.close()
        left = [item.future for item in self._pending]
        self._on_loop(self._settle, left, 0, unavailable("it was closed before they could be written"))
        if signed:
            self._on_loop(self._tell, self._store.checkpoint)
        self._on_loop(self._stopped.set_result, None)

    def _take(self) -> bool:
        """Move what waits into `_pending`; first wait for something to do. False once the log is to be closed."""
        timeout = self._store.due_seconds() if self._store.problem is None else PROBE_SECONDS
        try:
            item = self._queue.get(timeout=timeout if timeout is None else max(0.0, timeout))
            while item is not None:
                self._pending.append(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            return True
        return False

    def _turn(self) -> None:
        while self._pending:
            group = [self._pending[index] for index in range(min(len(self._pending), MAX_GROUP))]
            records = [record for item in group for record in item.records]
            if not self._store.commit(records):
                return
            for _ in group:
                self._pending.popleft()
            self._on_loop(self._settle, [item.future for item in group], len(records), None)
            self._sign()
        if self._store.problem is not None:
            self._store.probe()
        self._sign()

    def _sign(self) -> None:
        if self._store.checkpoint_if_due():
            self._on_loop(self._tell, self._store.checkpoint)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        # The loop may be gone when the program is torn down without close(); what was written stays written.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    # ── on the loop ───────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, futures: Sequence[asyncio.Future[None]], written: int, error: OrchestratorError | None) -> None:
        self._waiting -= written
        self._moved = time.monotonic()
        self._size, self._written_seq = self._store.size, self._store.last_journal_seq
        for future in futures:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _tell(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        for feed in tuple(self._feeds):
            try:
                feed(checkpoint)
            except Exception:  # noqa: BLE001 -- one reader's defect must not keep others from hearing
                with contextlib.suppress(OSError):
                    _log.exception("audit_feed_failed")


def _tell_change(before: str, problem: OrchestratorError | None) -> None:
    # The daemon's own log may lie on the same full disk.
    with contextlib.suppress(OSError):
        if problem is None and before:
            _log.info("audit_well_again")
        elif problem is not None and str(problem) != before:
            _log.error("audit_not_written", reason=problem.reason, error=str(problem), fix=problem.fix)
