"""Deliveries that were taken in: on disk before they are answered, each looked into once, replays known as such.

What a delivery said is kept as numbers and names only, never its payload. Losing the file loses nothing for good, for
queued jobs are looked for anyway.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.intake.github.webhooks.delivery import JobHint

MAX_REMEMBERED: Final = 200_000
REMEMBER_SECONDS: Final = 8 * 86_400
"""Longer than GitHub can deliver anything again: 3 days on github.com, 7 on a server."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS delivery (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL UNIQUE,
    received_ns INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    action TEXT NOT NULL,
    owner TEXT NOT NULL,
    repository TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS waiting ON delivery (sequence) WHERE done = 0;
"""
_INSERT: Final = """
INSERT OR IGNORE INTO delivery (id, digest, received_ns, action, owner, repository, run_id, job_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_WAITING: Final = """
SELECT id, digest, action, owner, repository, run_id, job_id FROM delivery WHERE done = 0 ORDER BY sequence LIMIT ?
"""
_PUT_OFF: Final = "UPDATE delivery SET sequence = (SELECT max(sequence) + 1 FROM delivery) WHERE id = ? AND done = 0"
_FORGET: Final = """
DELETE FROM delivery WHERE done = 1 AND (received_ns < ? OR sequence <= (SELECT max(sequence) FROM delivery) - ?)
"""

T = TypeVar("T")


class WebhookInbox:
    """One file for each source, used by one thread of its own. `max_waiting` bounds what is not yet looked into."""

    def __init__(
        self, path: Path, clock_ns: Callable[[], int], *, max_waiting: int, max_remembered: int = MAX_REMEMBERED
    ) -> None:
        """Open or make the file.

        Raises:
            ConfigurationError: `webhook_inbox_unusable`.
        """
        self._clock_ns = clock_ns
        self._max_waiting = max_waiting
        self._max_remembered = max_remembered
        self._arrived = asyncio.Event()
        self._closed = False
        self._thread = ThreadPoolExecutor(1, "webhook-inbox")
        try:
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
            self.waiting: int = self._database.execute("SELECT count(*) FROM delivery WHERE done = 0").fetchone()[0]
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"the inbox of webhooks cannot be used: {error}",
                reason="webhook_inbox_unusable",
                fix=f"check permissions and free space of the state folder, or remove {path.name} there",
            ) from error
        if self.waiting:
            self._arrived.set()

    async def put(self, hint: JobHint) -> bool:
        """Keep it; True when it is new. It is on disk when this returns.

        Raises:
            TryAgainError: `webhook_inbox_full`, `webhook_inbox_unwritable`.
        """
        if self.waiting >= self._max_waiting:
            raise TryAgainError(
                "too many deliveries wait to be looked into",
                reason="webhook_inbox_full",
                fix="GitHub or the way to it may be slow now; the job is found by polling",
                retry_after_seconds=30,
            )
        try:
            return await self._run(lambda: self._insert(hint))
        finally:
            # Also when nobody waits for it any more: it gets there all the same, before the next look, and a repetition
            # of it would tell nobody, being known.
            self._arrived.set()

    async def pending(self, limit: int) -> Sequence[JobHint]:
        """The oldest that were not looked into; empty when there are none.

        Raises:
            TryAgainError: `webhook_inbox_unwritable`.
        """
        self._arrived.clear()
        rows: Sequence[tuple[Any, ...]] = ()
        looked = False
        try:
            rows = await self._run(lambda: self._database.execute(_WAITING, (limit,)).fetchall())
            looked = True
        finally:
            if rows or not looked:  # what could not be seen may be there
                self._arrived.set()
        return [JobHint(*row) for row in rows]

    async def arrival(self) -> None:
        """Return when there may be something pending."""
        await self._arrived.wait()

    async def done(self, deliveries: Iterable[str]) -> None:
        """They were looked into. What is long over, or too much, is forgotten.

        Raises:
            TryAgainError: `webhook_inbox_unwritable`; they will be looked into again.
        """
        ids = [(delivery,) for delivery in deliveries]
        await self._run(lambda: self._finish(ids))

    async def put_off(self, deliveries: Iterable[str]) -> None:
        """They could not be looked into now: others go first.

        Raises:
            TryAgainError: `webhook_inbox_unwritable`.
        """
        ids = [(delivery,) for delivery in deliveries]
        await self._run(lambda: self._database.executemany(_PUT_OFF, ids))

    async def knows(self, delivery: str) -> bool:
        """Whether a delivery of this id was taken in, as far as it is remembered.

        Raises:
            TryAgainError: `webhook_inbox_unwritable`.
        """
        query = "SELECT 1 FROM delivery WHERE id = ?"
        return await self._run(lambda: self._database.execute(query, (delivery,)).fetchone()) is not None

    async def close(self) -> None:
        """Wait for what is being written, and close. Idempotent."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
            self._thread.shutdown(wait=False)

    def _insert(self, hint: JobHint) -> bool:
        row = (hint.delivery, hint.digest, self._clock_ns(), hint.action, hint.owner, hint.repository)
        new = self._database.execute(_INSERT, (*row, hint.run_id, hint.job_id)).rowcount == 1
        self.waiting += new
        return new

    def _finish(self, ids: list[tuple[str]]) -> None:
        oldest = self._clock_ns() - REMEMBER_SECONDS * 1_000_000_000
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            changed = self._database.executemany("UPDATE delivery SET done = 1 WHERE id = ? AND done = 0", ids).rowcount
            self._database.execute(_FORGET, (oldest, self._max_remembered))
        self.waiting -= changed

    async def _run(self, work: Callable[[], T]) -> T:
        """One after the other, each to its end even when nobody waits for it any more."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise TryAgainError(
                f"the inbox of webhooks cannot be read or written: {error}",
                reason="webhook_inbox_unwritable",
                fix="check free space of the state folder",
            ) from error
