"""A file elsewhere as the place that keeps checkpoints: another disk, a mounted share, an append-only file."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import threading
from pathlib import Path
from typing import Final

from orchestrator.errors import TryAgainError
from orchestrator.evidence.audit.checkpoint import Checkpoint
from orchestrator.private_file import sync_folder

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
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        data = f"{checkpoint.note}\n".encode()
        # A thread that the end of the program does not wait for, as it would for one of the loop's own.
        threading.Thread(target=self._work, args=(data, loop, done), name="audit-anchor", daemon=True).start()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await done
        except TimeoutError:
            raise self._unusable(f"no answer within {TIMEOUT_SECONDS:g} s", "anchor_unreachable") from None
        except OSError as error:
            raise self._unusable(error.strerror or type(error).__name__, "anchor_refused") from error

    async def close(self) -> None:
        """Nothing is held open."""

    def _work(self, data: bytes, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        """On a thread, which a share that hangs may keep; `_busy` then lets no second one begin."""
        error: Exception | None = None
        try:
            self._append(data)
        except Exception as failure:  # noqa: BLE001 -- handed to the caller
            error = failure
        finally:
            self._busy = False
        with contextlib.suppress(RuntimeError):  # the loop may be gone
            loop.call_soon_threadsafe(_settle, done, error)

    def _append(self, data: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(self._path, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(0, "it is no file")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._append_to(descriptor, data)
        finally:
            os.close(descriptor)

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


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return  # nobody waits any longer
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
