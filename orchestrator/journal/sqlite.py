"""The embedded journal: one SQLite file, one writer thread, group commit.

All appends that wait when the writer is free become one transaction; an append that finds it idle is
committed at once; in a rush they are given a moment to gather (`groups`), unless a runner's making waits for
one of them. What `append` has returned survives SIGKILL and power loss (WAL, synchronous=FULL).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import OrchestratorError
from orchestrator.journal import codec, health, retention
from orchestrator.journal.groups import Groups
from orchestrator.journal.index import Compaction
from orchestrator.journal.ownership import Ownership
from orchestrator.journal.port import JobQuery, JobSummary, Stretch
from orchestrator.journal.reads import Reader
from orchestrator.journal.store import Answer, Append, Store
from orchestrator.lifecycle.ports import Clock
from orchestrator.model.events import Event, Fact, ProvisionStarted
from orchestrator.model.job import JobId

PROBE_SECONDS = 1.0
"""Time between two looks whether a journal that failed can store again."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting:
    append: Append
    future: asyncio.Future[Sequence[Fact]]


@dataclass(frozen=True, slots=True)
class _Work:
    run: Callable[[Store], Any]
    future: asyncio.Future[Any]


class SqliteJournal:
    """`orchestrator.journal.port.JournalReader` on a file. Made by `open`, on the loop it will be used on."""

    def __init__(self, store: Store, reader: Reader, ownership: Ownership, clock: Clock) -> None:
        self._store = store
        self._reader = reader
        self._ownership = ownership
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._feeds: list[Callable[[Sequence[Fact]], None]] = []
        self._queue: Groups[_Waiting | _Work | None] = Groups()
        self._closed = False
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._write, name="journal-write", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> SqliteJournal:
        """Open, or make, the journal file at `path`; its folder must exist.

        Raises:
            ConfigurationError: reason `journal_in_use`, `journal_corrupt`, `journal_newer`, `journal_foreign`
                or `journal_unwritable`; the file is as it was.
        """
        ownership = Ownership.take(path)
        try:
            store = await asyncio.to_thread(Store.open, path)
        except BaseException:
            ownership.release()
            raise
        return cls(store, Reader(path, store.lines), ownership, clock)

    @property
    def healthy(self) -> bool:
        """Whether the last try to store went through. While False, the journal tries by itself to get well."""
        return self.problem is None

    @property
    def problem(self) -> OrchestratorError | None:
        """See `trail.KeptJournal`."""
        return _closed() if self._closed else self._store.problem

    @property
    def waiting(self) -> int:
        """How many writes wait for the writer, about."""
        return len(self._queue)

    @property
    def untold(self) -> int:
        return 0  # whoever listens is told in the same step

    @property
    def epoch(self) -> int:
        """Which opening of this file this is, from 1; stored with each fact."""
        return self._store.epoch

    @property
    def last_seq(self) -> int:
        """The highest `seq` that any fact here ever had, 0 before the first."""
        return self._store.seq

    async def append(self, facts: Sequence[tuple[JobId, Event]]) -> Sequence[Fact]:
        """See `orchestrator.lifecycle.ports.Journal`. A cancelled caller is let go when its append is decided.

        Raises:
            TryAgainError: nothing was stored; reason `journal_unavailable`.
            GiveUpError: reason `job_unknown` (no offer of that job), `job_known` (an offer of one that is there),
                `fact_too_large`, `fact_unencodable`.
        """
        if self._closed:
            raise _closed()
        encoded = [(job_id, event, type(event).__name__, codec.encode(event)) for job_id, event in facts]
        if not encoded:
            return ()
        future: asyncio.Future[Sequence[Fact]] = self._loop.create_future()
        hurried = any(isinstance(event, ProvisionStarted) for _, event in facts)
        self._queue.put(_Waiting(Append(encoded, self._clock.now_ns()), future), hurried=hurried)
        try:
            return await future
        except asyncio.CancelledError:
            await self._decided()
            raise

    async def _decided(self) -> None:
        """Return when the writer is done with all that was handed to it so far, whoever wants to hurry."""
        done: asyncio.Future[Any] = self._stopped
        if not self._closed:
            done = self._loop.create_future()
            self._queue.put(_Work(lambda store: None, done))
        while not done.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([done])

    async def live(self) -> Sequence[Sequence[Fact]]:
        """See `orchestrator.lifecycle.ports.Journal`."""
        return await self._reader.live()

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]:
        """All facts of one job in order; of a compacted job only its `JobCompacted`, which no fold begins with."""
        return await self._reader.facts_of(job_id)

    async def facts_after(self, seq: int, limit: int) -> Sequence[Fact]:
        """The facts of all jobs after `seq`, in order: `limit` at most, fewer when they are large, none at the end."""
        return await self._reader.facts_after(seq, limit)

    async def facts_before(self, seq: int, kinds: Collection[type[Event]], limit: int) -> Stretch:
        """See `port.JournalReader`."""
        return await self._reader.facts_before(seq, kinds, limit)

    async def continue_after(self, seq: int) -> None:
        """Have what is stored from now on come after `seq`, though nothing here has such a number."""
        await self._do(lambda store: retention.continue_after(store, seq))

    async def job_named(self, key: str) -> JobId | None:
        """See `orchestrator.lifecycle.ports.Journal`."""
        return await self._reader.job_named(key)

    async def jobs(self, query: JobQuery) -> Sequence[JobSummary]:
        """A page of the job list; empty when `after` is unknown."""
        return await self._reader.jobs(query)

    def subscribe(self, feed: Callable[[Sequence[Fact]], None]) -> Callable[[], None]:
        """Call `feed` with the facts of each commit, on the loop, before their appends return.

        A feed that raises is logged and called again next time.
        """
        self._feeds.append(feed)

        def unsubscribe() -> None:
            if feed in self._feeds:
                self._feeds.remove(feed)

        return unsubscribe

    async def pending_traces(self, limit: int) -> Sequence[JobId]:
        """Finished jobs whose trace is not confirmed, in the order of their offers."""
        return await self._reader.pending_traces(limit)

    async def trace_exported(self, job_ids: Sequence[JobId]) -> None:
        if job_ids:
            await self._do(lambda store: store.traces_exported(job_ids))

    async def compact(self, now_ns: int, retention_ns: int, forget_ns: int, *, exporting: bool = True) -> Compaction:
        """Cut jobs that finished `retention_ns` ago to one line, forget those that finished `forget_ns` ago.

        Nothing is forgotten before `retention_ns`. With `exporting`, a job whose trace is still in the outbox
        keeps its facts, but no longer than `forget_ns`. Appends go on in between.

        Raises:
            TryAgainError: reason `journal_unavailable`; what was done before stays done.
        """
        age = retention.Age(now_ns, retention_ns, forget_ns, exporting)
        total, after = Compaction(), 0
        while True:
            start = after
            done, further = await self._do(lambda store: retention.compact_some(store, age, start))  # noqa: B023
            total += done
            if further is None:
                return total
            after = further

    async def reindex(self) -> int:
        """Make the job index anew from the facts; returns the number of jobs."""
        return await self._do(retention.reindex)

    async def close(self) -> None:
        """Store what waits, refuse what comes after, let go of the file. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.shield(self._stopped)

    async def _do(self, run: Callable[[Store], T]) -> T:
        if self._closed:
            raise _closed()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Work(run, future))
        return await future

    # ── on the writer thread ──────────────────────────────────────────────────────────────────────────────

    def _write(self) -> None:
        open_ = True
        while open_:
            waiting: list[_Waiting] = []
            for item in self._take():
                if isinstance(item, _Waiting):
                    waiting.append(item)
                    continue
                self._commit(waiting)
                waiting = []
                if item is None:
                    open_ = False
                else:
                    self._work(item)
            self._commit(waiting)
        self._reader.close()
        self._store.close()
        self._ownership.release()
        self._on_loop(self._settle, [(self._stopped, None)], [])

    def _take(self) -> list[_Waiting | _Work | None]:
        """What waits now; when nothing does, what comes first. Empty after a look at a sick journal."""
        group = self._queue.take(None if self._store.problem is None else PROBE_SECONDS)
        if not group:
            self._store.probe()
        return group

    def _commit(self, waiting: Sequence[_Waiting]) -> None:
        if not waiting:
            return
        answers: Sequence[Answer]
        try:
            answers = self._store.commit([item.append for item in waiting])
        except Exception as error:  # noqa: BLE001 -- the thread must outlive any defect, and callers must hear of it
            health.complain("journal_commit_failed")
            answers = [health.unavailable(f"{type(error).__name__}", "report this defect")] * len(waiting)
        stored = [fact for answer in answers if not isinstance(answer, OrchestratorError) for fact in answer]
        settled = [(item.future, answer) for item, answer in zip(waiting, answers, strict=True)]
        self._on_loop(self._settle, settled, stored)

    def _work(self, item: _Work) -> None:
        answer: Any
        try:
            answer = item.run(self._store)
        except Exception as error:  # noqa: BLE001 -- handed to the caller
            answer = error
        self._on_loop(self._settle, [(item.future, answer)], [])

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        # The loop may be gone when the program is torn down without close(); what was stored stays stored.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    # ── on the loop ───────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, settled: Sequence[tuple[asyncio.Future[Any], Any]], stored: Sequence[Fact]) -> None:
        for feed in tuple(self._feeds) if stored else ():
            try:
                feed(stored)
            except Exception:  # noqa: BLE001 -- one reader's defect must not fail the append of another
                health.complain("journal_feed_failed")
        for future, answer in settled:
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def _closed() -> OrchestratorError:
    return health.unavailable("it is closed", "start the daemon")
