"""What is still to be sent, on disk: one SQLite file, one thread, bounded for each endpoint in number, bytes and age.

How far the journal has been read is stored in the transaction that stores what was made of it: killed at any moment,
nothing is left out and nothing gets a second number.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from orchestrator.errors import TryAgainError
from orchestrator.notifications.endpoint import Endpoint
from orchestrator.notifications.messages import Message
from orchestrator.notifications.schedule import LONGEST_DELAY_NS
from orchestrator.notifications.tables import open_tables, unusable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of what waits for one endpoint. What goes beyond is dropped, the oldest first."""

    messages: int = 10_000
    bytes: int = 64 << 20
    age_seconds: float = 3 * 86400


@dataclass(slots=True)
class Shelf:
    """What waits for one endpoint and what was lost. Written on the outbox's thread, read anywhere."""

    number: int = 0
    waiting: int = 0
    bytes: int = 0
    oldest_ns: int = 0
    dropped_ever: int = 0
    disabled: str = ""
    disabled_ns: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """A message whose time has come; `attempts` were made before."""

    message: Message
    attempts: int


@dataclass(slots=True)
class Results:
    """What became of messages of one endpoint: `retry` maps a number to the tries so far and the next one's time."""

    gone: list[int] = field(default_factory=list)
    retry: dict[int, tuple[int, int]] = field(default_factory=dict)
    dropped: int = 0
    disabled: str = ""


