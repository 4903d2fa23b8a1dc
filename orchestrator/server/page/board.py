"""What the page lists: every unfinished job and the newest finished ones, in order, kept up by the feed of facts.

Of unfinished jobs only their place is kept here; their rows are made from the engine's records when somebody looks,
and once for each record: a record never changes, another one takes its place.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from orchestrator.journal.port import JobQuery, JournalReader
from orchestrator.model.events import Fact, JobCompacted, JobFinished, JobOffered
from orchestrator.model.job import JobId
from orchestrator.model.phase import MOVES, IllegalMoveError, Phase
from orchestrator.model.record import Record, apply
from orchestrator.server.page.rows import row_of, row_of_summary

MAX_FINISHED = 500
"""Finished jobs in the list; older ones are in the job list of the API."""
_ROWS_AT_ONCE = 100
"""Rows made before others get a turn."""

Key = tuple[int, str]
"""Orders jobs by their offers: when, in Unix nanoseconds, and the id."""

Row = msgspec.Raw
"""A row as JSON, made once for all who look."""


@dataclass(slots=True)
class Entry:
    """A job's place. `made` is the record that `row` was made from; a finished job has only its row.

    `before` is the record that was there when somebody who looks was last owed a row, and `awaited` that another one
    may come.
    """

    key: Key
    pool: str
    phase: Phase
    row: Row | None = None
    made: Record | None = None
    before: Record | None = None
    awaited: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first; `following` asks for the next page, empty on the last; `seq` is the newest fact seen."""

    rows: list[Row]
    following: str
    seq: int


