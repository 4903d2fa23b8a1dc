"""The last session of each scale set, in one small file: what a killed daemon left open, the next one can end.

A session's id is no credential; ending it needs the source's own token.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 1 << 20
_MAX_ID: Final = 128

_log = logging.getLogger(__name__)


class FileNotes:
    """`source_config.SessionNotes` in a file that is replaced as a whole. A file that cannot be used costs only time:
    then one waits until GitHub lets the old session go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes = self._load()

    def read(self, scale_set: str) -> str:
        return self._notes.get(scale_set, "")

    def write(self, scale_set: str, session_id: str) -> None:
        if session_id:
            self._notes[scale_set] = session_id
        else:
            self._notes.pop(scale_set, None)
        try:
            self._store()
        except OSError as error:
            _log.warning("the session of scale set %s could not be noted in %s: %s", scale_set, self._path, error)

    def _load(self) -> dict[str, str]:
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(_MAX_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("sessions noted in %s cannot be read: %s", self._path, error)
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: text for name, text in found.items() if isinstance(text, str) and 0 < len(text) <= _MAX_ID}

    def _store(self) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._notes, file, sort_keys=True)
            fresh.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
