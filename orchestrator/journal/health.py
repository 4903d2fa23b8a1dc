"""Whether the journal can be written, and who hears of it: its callers at once, the daemon's log when that changes."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import structlog

from orchestrator.errors import TryAgainError
from orchestrator.journal import schema

_log = structlog.get_logger(__name__)

_FULL_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def unavailable(detail: str, fix: str) -> TryAgainError:
    return TryAgainError(f"the journal cannot store facts: {detail}", reason="journal_unavailable", fix=fix)


def complain(event: str) -> None:
    """Log the exception at hand, if that can be done: the daemon's own log may lie on the same full disk."""
    with contextlib.suppress(OSError):
        _log.exception(event)


class Health:
    """Of the journal at `path`; `problem` is why the last write did not go through, None when it did."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem: TryAgainError | None = None

    def wrote(self) -> None:
        """A write went through."""
        if self.problem is not None:
            self.problem = None
            with contextlib.suppress(OSError):
                _log.info("journal_well_again")

    def failed(self, error: sqlite3.Error) -> TryAgainError:
        """A write did not go through, and nothing of it was stored: what its callers are told."""
        problem = unavailable(str(error), self._fix(error))
        first, self.problem = self.problem is None, problem
        if first:
            with contextlib.suppress(OSError):  # the daemon's own log may lie on the same full disk
                _log.error("journal_not_written", reason=problem.reason, error=str(problem), fix=problem.fix)
        return problem

    def _fix(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _FULL_DISK:
            return f"free space on the file system of {self._path}; the daemon goes on by itself"
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return schema.corrupt(self._path, "").fix
        return f"see whether this user may write {self._path}; restart the daemon if this lasts"