class Board:
    """`record` is the engine's look at an unfinished job. `open` fills it; `close` ends the subscription."""

    def __init__(self, reader: JournalReader, record: Callable[[JobId], Record | None]) -> None:
        self._reader = reader
        self._record = record
        self._order: list[Key] = []
        self._entries: dict[JobId, Entry] = {}
        self._finished: OrderedDict[JobId, None] = OrderedDict()
        self._unsubscribe: Callable[[], None] | None = None
        self.counts: Counter[Phase] = Counter()
        self.seq = 0
        self.watched = False
        """Whether somebody takes away what changes; nothing is kept of it else."""
        self.changed: dict[JobId, None] = {}
        """Jobs whose row may be another since somebody last took this away."""
        self.gone: dict[JobId, None] = {}
        """Jobs that are listed no more since then."""

    async def open(self, unfinished: Sequence[JobId]) -> None:
        """Take in what there is. Nothing falls between: facts are heard of from the first step on."""
        self._unsubscribe = self._reader.subscribe(self.observe)
        for job_id in unfinished:
            if (record := self._record(job_id)) is not None:
                self._add(job_id, record.offered_at_ns, record.offer.spec.pool, record.phase)
        for line in reversed(await self._reader.jobs(JobQuery(phase=Phase.FINISHED, limit=MAX_FINISHED))):
            if line.job_id not in self._entries:
                entry = self._add(line.job_id, line.offered_at_ns, line.pool, Phase.FINISHED)
                entry.row = Row(msgspec.json.encode(row_of_summary(line)))

    def close(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    def observe(self, facts: Sequence[Fact]) -> None:
        """A batch of the journal, before the engine has taken it in."""
        for fact in facts:
            entry, event = self._entries.get(fact.job_id), fact.event
            if entry is None and isinstance(event, JobOffered):
                self._add(fact.job_id, fact.at_ns, event.offer.spec.pool, Phase.QUEUED)
            elif isinstance(event, JobCompacted):
                self._drop(fact.job_id)
            elif entry is not None and isinstance(event, JobFinished):
                self._finish(fact.job_id, entry, facts)
            elif entry is not None:
                self._move(entry, MOVES[entry.phase].get(type(event), entry.phase))
                self._touch(fact.job_id, entry)
        if facts:
            self.seq = max(self.seq, facts[-1].seq)

    def forget_changes(self) -> None:
        self.changed.clear()
        self.gone.clear()

    def row(self, job_id: JobId) -> Row | None:
        """The row as of now; None for a job that is not listed."""
        entry = self._entries.get(job_id)
        return self._row(job_id, entry) if entry else None

    def take_changed(self, limit: int) -> list[Row]:
        """Take rows of jobs that changed away, so many at most.

        We hear of a fact before the engine has taken it in. A job with the record that it had then is left for the next
        time; if it has it then too, the fact changed nothing in it.
        """
        rows = []
        for job_id in list(islice(self.changed, limit)):
            del self.changed[job_id]
            entry = self._entries[job_id]
            if entry.awaited and self._record(job_id) is entry.before:
                entry.awaited = False
                self.changed[job_id] = None
                continue
            entry.before, entry.awaited = None, False
            if (row := self._row(job_id, entry)) is not None:
                rows.append(row)
        return rows

    async def page(self, after: str, limit: int) -> Page:
        """Rows behind `after`, in pieces, so that a long page holds up nobody."""
        seq = self.seq
        at = bisect_left(self._order, _parsed(after)) if after else len(self._order)
        keys = self._order[max(0, at - limit) : at]
        rows = []
        for number, (_, name) in enumerate(reversed(keys), 1):
            if (row := self.row(JobId(name))) is not None:
                rows.append(row)
            if number % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return Page(rows, _following(keys[0]) if at > limit else "", seq)

    def longest_waits(self) -> dict[str, int]:
        """Of each pool with jobs that have no runner yet, when the first of them was offered (Unix ns)."""
        oldest: dict[str, int] = {}
        for entry in self._waiting():
            oldest.setdefault(entry.pool, entry.key[0])
        return oldest

    def _waiting(self) -> Iterator[Entry]:
        for _, name in self._order:
            entry = self._entries[JobId(name)]
            if entry.phase is Phase.QUEUED or entry.phase is Phase.WAITING:
                yield entry

    def _row(self, job_id: JobId, entry: Entry) -> Row | None:
        if entry.phase is not Phase.FINISHED:
            record = self._record(job_id)
            if record is not None and record is not entry.made:
                entry.row, entry.made = Row(msgspec.json.encode(row_of(record))), record
        return entry.row

    def _add(self, job_id: JobId, offered_at_ns: int, pool: str, phase: Phase) -> Entry:
        entry = Entry((offered_at_ns, job_id), pool, phase)
        self._entries[job_id] = entry
        insort(self._order, entry.key)
        self.counts[phase] += 1
        self._touch(job_id, entry)
        if phase is Phase.FINISHED:
            self._keep(job_id)
        return entry

    def _move(self, entry: Entry, phase: Phase) -> None:
        if phase is not entry.phase:
            self.counts[entry.phase] -= 1
            self.counts[phase] += 1
            entry.phase = phase

    def _finish(self, job_id: JobId, entry: Entry, facts: Sequence[Fact]) -> None:
        """The last look at the engine's record, which is dropped next; what this batch says of it comes on top."""
        record = self._record(job_id)
        if record is None:
            self._drop(job_id)
            return
        try:
            for fact in facts:
                record = apply(record, fact) if fact.job_id == job_id else record
        except IllegalMoveError:  # the engine reads the journal again before it goes on, and so is behind
            self._drop(job_id)
            return
        entry.row, entry.made = Row(msgspec.json.encode(row_of(record))), None
        self._move(entry, Phase.FINISHED)
        self._touch(job_id, entry)
        self._keep(job_id)

    def _touch(self, job_id: JobId, entry: Entry) -> None:
        if self.watched:
            self.changed[job_id] = None
            entry.awaited = entry.phase is not Phase.FINISHED
            entry.before = self._record(job_id) if entry.awaited else None

    def _keep(self, job_id: JobId) -> None:
        self._finished[job_id] = None
        while len(self._finished) > MAX_FINISHED:
            self._drop(next(iter(self._finished)))

    def _drop(self, job_id: JobId) -> None:
        entry = self._entries.pop(job_id, None)
        if entry is None:
            return
        self._finished.pop(job_id, None)
        self.changed.pop(job_id, None)
        if self.watched:
            self.gone[job_id] = None
        self.counts[entry.phase] -= 1
        del self._order[bisect_left(self._order, entry.key)]


def _following(key: Key) -> str:
    return f"{key[0]}:{key[1]}"


def _parsed(text: str) -> Key:
    at, _, name = text.partition(":")
    return int(at), name
