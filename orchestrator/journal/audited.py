"""A journal whose facts stand in the audit trail before anybody hears of them.

A fact is stored first, which gives it its number, then written to the trail in the order of numbers, one write at a
time; only when that is durable do appends return, feeds hear and reads show it. Whatever follows from a fact, such as
a runner, a token or a word to the platform, therefore follows the trail. A kill between the two leaves facts that the
trail lacks: `catch_up` brings them there, each once, before anything is done about them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Generic

import structlog

from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.journal.health import complain
from orchestrator.journal.port import JobQuery, JobSummary, Stretch
from orchestrator.journal.trail import KeptJournal, R, Trail, unavailable
from orchestrator.lifecycle.ports import Clock
from orchestrator.model.events import Event, Fact, JobCompacted
from orchestrator.model.job import JobId

if TYPE_CHECKING:
    from orchestrator.journal.index import Compaction

WAIT_SECONDS = 10.0
"""Longest wait for the trail to take what is stored; then the caller is let go with `audit_unavailable`."""
RETRY_SECONDS = 0.5
"""Time between two tries of a write that failed."""
PAGE = 256
"""Facts of one step of catching up."""

_log = structlog.get_logger(__name__)


class AuditedJournal(Generic[R]):
    """`KeptJournal` over another journal and a trail. Call `catch_up` once before anything else."""

    def __init__(
        self,
        inner: KeptJournal,
        trail: Trail[R],
        clock: Clock,
        *,
        wait_seconds: float = WAIT_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._inner = inner
        self._trail = trail
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._retry_seconds = retry_seconds
        self._feeds: list[Callable[[Sequence[Fact]], None]] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._held: list[Sequence[Fact]] = []
        self._records: list[R] = []
        self._told = inner.last_seq
        self._writing = False
        self._failing = False
        self._stuck = False
        self._broken = False
        self._stop_watching: Callable[[], None] | None = None
        inner.subscribe(self._stored)

    async def catch_up(self) -> int:
        """Write what the trail lacks of the journal; returns the number of records.

        Raises:
            TryAgainError: journal or trail cannot do it now; the daemon must not start.
            GiveUpError: the facts in question cannot be read.
        """
        after, written = self._trail.last_seq, 0
        known: set[JobId] = set()
        for facts in await self._inner.live():
            known.add(facts[0].job_id)
            self._trail.recall([fact for fact in facts if fact.seq <= after])
        while page := await self._inner.facts_after(after, PAGE):
            for fact in page:
                if fact.job_id in known or isinstance(fact.event, JobCompacted):
                    continue
                # It finished while the trail lagged behind; its facts up to here are told already.
                known.add(fact.job_id)
                earlier = await self._inner.facts_of(fact.job_id)
                self._trail.recall([one for one in earlier if one.seq <= after])
            records = self._trail.records(page)
            if records:
                await self._written_now(records)
            after, written = page[-1].seq, written + len(records)
        return written

    async def _written_now(self, records: Sequence[R]) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._trail.write(records)
        except (TimeoutError, OSError) as error:
            raise unavailable(str(error) or "it gave no answer in time") from error

    @property
    def healthy(self) -> bool:
        """Whether the journal itself is well; `audited` tells of the trail."""
        return self._inner.healthy

    @property
    def audited(self) -> bool:
        """Whether facts reach the trail. While False nothing is stored."""
        return not self._failing and self._trail.healthy

    @property
    def problem(self) -> OrchestratorError | None:
        """See `trail.KeptJournal`: of the journal, or of the trail that its facts wait for."""
        if self._inner.problem is not None or self.audited:
            return self._inner.problem
        return self._trail.problem or unavailable("what was stored before is not there yet")

    @property
    def waiting(self) -> int:
        return self._inner.waiting

    @property
    def untold(self) -> int:
        """Facts that are stored and wait for the trail."""
        return max(self._inner.last_seq - self._told, 0)

    @property
    def last_seq(self) -> int:
        """The number of the last fact that stands in the trail."""
        return self._told

    async def facts_after(self, seq: int, limit: int) -> Sequence[Fact]:
        """The facts of all jobs after `seq` that stand in the trail, in order."""
        return [fact for fact in await self._inner.facts_after(seq, limit) if fact.seq <= self._told]

    async def facts_before(self, seq: int, kinds: Collection[type[Event]], limit: int) -> Stretch:
        """See `port.JournalReader`; of what stands in the trail."""
        return await self._inner.facts_before(min(seq, self._told + 1), kinds, limit)

    async def append(self, facts: Sequence[tuple[JobId, Event]]) -> Sequence[Fact]:
        """See `orchestrator.lifecycle.ports.Journal`.

        Raises:
            TryAgainError: reason `audit_unavailable`. Nothing was stored when the trail was known to be unwell; else
                the facts are stored, and `facts_of` shows them once they stand in the trail.
        """
        if not self.audited:
            raise unavailable("what was stored before is not there yet, so nothing more is stored")
        stored = await self._inner.append(facts)
        if stored and stored[-1].seq > self._told:
            await self._until_told(stored[-1].seq)
        return stored

    async def live(self) -> Sequence[Sequence[Fact]]:
        """See `orchestrator.lifecycle.ports.Journal`."""
        found = await self._inner.live()
        for facts in found:
            await self._shown(facts)
        return found

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]:
        """See `orchestrator.lifecycle.ports.Journal`; facts that are stored and not yet in the trail are waited for.

        Raises:
            TryAgainError: reason `audit_unavailable`: they do not get there.
        """
        return await self._shown(await self._inner.facts_of(job_id))

    async def job_named(self, key: str) -> JobId | None:
        """See `orchestrator.lifecycle.ports.Journal`. A stored name counts at once: it only refuses others."""
        return await self._inner.job_named(key)

    async def jobs(self, query: JobQuery) -> Sequence[JobSummary]:
        return await self._inner.jobs(query)

    def subscribe(self, feed: Callable[[Sequence[Fact]], None]) -> Callable[[], None]:
        """Call `feed` with the facts of each commit, on the loop, once they stand in the trail and before their appends
        return. A feed that raises is logged and called again next time."""
        self._feeds.append(feed)

        def unsubscribe() -> None:
            if feed in self._feeds:
                self._feeds.remove(feed)

        return unsubscribe

    async def pending_traces(self, limit: int) -> Sequence[JobId]:
        return await self._inner.pending_traces(limit)

    async def trace_exported(self, job_ids: Sequence[JobId]) -> None:
        await self._inner.trace_exported(job_ids)

    async def compact(self, now_ns: int, retention_ns: int, forget_ns: int, *, exporting: bool = True) -> Compaction:
        """See `SqliteJournal.compact`."""
        return await self._inner.compact(now_ns, retention_ns, forget_ns, exporting=exporting)

    async def close(self) -> None:
        """Close the journal; returns when all that it stored stands in the trail or cannot get there. Idempotent."""
        await self._inner.close()
        with contextlib.suppress(TryAgainError):
            while self._writing:
                await self._until_told(self._told + 1)

    async def _shown(self, facts: Sequence[Fact]) -> Sequence[Fact]:
        """Facts that were read, once they may be seen. What age has left of a job was told when it happened."""
        if facts and facts[-1].seq > self._told and not isinstance(facts[-1].event, JobCompacted):
            await self._until_told(facts[-1].seq)
        return facts

    async def _until_told(self, seq: int) -> None:
        if self._stuck:
            raise unavailable("these facts are stored and not there yet")
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((seq, told))
        await told

    # ── what the journal has stored goes to the trail, then to those who wait ─────────────────────────────────

    def _stored(self, facts: Sequence[Fact]) -> None:
        self._held.append(facts)
        try:
            self._records += self._trail.records(facts)
        except Exception:  # noqa: BLE001 -- what cannot be recorded must not be acted upon either
            complain("audit_records_failed")
            self._broken = True  # for ever: nothing passes these facts by, also when a write that is under way succeeds
            self._fail("a defect; the daemon's log has it")
        if not self._writing:
            self._go_on()

    def _go_on(self) -> None:
        """Write all records that wait, in one write; where none do, facts can be told at once."""
        if self._broken:
            return
        held, self._held = self._held, []
        records, self._records = self._records, []
        if not records:
            self._writing = False
            self._tell(held)
            return
        self._writing = True
        if self._stop_watching is None and not self._stuck:
            self._stop_watching = self._clock.call_later(self._wait_seconds, self._overdue)
        try:
            future = self._trail.write(records)
        except Exception as error:  # noqa: BLE001 -- as if the write had failed
            self._put_off(held, records, error)
        else:
            future.add_done_callback(partial(self._written, held, records))

    def _written(self, held: list[Sequence[Fact]], records: list[R], future: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._put_off(held, records, error)
            return
        self._failing = self._stuck = self._broken
        if self._stop_watching is not None:
            self._stop_watching()
            self._stop_watching = None
        self._tell(held)
        self._go_on()

    def _put_off(self, held: list[Sequence[Fact]], records: list[R], error: BaseException) -> None:
        """The same again later, before all else: the order stays. Nothing more is stored meanwhile."""
        if not self._failing:
            with contextlib.suppress(OSError):
                _log.error("audit_write_failed", error=str(error), reason=getattr(error, "reason", ""))
        self._failing = True
        self._held[:0] = held
        self._records[:0] = records
        self._clock.call_later(self._retry_seconds, self._go_on)

    def _overdue(self) -> None:
        self._stop_watching = None
        with contextlib.suppress(OSError):
            _log.error("audit_write_overdue", seconds=self._wait_seconds)
        self._fail(f"it has taken nothing for {self._wait_seconds:g} s")

    def _fail(self, detail: str) -> None:
        """Let everybody go who waits; those who come ask in vain until the trail goes on."""
        self._failing = self._stuck = True
        waiters, self._waiters = self._waiters, []
        for _, told in waiters:
            if not told.done():
                told.set_exception(unavailable(detail))

    def _tell(self, held: Sequence[Sequence[Fact]]) -> None:
        for facts in held:
            for feed in tuple(self._feeds):
                try:
                    feed(facts)
                except Exception:  # noqa: BLE001 -- one reader's defect must not fail the append of another
                    complain("journal_feed_failed")
            self._told = facts[-1].seq
        waiters, self._waiters = self._waiters, []
        for seq, told in waiters:
            if seq > self._told:
                self._waiters.append((seq, told))
            elif not told.done():
                told.set_result(None)
