"""Sessions on disk, so that an upgrade signs nobody out: digests, whose they are, and for how long. Nothing in the file
opens anything."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.private_file import read_private_file, replace_private_file
from orchestrator.server.page.roles import Role

log = logging.getLogger("orchestrator.server.page")

_MAX_BYTES: Final = 4 << 20
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class KeptSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One session. `cookie` and `seal` are SHA-256 digests, `bound` that of what gave the role; `began` and `used` are
    Unix seconds."""

    cookie: _Digest
    seal: _Digest
    role: Role
    name: _Text
    issuer: _Text
    subject: _Text
    way: _Text
    bound: _Digest
    began: float
    used: float


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    sessions: list[KeptSession]


class SessionFile:
    """A file of this user alone, replaced as a whole. What cannot be read holds no session: people sign in again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._asked = 0
        self._written = 0
        self.behind = False
        """Whether sessions may be on disk that have ended."""

    def read(self) -> list[KeptSession]:
        """What was kept; nothing where there is no such file, or others could have written it."""
        try:
            data = read_private_file(self._path, _MAX_BYTES)
            return [] if data is None else msgspec.json.decode(data, type=_Document).sessions
        except (OrchestratorError, msgspec.MsgspecError) as error:
            words = str(error) if isinstance(error, OrchestratorError) else "it is damaged"
            log.warning("the page's sessions of before cannot be read, people sign in again: %s", words)
            return []

    async def write(self, sessions: Sequence[KeptSession]) -> None:
        """Keep these and no others, durably. What cannot be kept ends with the daemon.

        Raises:
            TryAgainError: `keys_unavailable`: those kept before are still there.
        """
        await asyncio.to_thread(self._write, self._next(), _encoded(sessions))

    def write_now(self, sessions: Sequence[KeptSession]) -> None:
        """The same, for who may wait for the disk."""
        self._write(self._next(), _encoded(sessions))

    def forget(self) -> None:
        """Keep none.

        Raises:
            TryAgainError: as for `write`.
        """
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise TryAgainError(
                f"Sessions on disk cannot be removed: {error.strerror}.",
                reason="keys_unavailable",
                fix=f"remove {self._path} while the daemon is stopped",
            ) from error

    def _next(self) -> int:
        self._asked += 1
        return self._asked

    def _write(self, number: int, data: bytes) -> None:
        with self._lock:
            if number < self._written:
                return  # somebody gave up waiting for this one, and a newer one was quicker
            self._written = number
            self.behind = True
            try:
                if data:
                    replace_private_file(self._path, data)
            except OSError as error:
                log.warning("the page's sessions cannot be kept, they end with the daemon: %s", error.strerror)
                data = b""  # what it holds may have ended
            if not data:
                self.forget()
            self.behind = False


def _encoded(sessions: Sequence[KeptSession]) -> bytes:
    """Nothing at all for none: there is no file then."""
    return msgspec.json.encode(_Document(1, list(sessions))) if sessions else b""