class Outbox:
    """Made by `open`. Calls that write raise `TryAgainError` (reason `notifications_unwritable`); then nothing changed.

    Raises:
        ConfigurationError: reason `notifications_unusable`.
    """

    def __init__(self, connection: sqlite3.Connection, endpoints: Iterable[Endpoint], bounds: Bounds) -> None:
        self._connection = connection
        self._run = connection.execute
        self.bounds = bounds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notifications")
        self.shelves: Mapping[str, Shelf] = {one.name: Shelf() for one in endpoints}
        self.cursor: int | None = None
        self.origin = ""
        self._transaction(lambda: self._adopt({one.name: one.target for one in endpoints}))

    @classmethod
    async def open(cls, path: Path, endpoints: Sequence[Endpoint], bounds: Bounds) -> Outbox:
        """The outbox at `path` for exactly these endpoints: what waited for others is thrown away."""

        def opened() -> Outbox:
            connection = open_tables(path)
            try:
                return cls(connection, endpoints, bounds)
            except sqlite3.Error as error:
                connection.close()
                raise unusable(path, str(error)) from error

        return await asyncio.to_thread(opened)

    async def add(self, rows: Sequence[tuple[str, Message]], cursor: int) -> Mapping[str, int]:
        """Store messages by endpoint, and that the journal is read up to `cursor`; how many were dropped for it."""
        return await self._on_thread(lambda: self._transaction(lambda: self._add(rows, cursor)))

    async def due(self, endpoint: str, now_ns: int, limit: int) -> Sequence[Due]:
        """Messages whose time has come, those that were tried least first."""
        return await self._on_thread(lambda: self._due(endpoint, now_ns, limit))

    async def next_ns(self, endpoint: str) -> int | None:
        """When the next message is due; None when none waits."""
        statement = "SELECT min(next_ns) FROM messages WHERE endpoint = ?"
        found = await self._on_thread(lambda: self._run(statement, (endpoint,)).fetchone()[0])
        return None if found is None else int(found)

    async def settle(self, endpoint: str, results: Results, now_ns: int) -> int:
        """Store what became of messages; how many were given up by it."""
        return await self._on_thread(lambda: self._transaction(lambda: self._settle(endpoint, results, now_ns)))

    async def expire(self, endpoint: str, now_ns: int) -> int:
        """Drop what is too old; how many."""
        before = now_ns - int(self.bounds.age_seconds * 1e9)
        shelf = self.shelves.get(endpoint)
        if shelf is None or not shelf.waiting or shelf.oldest_ns >= before:
            return 0
        return await self._on_thread(lambda: self._transaction(lambda: self._expire(endpoint, before)))

    async def enable(self, endpoint: str) -> None:
        """Have everything that waits tried now, and take back that the endpoint is gone."""
        await self._on_thread(lambda: self._transaction(lambda: self._enable(endpoint)))

    async def welcome(self, endpoints: Iterable[Endpoint]) -> None:
        """Have a shelf for each of these too, beside those that are there."""
        targets = {one.name: one.target for one in endpoints if one.name not in self.shelves}
        await self._on_thread(lambda: self._transaction(lambda: self._welcome(targets)))

    async def keep_only(self, endpoints: Iterable[Endpoint]) -> None:
        """Throw away what waits for others. For an endpoint whose address has changed what the old one said counts no
        more."""
        targets = {one.name: one.target for one in endpoints}
        await self._on_thread(lambda: self._transaction(lambda: self._keep_only(targets)))
        self.shelves = {name: shelf for name, shelf in self.shelves.items() if name in targets}

    async def close(self) -> None:
        """When what was asked of it is done. Idempotent."""
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()

    # ── on the thread ─────────────────────────────────────────────────────────────────────────────────────

    async def _on_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise TryAgainError(
                f"the outbox of notifications cannot be used: {error}",
                reason="notifications_unwritable",
                fix="give the file system of the state folder free space; it goes on by itself",
            ) from error

    def _transaction(self, work: Callable[[], T]) -> T:
        self._run("BEGIN IMMEDIATE")
        try:
            done = work()
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._run("ROLLBACK")
            raise
        self._measure()
        return done

    def _adopt(self, targets: Mapping[str, str]) -> None:
        meta: dict[str, str] = dict(self._run("SELECT key, value FROM meta").fetchall())
        self.cursor = int(meta["cursor"]) if "cursor" in meta else None
        self.origin = meta.get("origin") or secrets.token_hex(8)
        self._run("INSERT OR REPLACE INTO meta VALUES ('origin', ?)", (self.origin,))
        if not targets.keys() & {name for (name,) in self._run("SELECT name FROM endpoints")}:
            # Who was told last month is told no more, and nobody new is told of last month.
            self._run("DELETE FROM meta WHERE key = 'cursor'")
            self.cursor = None
        self._keep_only(targets)

    def _welcome(self, targets: Mapping[str, str]) -> None:
        self._connection.executemany("INSERT OR IGNORE INTO endpoints (name, target) VALUES (?, ?)", targets.items())
        self.shelves = {**self.shelves, **{name: Shelf() for name in targets}}

    def _keep_only(self, targets: Mapping[str, str]) -> None:
        known = dict(self._run("SELECT name, target FROM endpoints").fetchall())
        for name in known.keys() - targets.keys():
            self._run("DELETE FROM messages WHERE endpoint = ?", (name,))
            self._run("DELETE FROM endpoints WHERE name = ?", (name,))
        for name, target in targets.items():
            if name not in known:
                self._run("INSERT INTO endpoints (name, target) VALUES (?, ?)", (name, target))
            elif known[name] != target:  # another receiver by the same name: what the old one said counts no more
                statement = "UPDATE endpoints SET target = ?, disabled = '', disabled_ns = 0 WHERE name = ?"
                self._run(statement, (target, name))

    def _add(self, rows: Sequence[tuple[str, Message]], cursor: int) -> Mapping[str, int]:
        for name, one in rows:
            headers = msgspec.json.encode(one.headers)
            self._run(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
                (
                    name,
                    one.number,
                    one.id,
                    one.seq,
                    one.type,
                    one.at_ns,
                    headers,
                    one.body,
                    len(headers) + len(one.body),
                ),
            )
        for name in {name for name, _ in rows}:
            newest = max(one.number for other, one in rows if other == name)
            self._run("UPDATE endpoints SET number = ? WHERE name = ?", (newest, name))
        self._run("INSERT OR REPLACE INTO meta VALUES ('cursor', ?)", (str(cursor),))
        dropped = {name: lost for name in {name for name, _ in rows} if (lost := self._trim(name))}
        self.cursor = cursor
        return dropped

    def _trim(self, name: str) -> int:
        """Drop the oldest beyond the bounds."""
        count, size = self._run("SELECT waiting, bytes FROM endpoints WHERE name = ?", (name,)).fetchone()
        last = lost = 0
        oldest = self._run("SELECT number, size FROM messages WHERE endpoint = ? ORDER BY number", (name,))
        while count > self.bounds.messages or size > self.bounds.bytes:
            last, freed = oldest.fetchone()
            count, size, lost = count - 1, size - freed, lost + 1
        oldest.close()
        return self._drop(name, "number <= ?", last) if lost else 0

    def _drop(self, name: str, condition: str, value: int) -> int:
        deleted = self._run(f"DELETE FROM messages WHERE endpoint = ? AND {condition}", (name, value))  # noqa: S608
        self._run("UPDATE endpoints SET dropped = dropped + ? WHERE name = ?", (deleted.rowcount, name))
        return deleted.rowcount

    def _expire(self, name: str, before_ns: int) -> int:
        return self._drop(name, "at_ns < ?", before_ns)

    def _due(self, name: str, now_ns: int, limit: int) -> Sequence[Due]:
        # A time that lies beyond all delays was written by a clock that has been set back since.
        beyond_ns = now_ns + LONGEST_DELAY_NS
        rows = self._run(
            "SELECT id, number, seq, type, at_ns, headers, body, attempts FROM messages"
            " WHERE endpoint = ? AND (next_ns <= ? OR next_ns > ?) ORDER BY attempts, number LIMIT ?",
            (name, now_ns, beyond_ns, limit),
        ).fetchall()
        return [Due(_message(row), row[7]) for row in rows]

    def _settle(self, name: str, results: Results, now_ns: int) -> int:
        self._connection.executemany(
            "DELETE FROM messages WHERE endpoint = ? AND number = ?", [(name, number) for number in results.gone]
        )
        self._connection.executemany(
            "UPDATE messages SET attempts = ?, next_ns = ? WHERE endpoint = ? AND number = ?",
            [(attempts, next_ns, name, number) for number, (attempts, next_ns) in results.retry.items()],
        )
        dropped = results.dropped
        if results.disabled:
            statement = "UPDATE endpoints SET disabled = ?, disabled_ns = ? WHERE name = ?"
            self._run(statement, (results.disabled, now_ns, name))
            dropped += self._run("DELETE FROM messages WHERE endpoint = ?", (name,)).rowcount
        self._run("UPDATE endpoints SET dropped = dropped + ? WHERE name = ?", (dropped, name))
        return dropped

    def _enable(self, name: str) -> None:
        self._run("UPDATE endpoints SET disabled = '', disabled_ns = 0 WHERE name = ?", (name,))
        self._run("UPDATE messages SET next_ns = 0 WHERE endpoint = ?", (name,))

    def _measure(self) -> None:
        """Bring the shelves up to date."""
        oldest = "(SELECT at_ns FROM messages WHERE endpoint = name ORDER BY number LIMIT 1)"
        columns = f"name, number, waiting, bytes, coalesce({oldest}, 0), dropped, disabled, disabled_ns"
        for name, *values in self._run(f"SELECT {columns} FROM endpoints").fetchall():  # noqa: S608 -- constants
            shelf = self.shelves.get(name)
            if shelf is None:
                continue
            shelf.number, shelf.waiting, shelf.bytes, shelf.oldest_ns = values[:4]
            shelf.dropped_ever, shelf.disabled, shelf.disabled_ns = values[4:]


def _message(row: Sequence[Any]) -> Message:
    headers: dict[str, str] = msgspec.json.decode(row[5], type=dict[str, str])
    return Message(row[0], row[1], row[2], row[3], row[4], headers, row[6])
