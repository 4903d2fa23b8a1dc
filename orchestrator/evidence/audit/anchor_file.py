"""A file elsewhere as the place that keeps checkpoints: another disk, a mounted share, an append-only file."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from orchestrator.errors import TryAgainError
from orchestrator.evidence.audit.checkpoint import Checkpoint
from orchestrator.evidence.private_file import sync_folder

TIMEOUT_SECONDS: Final = 30.0


class FileAnchor:
    """Appends each checkpoint, followed by an empty line, and syncs. The file's folder must exist.

    `chattr +a` may be set on the file: it is opened for appending only, and cut only where a write of ours failed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._busy = False

    @property
    def name(self) -> str:
        return f"file:{self._path}"

    async def put(self, checkpoint: Checkpoint) -> None:
        """See `Anchor.put`."""
        if self._busy:
            raise self._unusable("the write before has not come back", "anchor_unreachable")
        self._busy = True
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await asyncio.shield(asyncio.to_thread(self._append, f"{checkpoint.note}\n".encode()))
        except TimeoutError:
            raise self._unusable(f"no answer within {TIMEOUT_SECONDS:g} s", "anchor_unreachable") from None
        except OSError as error:
            raise self._unusable(error.strerror or type(error).__name__, "anchor_refused") from error

    async def close(self) -> None:
        """Nothing is held open."""

    def _append(self, data: bytes) -> None:
        """On a thread, which a share that hangs may keep; `_busy` then lets no second one begin."""
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(self._path, flags, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(0, "it is no file")
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._append_to(descriptor, data)
            finally:
                os.close(descriptor)
        finally:
            self._busy = False

    def _append_to(self, descriptor: int, data: bytes) -> None:
        size = os.fstat(descriptor).st_size
        end = os.pread(descriptor, len(data), max(0, size - len(data)))
        if end != data:
            # A write that was killed may have left the beginning of a note: an empty line sets it apart.
            data = data if end.endswith(b"\n\n") or not size else b"\n\n" + data
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(0, "only a part could be written")
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        os.fsync(descriptor)
        if not size:
            sync_folder(self._path.parent)

    def _unusable(self, why: str, reason: str) -> TryAgainError:
        return TryAgainError(
            f"checkpoints cannot be appended to {self._path}: {why}",
            reason=reason,
            fix="check that the folder exists, its file system has space, and the daemon's user may write the file",
        )
