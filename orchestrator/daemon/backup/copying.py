"""One consistent copy of one file that others write while it is copied.

A database is copied by SQLite's own backup, as of one moment. Any other file is either replaced as a whole, so that an
open descriptor sees one whole version, or only ever grows, so that its first bytes are an earlier state.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from orchestrator.errors import GiveUpError

_SQLITE: Final = b"SQLite format 3\0"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied: bytes, and their SHA-256 in hexadecimal."""

    size: int
    sha256: str


def is_database(path: Path) -> bool:
    """Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def copy_database(path: Path, target: Path) -> None:
    """Copy a database as of now to a new file, and check the copy.

    Raises:
        GiveUpError: reason `backup_damaged`: what is stored is not whole.
        OSError, sqlite3.Error: it cannot be read or written.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    # It may go away meanwhile, and must not be made anew then.
    there = f"{path.resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(there, uri=True)) as source, closing(sqlite3.connect(target)) as made:
        source.execute("PRAGMA query_only = ON")
        source.backup(made)
        # One file, so that nothing beside it belongs to it. Whoever opens it chooses its mode again.
        made.execute("PRAGMA journal_mode = DELETE")
    check_database(target, str(path))


def check_database(path: Path, name: str) -> None:
    """Nothing beside the file is looked at, and nothing is written.

    Raises:
        GiveUpError: reason `backup_damaged`.
    """
    try:
        # A file may come from anywhere: what pretends to be its journal must not be rolled back into it.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as made:
            found = [row[0] for row in made.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    if found != ["ok"]:
        raise GiveUpError(
            f"{name} is damaged: {found[0]}", reason="backup_damaged", fix="keep the last good backup, and look into it"
        )


class Hashed:
    """A file that is read up to `size` bytes and no further, and hashed on the way."""

    def __init__(self, file: IO[bytes], size: int, progress: Callable[[int], None] = lambda _: None) -> None:
        self._file = file
        self._left = size
        self._progress = progress
        self._hash = hashlib.sha256()
        self.size = size

    def read(self, length: int = -1) -> bytes:
        """
        Raises:
            EOFError: the file has become shorter.
        """
        wanted = min(self._left, _CHUNK if length < 0 else length)
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise EOFError
        self._left -= len(data)
        self._hash.update(data)
        self._progress(len(data))
        return data

    @property
    def copied(self) -> Copied:
        return Copied(self.size, self._hash.hexdigest())
