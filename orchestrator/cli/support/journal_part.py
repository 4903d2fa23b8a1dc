"""What the journal says: the newest facts, what is unfinished and why, and the last jobs that failed, one by one.

The file is read as it lies there, by a connection of its own that cannot write: a daemon may be running on it, or not.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from orchestrator.cli.support.cleaning import Cleaner
from orchestrator.errors import GiveUpError
from orchestrator.journal.port import JobQuery
from orchestrator.journal.reads import Reader
from orchestrator.lifecycle.observation import Deadlines
from orchestrator.lifecycle.why import Surroundings, why
from orchestrator.lifecycle.why_hints import hints
from orchestrator.model.events import Fact, JobOffered
from orchestrator.model.outcome import Result
from orchestrator.model.record import fold
from orchestrator.server.views import event_view, job_view
from orchestrator.server.why import why_view
from orchestrator.telemetry.ids import trace_id
from orchestrator.telemetry.waterfall import trace_document

MAX_FACTS = 5000
MAX_UNFINISHED = 1000
_FAILED = (Result.ERROR, Result.TIMEOUT, Result.FAILURE, Result.DENIED)


class JournalPart:
    """Everything is read once by `read`; what jobs were given by their authors is learnt as secret on the way."""

    def __init__(self, path: Path, cleaner: Cleaner, deadlines: Deadlines, now_ns: int) -> None:
        self._path = path
        self._cleaner = cleaner
        self._around = Surroundings(deadlines)
        self._now_ns = now_ns
        self.tail: Sequence[Fact] = ()
        self.unfinished: list[Sequence[Fact]] = []
        self.failed: list[Sequence[Fact]] = []
        self.counts: dict[str, Any] = {}
        self._scripts: list[str] = []

    async def read(self, jobs: int) -> None:
        """Read the newest facts, the unfinished jobs and the last `jobs` that failed.

        Raises:
            GiveUpError: `journal_missing`, or a fact is damaged or of a newer program; what was read before stays.
            TryAgainError: SQLite cannot read it.
        """
        if not self._path.is_file():
            raise GiveUpError(f"there is no journal at {self._path}", reason="journal_missing")
        reader = Reader(self._path, {})
        try:
            self.counts = _counts(self._path)
            last = self.counts["last_seq"]
            live = await reader.live()
            self.unfinished = [self._learn(facts) for facts in live[-MAX_UNFINISHED:]]
            self.tail = await self._tail(reader, last)
            self.counts["unfinished"] = dict(Counter(fold(facts).phase.value for facts in live))
            for job_id in await self._failed_ids(reader, jobs):
                self.failed.append(self._learn(await reader.facts_of(job_id)))
        finally:
            # Last, for they are many words of which few are secret.
            for script in self._scripts:
                self._cleaner.learn_words(script)
            reader.close()

    async def _tail(self, reader: Reader, last: int) -> Sequence[Fact]:
        """The newest facts; what their jobs were given is learnt though it may stand before them."""
        tail = self._learn(await reader.facts_after(max(0, last - MAX_FACTS), MAX_FACTS))
        offered = {fact.job_id for fact in tail if isinstance(fact.event, JobOffered)}
        for job_id in dict.fromkeys(fact.job_id for fact in tail if fact.job_id not in offered):
            self._learn(await reader.facts_of(job_id))
        return tail

    async def _failed_ids(self, reader: Reader, jobs: int) -> list[Any]:
        """The newest of each way to fail, so that many red tests do not hide the one error."""
        found = []
        for result in _FAILED:
            lines = await reader.jobs(JobQuery(phase="finished", result=result.value, limit=jobs))
            found += [line for line in lines if line.finished_at_ns]
        newest = sorted(found, key=lambda line: (line.result != Result.ERROR, -line.finished_at_ns))
        return [line.job_id for line in newest[:jobs]]

    def _learn(self, facts: Sequence[Fact]) -> Sequence[Fact]:
        for fact in facts:
            if isinstance(fact.event, JobOffered):
                spec = fact.event.offer.spec
                for value in (*spec.environment.values(), *spec.claimed.values()):
                    self._cleaner.learn(value)
                self._scripts.append(spec.script)
        return facts

    def tail_lines(self) -> list[dict[str, Any]]:
        return [event_view(fact) for fact in self.tail]

    def unfinished_rows(self) -> list[dict[str, Any]]:
        return [self.why_of(facts) for facts in self.unfinished]

    def job_of(self, facts: Sequence[Fact]) -> dict[str, Any]:
        return job_view(facts, trace_id(facts[0].job_id))

    def why_of(self, facts: Sequence[Fact]) -> dict[str, Any]:
        record = fold(facts)
        around = Surroundings(self._around.deadlines, hints=hints(facts))
        return why_view(record, around, why(record, around), self._now_ns)


def trace_of(facts: Sequence[Fact]) -> dict[str, Any]:
    return trace_document(facts)


def _counts(path: Path) -> dict[str, Any]:
    """What a few statements tell; the last `seq` is where the tail ends."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        ends = connection.execute("SELECT result, reason, count(*) FROM jobs WHERE open = 0 GROUP BY 1, 2").fetchall()
        return {
            "version": meta["version"],
            "epoch": meta["epoch"],
            "last_seq": max(meta["last_seq"], connection.execute("SELECT max(seq) FROM facts").fetchone()[0] or 0),
            "finished": {f"{result} {reason}": count for result, reason, count in ends},
            "trace_outbox": connection.execute("SELECT count(*) FROM trace_outbox").fetchone()[0],
        }
