"""Credentials of third parties that jobs have now, kept so that they can be ended after a restart too.

One private file for each, in a folder of this user alone; there from before the job has the credential until it is
known to be good for nothing.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.model.job import JobId
from orchestrator.private_file import private_folder, read_private_file, write_private_file

_log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_FILE_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Kept:
    """A credential that may be good at the third party `maker`. Times are Unix seconds: it ends by itself at
    `expires_at`, and is to be ended at `due_at` at the latest."""

    jti: str
    job_id: JobId
    maker: str
    due_at: int
    expires_at: int
    secret: str = field(repr=False)


class Vault:
    """`put`, `remove` and `open` block on the disk; the others read memory."""

    def __init__(self, folder: Path, kept: Sequence[Kept]) -> None:
        self._folder = folder
        self._kept = {one.jti: one for one in kept}

    @classmethod
    def open(cls, folder: Path) -> Vault:
        """What an earlier daemon left. A file that is not what it should be is put aside, and logged.

        Raises:
            ConfigurationError, TryAgainError: as `private_file.private_folder`, and for a file open to others.
        """
        private_folder(folder)
        for unfinished in folder.glob("*.tmp"):
            unfinished.unlink(missing_ok=True)
        kept = (_read(path) for path in sorted(folder.glob("*.json")))
        return cls(folder, [one for one in kept if one is not None])

    def put(self, one: Kept) -> None:
        """Durable when this returns.

        Raises:
            TryAgainError: `keys_unavailable`; it is not kept.
        """
        assert _NAME.fullmatch(one.jti), "a name of our own"
        write_private_file(self._path(one.jti), json.dumps(asdict(one)).encode())
        self._kept[one.jti] = one

    def remove(self, jti: str) -> None:
        """Forget it. A file that cannot be deleted comes back at the next start, which does no harm."""
        self._kept.pop(jti, None)
        try:
            self._path(jti).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("a credential's file cannot be deleted: %s", error.strerror, extra={"jti": jti})

    def get(self, jti: str) -> Kept | None:
        return self._kept.get(jti)

    def of_job(self, job_id: JobId) -> list[Kept]:
        return [one for one in self._kept.values() if one.job_id == job_id]

    def all(self) -> list[Kept]:
        return list(self._kept.values())

    def _path(self, jti: str) -> Path:
        return self._folder / f"{jti}.json"


def _read(path: Path) -> Kept | None:
    data = read_private_file(path, _MAX_FILE_BYTES)
    try:
        kept = Kept(**json.loads(data or b""))
        texts = (kept.jti, kept.job_id, kept.maker, kept.secret)
        if not all(isinstance(text, str) for text in texts) or kept.jti != path.stem or not _NAME.fullmatch(kept.jti):
            raise ValueError
        if not all(isinstance(moment, int) for moment in (kept.due_at, kept.expires_at)):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        _log.error("a credential's file is damaged: it lives until it expires by itself", extra={"file": path.name})
        path.rename(path.with_suffix(".damaged"))
        return None
    return kept
