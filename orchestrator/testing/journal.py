"""A journal in memory with fault switches; it passes the same conformance suite as the durable ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter

from orchestrator.errors import TryAgainError
from orchestrator.journal import index
from orchestrator.journal.index import Compaction, Line
from orchestrator.journal.port import STRETCH, JobQuery, JobSummary, Stretch
from orchestrator.lifecycle.ports import Clock
from orchestrator.model.events import Event, Fact, JobOffered
from orchestrator.model.job import JobId


def unavailable(detail: str) -> TryAgainError:
    return TryAgainError(
        f"the journal cannot store facts: {detail}",
        reason="journal_unavailable",
        fix="switch the fault off; this is the journal of the tests",
    )


@dataclass(slots=True)
class _Append:
    facts: Sequence[tuple[JobId, Event]]
    now_ns: int
    turns_left: int
    decided: asyncio.Future[Sequence[Fact]]


class MemoryJournal:
    """Keeps facts as long as the object lives; hand the same object to a *restarted* engine to replay it.

    Faults: `fail_next(n)` makes the next n appends raise with nothing stored, `fail_after_store(n)` stores
    the next n and raises all the same (a commit whose answer got lost), `slow(n)` lets n turns of the event
    loop pass before each append stores, in their order, and before each read answers. As in a real journal, appends
    are stored whether or not somebody still waits for them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._facts: dict[JobId, list[Fact]] = {}
        self._lines: dict[JobId, Line] = {}
        self._outbox: set[JobId] = set()
        self._named: dict[str, JobId] = {}
        self._feeds: list[Callable[[Sequence[Fact]], None]] = []
        self._seq = 0
        self._failing = 0
        self._failing_after = 0
        self._turns = 1
        self._waiting: deque[_Append] = deque()
        self._closed = False

    def fail_next(self, count: int = 1) -> None:
        """The next `count` appends raise TryAgainError and store nothing."""
        self._failing = count

    def fail_after_store(self, count: int = 1) -> None:
        """The next `count` appends store their facts, tell subscribers, and raise TryAgainError."""
        self._failing_after = count

    def slow(self, turns: int = 1) -> None:
        """Appends and reads that begin from now on take at least so many turns of the loop."""
        self._turns = max(1, turns)

    @property
    def healthy(self) -> bool:
        return self.problem is None

    @property
    def problem(self) -> TryAgainError | None:
        if self._closed:
            return unavailable("it is closed")
        return unavailable("told to fail") if self._failing else None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def last_seq(self) -> int:
        return self._seq

    async def append(self, facts: Sequence[tuple[JobId, Event]]) -> Sequence[Fact]:
        """See `orchestrator.lifecycle.ports.Journal`."""
        if self._closed:
            raise unavailable("it is closed")
        loop = asyncio.get_running_loop()
        append = _Append(facts, self._clock.now_ns(), self._turns, loop.create_future())
        self._waiting.append(append)
        if len(self._waiting) == 1:
            loop.call_soon(self._turn)
        try:
            return await asyncio.shield(append.decided)
        except asyncio.CancelledError:
            while not append.decided.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([append.decided])
            append.decided.exception()  # nobody is left to be told
            raise

    def _turn(self) -> None:
        """One turn of the loop: what has waited long enough is stored."""
        self._waiting[0].turns_left -= 1
        while self._waiting and self._waiting[0].turns_left <= 0:
            append = self._waiting.popleft()
            try:
                append.decided.set_result(self._decide(append.facts, append.now_ns))
            except Exception as error:  # noqa: BLE001 -- handed to the caller
                append.decided.set_exception(error)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)

    def _decide(self, facts: Sequence[tuple[JobId, Event]], now_ns: int) -> Sequence[Fact]:
        if self._failing:
            self._failing -= 1
            raise unavailable("told to fail")
        known = set(self._facts)
        for job_id, event in facts:
            if isinstance(event, JobOffered) is (job_id in known):
                raise index.known_job(job_id) if job_id in known else index.unknown_job(job_id)
            known.add(job_id)
        stored = [self._store(job_id, event, now_ns) for job_id, event in facts]
        for feed in tuple(self._feeds) if stored else ():
            feed(stored)
        if self._failing_after:
            self._failing_after -= 1
            raise unavailable("told to fail after it stored")
        return stored

    def _store(self, job_id: JobId, event: Event, now_ns: int) -> Fact:
        earlier = self._facts.setdefault(job_id, [])
        at_ns = max(now_ns, earlier[-1].at_ns) if earlier else now_ns
        self._seq += 1
        fact = Fact(job_id, at_ns, event, self._seq)
        line = self._lines.get(job_id)
        if line is None:
            assert isinstance(event, JobOffered)
            line = self._lines[job_id] = Line.begin(self._seq, job_id, event, at_ns)
        was_open = line.open
        line.follow(event, at_ns)
        if line.platform_key:
            self._named.setdefault(line.platform_key, job_id)
        if was_open and not line.open:
            self._outbox.add(job_id)
        earlier.append(fact)
        return fact

    async def _read(self) -> None:
        for _ in range(self._turns - 1):
            await asyncio.sleep(0)

    async def live(self) -> Sequence[Sequence[Fact]]:
        await self._read()
        return [list(facts) for job_id, facts in self._facts.items() if self._lines[job_id].open]

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]:
        facts = list(self._facts.get(job_id, ()))
        await self._read()
        return facts

    async def facts_after(self, seq: int, limit: int) -> Sequence[Fact]:
        """See `SqliteJournal.facts_after`."""
        after = (fact for facts in self._facts.values() for fact in facts if fact.seq > seq)
        found = sorted(after, key=attrgetter("seq"))[:limit]
        await self._read()
        return found

    async def facts_before(self, seq: int, kinds: Collection[type[Event]], limit: int) -> Stretch:
        """See `orchestrator.journal.port.JournalReader`."""
        every = (fact for facts in self._facts.values() for fact in facts if fact.seq < seq)
        before = sorted(every, key=attrgetter("seq"), reverse=True)
        floor = max(1, before[0].seq + 1 - STRETCH) if before else 1
        found = [fact for fact in before if fact.seq >= floor and type(fact.event) in kinds][:limit]
        await self._read()
        names = {fact.job_id: self._lines[fact.job_id].offered.name for fact in found}
        return Stretch(found, found[-1].seq if len(found) == limit else floor, names)

    async def continue_after(self, seq: int) -> None:
        self._seq = max(self._seq, seq)

    async def job_named(self, key: str) -> JobId | None:
        found = self._named.get(key)
        await self._read()
        return found

    async def jobs(self, query: JobQuery) -> Sequence[JobSummary]:
        newest_first = [line.summary() for line in reversed(self._lines.values())]
        if query.after:
            places = [place for place, line in enumerate(newest_first) if line.job_id == query.after]
            newest_first = newest_first[places[0] + 1 :] if places else []
        return [line for line in newest_first if index.matches(line, query)][: index.page_size(query)]

    def subscribe(self, feed: Callable[[Sequence[Fact]], None]) -> Callable[[], None]:
        self._feeds.append(feed)

        def unsubscribe() -> None:
            if feed in self._feeds:
                self._feeds.remove(feed)

        return unsubscribe

    async def pending_traces(self, limit: int) -> Sequence[JobId]:
        return [job_id for job_id in self._lines if job_id in self._outbox][:limit]

    async def trace_exported(self, job_ids: Sequence[JobId]) -> None:
        self._outbox.difference_update(job_ids)

    async def compact(self, now_ns: int, retention_ns: int, forget_ns: int, *, exporting: bool = True) -> Compaction:
        """See `SqliteJournal.compact`."""
        compacted = forgotten = dropped = 0
        for job_id, line in list(self._lines.items()):
            if line.open:
                continue
            age_ns = now_ns - line.finished_at_ns
            facts = self._facts[job_id]
            waiting = job_id in self._outbox
            if age_ns >= max(retention_ns, forget_ns):
                del self._facts[job_id], self._lines[job_id]
                self._outbox.discard(job_id)
                self._named = {key: holder for key, holder in self._named.items() if holder != job_id}
                forgotten, dropped = forgotten + 1, dropped + (waiting and exporting)
            elif age_ns >= retention_ns and len(facts) > 1 and not (waiting and exporting):
                self._seq += 1
                at_ns = max(now_ns, facts[-1].at_ns)
                self._facts[job_id] = [Fact(job_id, at_ns, index.compacted(facts), self._seq)]
                self._outbox.discard(job_id)
                compacted += 1
        return Compaction(compacted, forgotten, dropped)

    async def close(self) -> None:
        self._closed = True
        while self._waiting:
            await asyncio.wait([self._waiting[-1].decided])
