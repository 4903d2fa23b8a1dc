"""The objects, their signatures, uses, reviews and ends, in one SQLite file. Durable when a call returns.

Blocking: call it in a thread. What is kept is read whole at the start; nothing is ever changed, only added, and only
what has long ended is forgotten. Signatures are checked by whoever reads: a file that was written by somebody else
proves nothing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import TryAgainError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
    id TEXT PRIMARY KEY, payload BLOB NOT NULL, added_ns INTEGER NOT NULL, origin TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS signatures (
    object TEXT NOT NULL, keyid TEXT NOT NULL, signature BLOB NOT NULL, PRIMARY KEY (object, keyid)) STRICT;
CREATE TABLE IF NOT EXISTS endorsements (
    object TEXT NOT NULL, issuer TEXT NOT NULL, subject TEXT NOT NULL, envelope TEXT NOT NULL,
    PRIMARY KEY (object, issuer, subject)) STRICT;
CREATE TABLE IF NOT EXISTS uses (
    exception TEXT NOT NULL, job TEXT NOT NULL, stage TEXT NOT NULL, audience TEXT NOT NULL, number INTEGER NOT NULL,
    at_ns INTEGER NOT NULL, decision TEXT NOT NULL, waived TEXT NOT NULL, environment TEXT NOT NULL,
    issuer TEXT NOT NULL, repository_id TEXT NOT NULL, people TEXT NOT NULL,
    PRIMARY KEY (exception, job, stage, audience)) STRICT;
CREATE TABLE IF NOT EXISTS told (
    exception TEXT NOT NULL, job TEXT NOT NULL, stage TEXT NOT NULL, audience TEXT NOT NULL,
    PRIMARY KEY (exception, job, stage, audience)) STRICT;
"""
_WAIT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class StoredObject:
    """`signatures` by key id; `endorsements` are (issuer, subject) to an envelope of the control plane."""

    id: str
    payload: bytes
    added_ns: int
    origin: str
    signatures: Mapping[str, bytes]
    endorsements: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Use:
    """A decision that rested on an exception. `number` counts the jobs that used it, from 1; `people` are those whose
    own job it was."""

    exception: str
    job: str
    stage: str
    audience: str
    number: int
    at_ns: int
    decision: str
    waived: tuple[str, ...]
    environment: str
    issuer: str = ""
    repository_id: str = ""
    people: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.exception, self.job, self.stage, self.audience


class ApprovalStore:
    """One file of this user alone; one writer at a time."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        Raises:
            TryAgainError: reason `approvals_unavailable`, as every call.
        """
        self._lock = threading.Lock()
        with _answered():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._database = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def objects(self) -> list[StoredObject]:
        """All of them, oldest first."""
        with self._lock, _answered():
            signatures: dict[str, dict[str, bytes]] = {}
            for name, keyid, signature in self._database.execute("SELECT object, keyid, signature FROM signatures"):
                signatures.setdefault(name, {})[keyid] = signature
            endorsements: dict[str, dict[tuple[str, str], str]] = {}
            rows = self._database.execute("SELECT object, issuer, subject, envelope FROM endorsements")
            for name, issuer, subject, envelope in rows:
                endorsements.setdefault(name, {})[issuer, subject] = envelope
            rows = self._database.execute("SELECT id, payload, added_ns, origin FROM objects ORDER BY added_ns, id")
            return [
                StoredObject(name, payload, added_ns, origin, signatures.get(name, {}), endorsements.get(name, {}))
                for name, payload, added_ns, origin in rows
            ]

    def uses(self) -> list[Use]:
        """All of them, oldest first."""
        with self._lock, _answered():
            rows = self._database.execute(
                "SELECT exception, job, stage, audience, number, at_ns, decision, waived, environment, issuer, "
                "repository_id, people FROM uses ORDER BY at_ns, number"
            )
            return [_use(row) for row in rows]

    def told(self) -> set[tuple[str, str, str, str]]:
        """Keys of the uses that the job's journal has."""
        with self._lock, _answered():
            return set(self._database.execute("SELECT exception, job, stage, audience FROM told"))

    def add(self, found: StoredObject) -> None:
        """An object, or more signatures of one; what is there already stays as it is."""
        with self._writing() as database:
            database.execute(
                "INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?)",
                (found.id, found.payload, found.added_ns, found.origin),
            )
            for keyid, signature in found.signatures.items():
                database.execute("INSERT OR IGNORE INTO signatures VALUES (?, ?, ?)", (found.id, keyid, signature))
            for (issuer, subject), envelope in found.endorsements.items():
                row = (found.id, issuer, subject, envelope)
                database.execute("INSERT OR IGNORE INTO endorsements VALUES (?, ?, ?, ?)", row)

    def use(self, uses: Iterable[Use]) -> None:
        """All of them or none."""
        with self._writing() as database:
            for one in uses:
                row = (
                    *one.key, one.number, one.at_ns, one.decision, " ".join(one.waived), one.environment, one.issuer,
                    one.repository_id, " ".join(one.people),
                )  # fmt: skip
                database.execute("INSERT INTO uses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def tell(self, keys: Iterable[tuple[str, str, str, str]]) -> None:
        """The job's journal has these uses."""
        with self._writing() as database:
            database.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?, ?)", list(keys))

    def forget(self, ids: Iterable[str]) -> None:
        """Objects that ended long ago, with all that belongs to them."""
        with self._writing() as database:
            for name in ids:
                for table, column in (
                    ("objects", "id"), ("signatures", "object"), ("endorsements", "object"), ("uses", "exception"),
                    ("told", "exception"),
                ):  # fmt: skip
                    database.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))  # noqa: S608 -- names of ours

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _answered():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise TryAgainError(
            "the store of approvals cannot be read or written",
            reason="approvals_unavailable",
            fix="check free space and permissions of the state folder; approvals.db there has to be whole",
        ) from error


def _use(row: tuple[Any, ...]) -> Use:
    exception, job, stage, audience, number, at_ns, decision, waived, environment, issuer, repository_id, people = row
    return Use(
        exception, job, stage, audience, number, at_ns, decision, _words(waived), environment, issuer, repository_id,
        _words(people),
    )  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())
