"""The journal file: its tables, the steps from each version of them to the next, and the look before opening.

`facts` is the truth and only ever appended to (compaction excepted). `job` is the `seq` of the job's first
fact; a small number there instead of the job's id in each row halves what a fact costs. `job_id` stands in the
first row of a job only. `jobs` and `named` are indexes that can be rebuilt from `facts`; `phase`, `result` and
`reason` of an open job are kept in memory and written when it finishes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from orchestrator.errors import ConfigurationError
from orchestrator.journal.codec import NEWER_FIX

APPLICATION_ID = 0x4A726E6C
"""`Jrnl`: tells our files from every other program's SQLite files."""

CHECKED_BYTES = 512 << 20
"""Files up to this size have their whole structure checked at each start (about a second); of larger ones
only what recovery reads is checked, by its sums."""

_SOUND = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
)

Step = Callable[[sqlite3.Connection], object]


def _run(*statements: str) -> Step:
    def step(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return step


STEPS: Sequence[Step] = (
    _run(
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('version', 0), ('epoch', 0), ('last_seq', 0)",
        "CREATE TABLE facts (seq INTEGER PRIMARY KEY, job INTEGER NOT NULL, job_id TEXT, at_ns INTEGER NOT NULL,"
        " kind TEXT NOT NULL, data BLOB NOT NULL, epoch INTEGER NOT NULL)",
        "CREATE INDEX facts_of_job ON facts (job)",
        "CREATE TABLE jobs (job INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
        " pool TEXT NOT NULL, pipeline TEXT NOT NULL, caller_id TEXT NOT NULL, phase TEXT NOT NULL,"
        " offered_at_ns INTEGER NOT NULL, finished_at_ns INTEGER NOT NULL, result TEXT NOT NULL,"
        " reason TEXT NOT NULL, open INTEGER NOT NULL)",
        "CREATE INDEX jobs_open ON jobs (job) WHERE open = 1",
    ),
    _run(
        # A sum over each fact, so that a flipped bit inside one is noticed; older rows have none. Sending a
        # trace again is harmless (its ids are derived), so every finished job of before goes to the outbox.
        "ALTER TABLE facts ADD COLUMN crc INTEGER",
        "CREATE TABLE trace_outbox (job INTEGER PRIMARY KEY)",
        "INSERT INTO trace_outbox SELECT job FROM facts WHERE kind = 'JobFinished'",
    ),
    # Which job each platform's job was; nothing older can have named one.
    _run("CREATE TABLE named (job INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE)"),
)
"""Step n leads from version n to n + 1. Never edited after a release, only added to."""


def corrupt(path: Path, detail: str) -> ConfigurationError:
    return ConfigurationError(
        f"the journal {path} is damaged: {detail}",
        reason="journal_corrupt",
        fix=(
            f"nothing was changed. Keep a copy of {path.name}, {path.name}-wal and {path.name}-shm, then put the last "
            "good backup of all three in their place; or move them away to start with an empty journal, which forgets "
            "every job, and runners of unfinished jobs are removed as leftovers"
        ),
    )


def unfit(path: Path, error: sqlite3.Error | OSError) -> ConfigurationError:
    """Why the journal cannot be opened: damaged only when SQLite says so, else the machine's fault."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF
    if code in _SOUND:
        return ConfigurationError(
            f"the journal {path} cannot be opened for writing: {error}",
            reason="journal_unwritable",
            fix="nothing is lost: give the state folder free space and mode 0700, owned by the daemon's user",
        )
    return corrupt(path, str(error))


def create(path: Path) -> None:
    """Make an empty journal at `path`, whole or not at all.

    Built under another name and renamed, so that an empty file at `path` always means damage.

    Raises:
        ConfigurationError: reason `journal_corrupt` when a write-ahead log without its journal lies there,
            `journal_unwritable` when the file cannot be made.
    """
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        raise corrupt(path, "its write-ahead log is here but the journal itself is gone")
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        fresh.rename(path)
        _sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise unfit(path, error) from error


def inspect(path: Path) -> None:
    """Look at an existing journal without changing a byte of it.

    Raises:
        ConfigurationError: reason `journal_corrupt`, `journal_foreign` (another program's file),
            `journal_newer` (a later version of this program wrote it) or `journal_unwritable`.
    """
    if not os.access(path, os.R_OK | os.W_OK):
        raise ConfigurationError(
            f"the journal {path} cannot be read and written by this user",
            reason="journal_unwritable",
            fix="run the daemon as the user that owns the state folder",
        )
    if path.stat().st_size == 0:
        raise corrupt(path, "the file is empty")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise ConfigurationError(
                    f"{path} is a database of another program",
                    reason="journal_foreign",
                    fix="choose another state folder",
                )
            if path.stat().st_size <= CHECKED_BYTES:
                verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
                if verdict != "ok":
                    raise corrupt(path, verdict)
            found = version(connection)
    except sqlite3.Error as error:
        raise unfit(path, error) from error
    if found > len(STEPS):
        raise ConfigurationError(
            f"the journal {path} has version {found}; this program knows versions up to {len(STEPS)}",
            reason="journal_newer",
            fix=NEWER_FIX,
        )


def version(connection: sqlite3.Connection) -> int:
    """The version of the tables, 0 for an empty database."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
        return 0
    return int(connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()[0])


def migrate(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> int:
    """Bring the tables to the newest version, all steps in one transaction; returns the version before."""
    before = version(connection)
    if before == len(steps):
        return before
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[before:]:
            step(connection)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (len(steps),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return before


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
