"""The outbox's file: tables, and the statements over them. Synchronous; for one thread."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError

APPLICATION_ID: Final = 0x4E6F7466
"""`Notf`: tells our files from every other program's SQLite files."""
VERSION: Final = 1

_TABLES: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # `number` is of the endpoint's newest message; `dropped` counts what never got there; the triggers count the rest.
    (
        "CREATE TABLE endpoints (name TEXT PRIMARY KEY, target TEXT NOT NULL, number INTEGER NOT NULL DEFAULT 0,"
        " waiting INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0,"
        " disabled TEXT NOT NULL DEFAULT '', disabled_ns INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE messages (endpoint TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL,"
        " seq INTEGER NOT NULL, type TEXT NOT NULL, at_ns INTEGER NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL,"
        " size INTEGER NOT NULL, attempts INTEGER NOT NULL, next_ns INTEGER NOT NULL,"
        " PRIMARY KEY (endpoint, number)) WITHOUT ROWID"
    ),
    # What was tried least comes first: a message that its receiver cannot stand holds up no other.
    "CREATE INDEX messages_due ON messages (endpoint, attempts, number, next_ns)",
    (
        "CREATE TRIGGER message_added AFTER INSERT ON messages BEGIN UPDATE endpoints"
        " SET waiting = waiting + 1, bytes = bytes + new.size WHERE name = new.endpoint; END"
    ),
    (
        "CREATE TRIGGER message_gone AFTER DELETE ON messages BEGIN UPDATE endpoints"
        " SET waiting = waiting - 1, bytes = bytes - old.size WHERE name = old.endpoint; END"
    ),
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


def open_tables(path: Path) -> sqlite3.Connection:
    """Open the file, or make it.

    A power cut may take the last transactions with it, whole: what is read of the journal and what is waiting go back
    together, and the same messages are made again. So no commit waits for the disk.

    Raises:
        ConfigurationError: reason `notifications_unusable`; the file is as it was.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise unusable(path, str(error)) from error
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    with closing(connection.execute("PRAGMA application_id")) as cursor:
        found = cursor.fetchone()[0]
    empty = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    if not empty and found != APPLICATION_ID:
        raise unusable(path, "it is a database of another program")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise unusable(path, f"it has version {version}, which a later orchestrator wrote")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if not empty:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise unusable(path, str(verdict))
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("COMMIT")


def unusable(path: Path, detail: str) -> ConfigurationError:
    """For an outbox that cannot be opened."""
    return ConfigurationError(
        f"the outbox of notifications {path} cannot be used: {detail}",
        reason="notifications_unusable",
        fix=(
            f"nothing was changed. Give the state folder free space; if the file is damaged, move {path.name}, "
            f"{path.name}-wal and {path.name}-shm away: what waited in it is lost, and what happens from now on is told"
        ),
    )
