"""What age does to finished jobs, how the index is made anew, where numbers go on. Works on a `Store`, on its thread.

Unfinished jobs are never touched. A compacted job keeps one fact, `JobCompacted`, with its number (so its
place in lists) and its fingerprint (so a late replay of its dispatch call is still recognised).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from orchestrator.errors import GiveUpError
from orchestrator.journal import codec, index, rows
from orchestrator.journal.index import Compaction, Line
from orchestrator.journal.store import Store
from orchestrator.model.events import Fact, JobCompacted

_log = structlog.get_logger(__name__)

STEP = 200
"""Jobs looked at in one transaction: bounds how long an append can wait behind compaction."""


@dataclass(frozen=True, slots=True)
class Age:
    """The limits of one pass. `exporting` keeps jobs whose trace an exporter still has to confirm."""

    now_ns: int
    retention_ns: int
    forget_ns: int
    exporting: bool


def compact_some(store: Store, age: Age, after: int) -> tuple[Compaction, int | None]:
    """Look at the next jobs after number `after`; returns what was done and where to go on (None: the end)."""
    found = store.execute(
        "SELECT job, job_id, finished_at_ns, (SELECT count(*) FROM trace_outbox WHERE trace_outbox.job = jobs.job),"
        " (SELECT kind FROM facts WHERE facts.job = jobs.job ORDER BY seq LIMIT 1), open"
        " FROM jobs WHERE job > ? ORDER BY job LIMIT ?",
        (after, STEP),
    )
    if not found:
        return Compaction(), None
    forget: list[int] = []
    shrink: list[tuple[int, Any, Sequence[Fact]]] = []
    dropped = 0
    for number, job_id, finished_at_ns, waiting, kind, is_open in found:
        since_ns = age.now_ns - finished_at_ns
        if is_open:
            continue
        if since_ns >= max(age.retention_ns, age.forget_ns):
            forget.append(number)
            dropped += bool(waiting and age.exporting)
            continue
        whole = since_ns >= age.retention_ns and kind != JobCompacted.__name__
        if whole and not (waiting and age.exporting) and (facts := _readable(store, number, job_id)):
            shrink.append((number, job_id, facts))

    def work() -> None:
        for number, job_id, facts in shrink:
            _shrink(store, number, job_id, facts, age.now_ns)
        for number in forget:
            for table in ("facts", "jobs", "named", "trace_outbox"):
                store.execute(f"DELETE FROM {table} WHERE job = ?", (number,))  # noqa: S608 -- a constant
        store.note_last_seq()

    if forget or shrink:
        store.transaction(work)
    return Compaction(len(shrink), len(forget), dropped), found[-1][0]


def _readable(store: Store, number: int, job_id: Any) -> Sequence[Fact]:
    """The job's facts. Empty when they are damaged: they stay as they are until they are forgotten, and hold up
    no other job."""
    try:
        return rows.unpack(job_id, store.execute(rows.FACTS_OF_NUMBER, (number,))[0][1])
    except GiveUpError as error:
        with contextlib.suppress(OSError):
            _log.warning("journal_job_not_compacted", job_id=job_id, reason=error.reason)
        return ()


def _shrink(store: Store, number: int, job_id: Any, facts: Sequence[Fact], now_ns: int) -> None:
    event = index.compacted(facts)
    store.execute("DELETE FROM facts WHERE job = ?", (number,))
    store.execute("DELETE FROM trace_outbox WHERE job = ?", (number,))
    store.insert_fact(number, job_id, max(now_ns, facts[-1].at_ns), codec.kind_of(event), codec.encode(event))


def reindex(store: Store) -> int:
    """Make the tables `jobs` and `named` anew from `facts`, in one transaction; returns the number of jobs.

    Raises:
        GiveUpError: reason `journal_corrupt` when the facts themselves are damaged.
    """
    numbers: Sequence[tuple[int, Any]] = store.execute(
        "SELECT job, job_id FROM facts WHERE job_id IS NOT NULL ORDER BY job"
    )

    def work() -> None:
        store.execute("DELETE FROM jobs")
        store.execute("DELETE FROM named")
        batch: list[Line] = []
        for number, job_id in numbers:
            packed = store.execute(rows.FACTS_OF_NUMBER, (number,))[0][1]
            batch.append(index.line_of(number, rows.unpack(job_id, packed)))
            if len(batch) == STEP:
                store.insert_lines(batch)
                batch.clear()
        store.insert_lines(batch)

    store.transaction(work)
    return len(numbers)


def continue_after(store: Store, seq: int) -> None:
    """Give no fact a number up to `seq` from now on: what was put back from an older copy repeats none."""
    store.seq = max(store.seq, seq)
    store.transaction(store.note_last_seq)
