"""The writing side of the SQLite journal: one connection, used by one thread at a time, no asyncio.

A group of appends becomes one transaction. Nothing in memory changes before it has committed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.journal import index, rows, schema
from orchestrator.journal.health import Health
from orchestrator.journal.index import Line
from orchestrator.model.events import Event, Fact, JobFinished, JobOffered, PlatformJobNamed
from orchestrator.model.job import JobId

_FACTS_HEAD = "INSERT INTO facts (seq, job, job_id, at_ns, kind, data, crc, epoch)"
_FACTS = rows.GuardedInserter(_FACTS_HEAD, 8, "(SELECT value FROM meta WHERE key = 'epoch') = ?")

_INDEXED = (JobOffered, JobFinished, PlatformJobNamed)  # they change a job's line in the file, unlike most

_TAKEN_OVER = "another daemon has taken the journal over"


@dataclass(frozen=True, slots=True)
class Append:
    """One call of `append`: each fact's job, event, kind and bytes, and when it was asked for."""

    facts: Sequence[tuple[JobId, Event, str, bytes]]
    now_ns: int


Answer = list[Fact] | OrchestratorError


class Store:
    """An open journal file. `lines` holds the unfinished jobs; other threads may read single entries of it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self.lines: dict[JobId, Line] = {}
        self._health = Health(path)
        self.epoch = 0
        self.seq = 0

    @property
    def problem(self) -> TryAgainError | None:
        """Why the last write did not go through; None when it did."""
        return self._health.problem

    @classmethod
    def open(cls, path: Path) -> Store:
        """Create, check and migrate the file as needed, and begin a new epoch.

        Raises:
            ConfigurationError: see `schema.create` and `schema.inspect`.
        """
        if path.exists():
            schema.inspect(path)
        else:
            schema.create(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        store = cls(connection, path)
        try:
            store._configure()
        except sqlite3.Error as error:
            connection.close()
            raise schema.unfit(path, error) from error
        except GiveUpError:
            connection.close()
            raise
        return store

    def _configure(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA wal_autocheckpoint = 2000")
        run("PRAGMA journal_size_limit = 67108864")
        run("PRAGMA cache_size = -32768")
        schema.migrate(self._connection)
        run("BEGIN IMMEDIATE")
        run("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
        self.epoch = self._meta("epoch")
        run("COMMIT")
        self.seq = max(self._meta("last_seq"), run("SELECT ifnull(max(seq), 0) FROM facts").fetchone()[0])
        names = dict(run("SELECT job, job_id FROM jobs WHERE open = 1"))
        for number, packed in run(rows.FACTS_OF_OPEN):
            line = index.line_of(number, rows.unpack(names[number], packed))
            self.lines[names[number]] = line

    def _meta(self, key: str) -> int:
        return int(self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])

    def commit(self, appends: Sequence[Append]) -> list[Answer]:
        """Store each append whole, all in one transaction; one answer for each, in order."""
        staged: dict[JobId, Line] = {}
        values: list[Any] = []
        answers: list[Answer] = []
        seq = self.seq
        alone = self._alone(appends)
        try:
            if not alone:
                self._connection.execute("BEGIN IMMEDIATE")
            closed = {} if alone else self._closed_lines(appends)
            for append in appends:
                refusal = self._refusal(append, staged, closed)
                if refusal is not None:
                    answers.append(refusal)
                    continue
                facts = self._stamp(append, staged, closed, values, seq)
                seq += len(facts)
                answers.append(facts)
            if alone:
                self._insert_facts(values)
            else:
                self._insert(values, staged)
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            answers += [[] for _ in range(len(appends) - len(answers))]
            return [a if isinstance(a, OrchestratorError) else self._health.failed(error) for a in answers]
        except BaseException:
            self._roll_back()
            raise
        self.seq = seq
        if values:
            self._health.wrote()
        for job_id, line in staged.items():
            if line.open:
                self.lines[job_id] = line
            else:
                self.lines.pop(job_id, None)
        return answers

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        if self._meta("epoch") != self.epoch:
            raise sqlite3.OperationalError(_TAKEN_OVER)

    def _alone(self, appends: Sequence[Append]) -> bool:
        """Whether the group is a few facts and changes no list line, as most are: one statement can store it."""
        facts = [fact for append in appends for fact in append.facts]
        return len(facts) <= _FACTS.ONE_STATEMENT and all(
            job_id in self.lines and not isinstance(event, _INDEXED) for job_id, event, _, _ in facts
        )

    def _insert_facts(self, values: Sequence[Any]) -> None:
        # A few are one statement; outside a transaction it is one itself, as atomic and as durable as within.
        if not _FACTS.run(self._connection, values, self.epoch):
            raise sqlite3.OperationalError(_TAKEN_OVER)

    def _closed_lines(self, appends: Sequence[Append]) -> Mapping[JobId, Line]:
        """The finished jobs that these appends speak of: one look for the whole group, seldom with a result."""
        ids = {fact[0] for append in appends for fact in append.facts}
        strange = [job_id for job_id in ids if job_id not in self.lines and job_id.isascii()]
        if not strange:
            return {}
        found = self._connection.execute(
            f"SELECT {rows.LINE_COLUMNS}, job, (SELECT max(at_ns) FROM facts WHERE facts.job = jobs.job)"  # noqa: S608
            " FROM jobs WHERE job_id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(strange).decode(),),
        )
        return {row[0]: Line(row[-2], rows.summary_of(row[:-2]), row[-1], is_open=False) for row in found}

    def _refusal(
        self, append: Append, staged: Mapping[JobId, Line], closed: Mapping[JobId, Line]
    ) -> OrchestratorError | None:
        offered: set[JobId] = set()
        for job_id, event, _, _ in append.facts:
            known = job_id in self.lines or job_id in staged or job_id in offered or job_id in closed
            if isinstance(event, JobOffered) is known:
                return index.known_job(job_id) if known else index.unknown_job(job_id)
            offered.add(job_id)
        return None

    def _stamp(
        self, append: Append, staged: dict[JobId, Line], closed: Mapping[JobId, Line], values: list[Any], seq: int
    ) -> list[Fact]:
        """Give each fact its time and place; note rows in `values` and changed lines in `staged`."""
        facts: list[Fact] = []
        now_ns, epoch = append.now_ns, self.epoch
        for job_id, event, kind, data in append.facts:
            seq += 1
            line = staged.get(job_id)
            if line is None:
                known = self.lines.get(job_id) or closed.get(job_id)
                if known is not None:
                    line = staged[job_id] = known.copy()
            named = None
            if line is None:
                assert isinstance(event, JobOffered)
                named = job_id
                line = staged[job_id] = Line.begin(seq, job_id, event, now_ns)
            at_ns = max(now_ns, line.at_ns)
            line.follow(event, at_ns)
            values += (seq, line.number, named, at_ns, kind, data, rows.checksum(seq, data), epoch)
            facts.append(Fact(job_id, at_ns, event, seq))
        return facts

    def _insert(self, values: Sequence[Any], staged: Mapping[JobId, Line]) -> None:
        lines: list[Any] = []
        finished: list[int] = []
        named: list[Any] = []
        for job_id, line in staged.items():
            known = self.lines.get(job_id)
            if line.platform_key and (known is None or not known.platform_key):
                named += rows.naming(line)
            elif line.open and known is not None:
                continue
            if line.open or known is not None or line.number > self.seq:
                lines += rows.fields(line)
                if not line.open:
                    finished.append(line.number)
        self._insert_facts(values)
        if lines:
            rows.LINES.run(self._connection, lines)
        if finished:
            rows.OUTBOX.run(self._connection, finished)
        if named:
            rows.NAMED.run(self._connection, named)

    def traces_exported(self, job_ids: Sequence[JobId]) -> None:
        """Take jobs out of the outbox."""

        def work() -> None:
            statement = "DELETE FROM trace_outbox WHERE job = (SELECT job FROM jobs WHERE job_id = ?)"
            for job_id in job_ids:
                self._connection.execute(statement, (job_id,))

        self.transaction(work)

    def transaction(self, work: Callable[[], None]) -> None:
        """Run `work` in a transaction of its own.

        Raises:
            TryAgainError: nothing was stored; reason `journal_unavailable`.
        """
        try:
            self._begin()
            work()
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise self._health.failed(error) from error
        except BaseException:
            self._roll_back()
            raise
        self._health.wrote()

    def probe(self) -> None:
        """See whether a small transaction goes through again; sets `healthy` if so."""
        with contextlib.suppress(TryAgainError):
            self.transaction(self.note_last_seq)

    def note_last_seq(self) -> None:
        """Keep the highest `seq` even when its row goes; call within `transaction`."""
        self._connection.execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", (self.seq,))

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of one statement, for retention and repair; call changes within `transaction`."""
        return self._connection.execute(statement, values).fetchall()

    def insert_fact(self, number: int, job_id: JobId, at_ns: int, kind: str, data: bytes) -> None:
        """A job's new first row; call within `transaction`."""
        self.seq += 1
        crc = rows.checksum(self.seq, data)
        self._insert_facts((self.seq, number, job_id, at_ns, kind, data, crc, self.epoch))

    def insert_lines(self, lines: Sequence[Line]) -> None:
        """List lines of whole jobs; call within `transaction`."""
        rows.LINES.run(self._connection, [field for line in lines for field in rows.fields(line)])
        rows.NAMED.run(self._connection, [value for line in lines if line.platform_key for value in rows.naming(line)])

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Fold the write-ahead log into the file as far as possible and let go of it. Idempotent."""
        self._connection.close()
