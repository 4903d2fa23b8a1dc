"""The reading side of the SQLite journal: connections of its own on threads of their own.

In WAL mode readers see the last commit and never wait for the writer, nor it for them.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import TryAgainError
from orchestrator.journal import index, rows
from orchestrator.journal.index import Line
from orchestrator.journal.port import STRETCH, JobQuery, JobSummary, Stretch
from orchestrator.model.events import Event, Fact
from orchestrator.model.job import JobId

READERS = 2
"""Threads: a long list must not hold up a short look."""

PAGE_BYTES = 4 << 20
"""A page of facts ends with the one that makes it longer than this."""

T = TypeVar("T")


class Reader:
    """Asks the file on worker threads. `lines` are the writer's unfinished jobs, for what `jobs` lacks of them."""

    def __init__(self, path: Path, lines: Mapping[JobId, Line]) -> None:
        self._uri = f"{path.resolve().as_uri()}?mode=ro"
        self._lines = lines
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="journal-read")

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]:
        # Text that is no Unicode cannot even be asked for, so it names nothing.
        return await self._on_thread(lambda run: _facts(run, job_id)) if job_id.isascii() else []

    async def facts_after(self, seq: int, limit: int) -> Sequence[Fact]:
        return await self._on_thread(lambda run: _facts_after(run, seq, limit))

    async def facts_before(self, seq: int, kinds: Collection[type[Event]], limit: int) -> Stretch:
        names = json.dumps([kind.__name__ for kind in kinds])
        return await self._on_thread(lambda run: _facts_before(run, seq, names, limit))

    async def job_named(self, key: str) -> JobId | None:
        if any("\ud800" <= letter <= "\udfff" for letter in key):  # it cannot even be asked for
            return None
        statement = "SELECT job_id FROM named JOIN jobs USING (job) WHERE key = ?"
        row = await self._on_thread(lambda run: run(statement, (key,)).fetchone())
        return JobId(row[0]) if row else None

    async def live(self) -> Sequence[Sequence[Fact]]:
        def read(run: Run) -> Sequence[Sequence[Fact]]:
            # Both statements must see one state of the file: a job may finish between them.
            run("BEGIN")
            try:
                names = dict(run("SELECT job, job_id FROM jobs WHERE open = 1").fetchall())
                return [rows.unpack(names[number], packed) for number, packed in run(rows.FACTS_OF_OPEN)]
            finally:
                run("COMMIT")

        return await self._on_thread(read)

    async def jobs(self, query: JobQuery) -> Sequence[JobSummary]:
        wanted = (query.pool, query.pipeline, query.caller_id, query.after, query.phase, query.result)
        if any("\ud800" <= letter <= "\udfff" for text in wanted if not text.isascii() for letter in text):
            return []
        return await self._on_thread(lambda run: self._page(run, query))

    async def pending_traces(self, limit: int) -> Sequence[JobId]:
        statement = "SELECT job_id FROM trace_outbox JOIN jobs USING (job) ORDER BY job LIMIT ?"
        return await self._on_thread(lambda run: [JobId(row[0]) for row in run(statement, (max(0, limit),))])

    def _page(self, run: Run, query: JobQuery) -> list[JobSummary]:
        size = index.page_size(query)
        statement, values = _listing(query)
        after = _number_of(run, JobId(query.after)) if query.after else 1 << 62
        page: list[JobSummary] = []
        while after:
            found = run(statement, (*values, after, size)).fetchall()
            for row in found:
                line = self._current(run, row)
                if index.matches(line, query):
                    page.append(line)
                    if len(page) == size:
                        return page
            after = found[-1][0] if len(found) == size else 0
        return page

    def _current(self, run: Run, row: Sequence[Any]) -> JobSummary:
        shown = rows.summary_of(row[2:])
        if not row[1]:
            return shown
        line = self._lines.get(shown.job_id)
        if line is not None:
            return line.summary()
        # It finished after our look at the table and before our look at the writer's memory: the table has it now.
        again = run(f"SELECT {rows.LINE_COLUMNS} FROM jobs WHERE job = ?", (row[0],)).fetchone()  # noqa: S608
        return rows.summary_of(again) if again else shown

    async def _on_thread(self, read: Callable[[Run], T]) -> T:
        def work() -> T:
            try:
                return read(self._connection().execute)
            except sqlite3.Error as error:
                raise TryAgainError(
                    f"the journal cannot be read: {error}",
                    reason="journal_unavailable",
                    fix="see the daemon's log; restart it if this lasts",
                ) from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5)
            connection.execute("PRAGMA query_only = 1")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Wait for the reads under way and close. Blocks; idempotent."""
        self._threads.shutdown(wait=True)
        while self._connections:
            self._connections.pop().close()


Run = Callable[..., sqlite3.Cursor]


def _facts(run: Run, job_id: JobId) -> Sequence[Fact]:
    row = run(rows.FACTS_OF_JOB, (job_id,)).fetchone()
    return rows.unpack(job_id, row[1]) if row else []


def _facts_after(run: Run, seq: int, limit: int) -> Sequence[Fact]:
    found: list[Fact] = []
    size = 0
    cursor = run(rows.FACTS_AFTER, (seq, limit))
    for row in cursor:
        found.append(rows.fact_of(row))
        size += len(row[4])
        if size > PAGE_BYTES:
            break
    cursor.close()
    return found


def _facts_before(run: Run, seq: int, kinds: str, limit: int) -> Stretch:
    newest = run("SELECT ifnull(max(seq), 0) FROM facts WHERE seq < ?", (seq,)).fetchone()[0]
    floor = max(1, newest + 1 - STRETCH)
    found: list[Fact] = []
    names: dict[JobId, str] = {}
    size = 0
    cursor = run(rows.FACTS_BEFORE, (seq, floor, kinds, limit))
    for row in cursor:
        found.append(rows.fact_of(row))
        names[found[-1].job_id] = row[6]
        size += len(row[4])
        if size > PAGE_BYTES or len(found) == limit:
            floor = found[-1].seq
            break
    cursor.close()
    return Stretch(found, floor, names)


def _number_of(run: Run, job_id: JobId) -> int:
    row = run("SELECT job FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return int(row[0]) if row else 0


def _listing(query: JobQuery) -> tuple[str, list[str]]:
    """A page of candidates, newest first. What the table does not know of open jobs is filtered afterwards."""
    conditions: list[str] = []
    values: list[str] = []
    for column in ("pool", "pipeline", "caller_id"):
        if wanted := getattr(query, column):
            conditions.append(f"{column} = ?")
            values.append(wanted)
    settled = [(column, getattr(query, column)) for column in ("phase", "result") if getattr(query, column)]
    if settled:
        conditions.append("(open = 1 OR (" + " AND ".join(f"{column} = ?" for column, _ in settled) + "))")
        values += [wanted for _, wanted in settled]
    where = " AND ".join([*conditions, "job < ?"])
    columns = f"job, open, {rows.LINE_COLUMNS}"
    return f"SELECT {columns} FROM jobs WHERE {where} ORDER BY job DESC LIMIT ?", values  # noqa: S608 -- constants
