"""Rows in and out of SQLite in as few steps as can be.

CPython's `sqlite3` lets go of the interpreter lock around each step of a statement and must win it back after:
beside a busy event loop every step costs up to a switch interval. `executemany` takes a step for each row;
these functions write many rows in one step and read a job's facts in one.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import msgspec

from orchestrator.journal import codec, index
from orchestrator.journal.index import Line
from orchestrator.journal.port import JobSummary
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.model.phase import Phase

MOST_ROWS = 512
"""Rows of one statement: below SQLite's limit of 32766 variables for every table here."""

# A job's rows as one JSON text, in any order: [[seq, at_ns, kind, event, sum], ...]
_PACKED = (
    "SELECT job, CAST('[' || group_concat('[' || seq || ',' || at_ns || ',\"' || kind || '\",' || data || ','"
    " || ifnull(crc, -1) || ']') || ']' AS BLOB) FROM facts WHERE {where} GROUP BY job ORDER BY job"
)
FACTS_OF_JOB = _PACKED.format(where="job = (SELECT job FROM jobs WHERE job_id = ?)")
FACTS_OF_NUMBER = _PACKED.format(where="job = ?")
FACTS_OF_OPEN = _PACKED.format(where="job IN (SELECT job FROM jobs WHERE open = 1)")

# In order of `seq`, whatever their jobs
FACTS_AFTER = (
    "SELECT facts.seq, jobs.job_id, at_ns, kind, data, crc FROM facts JOIN jobs USING (job)"
    " WHERE facts.seq > ? ORDER BY facts.seq LIMIT ?"
)

# The other way, of some kinds only, and no further than to a number: what is not of these kinds is stepped over
FACTS_BEFORE = (
    "SELECT facts.seq, jobs.job_id, at_ns, kind, data, crc, name FROM facts JOIN jobs USING (job)"
    " WHERE facts.seq < ? AND facts.seq >= ? AND kind IN (SELECT value FROM json_each(?))"
    " ORDER BY facts.seq DESC LIMIT ?"
)

LINE_COLUMNS = "job_id, name, pool, pipeline, caller_id, phase, offered_at_ns, finished_at_ns, result, reason"

_unpack = msgspec.json.Decoder(list[tuple[int, int, str, msgspec.Raw, int]]).decode


class Inserter:
    """`INSERT` of many rows into one table: statements of 512, 256, ... 1 rows, each prepared once."""

    def __init__(self, head: str, width: int, tail: str = "") -> None:
        self._width = width
        row = "(" + ",".join("?" * width) + ")"
        sizes = [MOST_ROWS >> shift for shift in range(MOST_ROWS.bit_length())]
        self._statements = [(size, f"{head} VALUES {','.join([row] * size)} {tail}") for size in sizes]

    def run(self, connection: sqlite3.Connection, values: Sequence[Any]) -> None:
        """Insert all rows; `values` are their fields one after the other."""
        start, left, width = 0, len(values) // self._width, self._width
        for size, statement in self._statements:
            while left >= size:
                end = start + size * width
                connection.execute(statement, values[start:end])
                start, left = end, left - size


LINES = Inserter(
    "INSERT INTO jobs (job, job_id, name, pool, pipeline, caller_id, phase, offered_at_ns, finished_at_ns,"
    " result, reason, open)",
    12,
    "ON CONFLICT (job) DO UPDATE SET name = excluded.name, pipeline = excluded.pipeline,"
    " caller_id = excluded.caller_id, phase = excluded.phase, finished_at_ns = excluded.finished_at_ns,"
    " result = excluded.result, reason = excluded.reason, open = excluded.open",
)
NAMED = Inserter("INSERT OR IGNORE INTO named (job, key)", 2)
OUTBOX = Inserter("INSERT OR IGNORE INTO trace_outbox (job)", 1)


class GuardedInserter:
    """`INSERT` of rows into one table while `guard` holds: an SQL condition with one variable. The look and the rows
    are one statement for the few rows that most groups have, as each hands over the interpreter lock.
    """

    ONE_STATEMENT = 8
    """So many rows at most are one statement, whatever their number."""

    def __init__(self, head: str, width: int, guard: str) -> None:
        self._width = width
        row = "(" + ",".join("?" * width) + ")"
        many = [MOST_ROWS >> shift for shift in range(MOST_ROWS.bit_length())]
        sizes = [size for size in many if size > self.ONE_STATEMENT] + list(range(self.ONE_STATEMENT, 0, -1))
        self._statements = [
            (size, f"{head} SELECT * FROM (VALUES {','.join([row] * size)}) WHERE {guard}")  # noqa: S608 -- ours
            for size in sizes
        ]

    def run(self, connection: sqlite3.Connection, values: Sequence[Any], guarded: object) -> bool:
        """Insert all rows; False when the guard does not hold: within a transaction it holds for all or for none.
        `values` are their fields one after the other.
        """
        start, left, width = 0, len(values) // self._width, self._width
        for size, statement in self._statements:
            while left >= size:
                end = start + size * width
                if connection.execute(statement, (*values[start:end], guarded)).rowcount != size:
                    return False
                start, left = end, left - size
        return True


def checksum(seq: int, data: bytes | memoryview) -> int:
    """CRC-32 of an encoded event, begun with its place in the journal so that swapped rows show too."""
    return zlib.crc32(data, seq & 0xFFFFFFFF)


def unpack(job_id: JobId, packed: bytes) -> list[Fact]:
    """The facts of one packed row, in order of `seq`.

    Raises:
        GiveUpError: reason `journal_corrupt` or `journal_newer`.
    """
    try:
        rows = sorted(_unpack(packed), key=itemgetter(0))
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise index.damaged(job_id) from error
    facts = []
    for seq, at_ns, kind, raw, crc in rows:
        if crc >= 0 and checksum(seq, memoryview(raw)) != crc:
            raise index.damaged(job_id)
        facts.append(Fact(job_id, at_ns, codec.decode(kind, raw), seq))
    return facts


def fact_of(row: Sequence[Any]) -> Fact:
    """The fact of a row of `FACTS_AFTER` or `FACTS_BEFORE`.

    Raises:
        GiveUpError: reason `journal_corrupt` or `journal_newer`.
    """
    seq, job_id, at_ns, kind, data, crc = row[:6]
    if crc is not None and checksum(seq, data) != crc:
        raise index.damaged(job_id)
    return Fact(job_id, at_ns, codec.decode(kind, data), seq)


def summary_of(row: Sequence[Any]) -> JobSummary:
    """A list line from a row of `LINE_COLUMNS`."""
    return JobSummary(row[0], row[1], row[2], row[3], row[4], Phase(row[5]), *row[6:])


def fields(line: Line) -> Sequence[Any]:
    """A row of the table `jobs`."""
    shown = line.offered
    return (
        line.number,
        shown.job_id,
        shown.name,
        shown.pool,
        shown.pipeline,
        shown.caller_id,
        line.phase.value,
        shown.offered_at_ns,
        line.finished_at_ns,
        line.result,
        line.reason,
        int(line.open),
    )


def naming(line: Line) -> Sequence[Any]:
    """A row of the table `named`, of a line that has a key."""
    return (line.number, line.platform_key)
