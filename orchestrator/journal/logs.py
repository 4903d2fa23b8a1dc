"""The output of jobs: one masked, bounded file for each job, readable while it grows.

Logs are no facts: nothing is decided from them, so they are written behind the job's back without an fsync,
and a full disk costs output, never the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, Callable, Container
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from orchestrator.journal.redact import Masker
from orchestrator.journal.stream import StreamMasker
from orchestrator.model.events import LogClosed
from orchestrator.model.job import JobId

MAX_PENDING = 1 << 20
"""Masked bytes of one job that may wait for the disk; what comes while it is full is dropped, see `drain`."""
CHUNK = 64 << 10
_LOOK_SECONDS = 0.5
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,96}\.[A-Za-z0-9_-]{1,96}\.[0-9]{1,7}")
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class LogWriter:
    """One job's log while it is written. Made by `LogStore.open`; for the event loop only."""

    def __init__(self, store: LogStore, job_id: JobId, path: Path, stream: StreamMasker) -> None:
        self.job_id = job_id
        self._store = store
        self._path = path
        self._stream = stream
        self._pending = bytearray()
        self._flushing: asyncio.Task[None] | None = None
        self._descriptor = -1
        self._closing: asyncio.Task[LogClosed] | None = None
        self._kept = self._size()
        self._dropped = 0
        self._lost_here = 0
        self._why: set[str] = set()
        self.grown = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Take output as it comes from the job. Never blocks, never raises for the disk's sake.

        A line is shown when it ends: until then a secret in it may be incomplete.
        """
        if self._closing is None:
            self._accept(self._stream.feed(data))

    async def drain(self) -> None:
        """Wait until output can be taken without loss; await it between reads so that a slow disk slows the job."""
        while self._flushing is not None and len(self._pending) > MAX_PENDING // 2:
            await asyncio.wait([self._flushing])

    async def settled(self) -> int | None:
        """Bytes in the file once all that was taken so far is there; None while some of it is held back.

        After a restart `rewind` to them and write what came later.
        """
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        return await self._store.run(self._size) if self._stream.whole and not self._pending else None

    async def rewind(self, size: int) -> None:
        """Forget the bytes after the first `size`, which come again. Only before the first `write`."""
        self._kept = await self._store.run(self._cut, size)

    async def close(self) -> LogClosed:
        """Write what is left and say how much was kept, dropped and masked. Idempotent.

        Whoever is cancelled here stops waiting; the log is closed all the same.
        """
        if self._closing is None:
            self._accept(self._stream.close())
            self._closing = asyncio.get_running_loop().create_task(self._close())
        return await asyncio.shield(self._closing)

    async def _close(self) -> LogClosed:
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        await self._store.run(self._finish)
        self._store.forget(self)
        self._tell()
        return LogClosed(self._kept, self._dropped, self._stream.masked)

    def _accept(self, masked: bytes) -> None:
        room = self._store.max_bytes - self._kept - len(self._pending)
        taken = masked[: max(0, min(room, MAX_PENDING - len(self._pending)))]
        self._dropped += len(masked) - len(taken)
        if len(taken) < len(masked):
            self._why.add("limit" if len(taken) >= room else "slow")
        self._pending += taken
        if self._pending and self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._pending:
                data = bytes(self._pending[: 4 * CHUNK])
                kept = await self._store.run(self._put, data)
                del self._pending[: len(data)]
                self._kept += kept
                self._dropped += len(data) - kept
                self._tell()
        finally:
            self._flushing = None

    def _tell(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()

    # ── on a worker thread ────────────────────────────────────────────────────────────────────────────────

    def _put(self, data: bytes) -> int:
        """Append; returns how many bytes of `data` are in the file, fewer when the disk is full."""
        written = 0
        try:
            self._ready()
            if self._lost_here and self._write_all(note(f"{self._lost_here} bytes of output were lost here")):
                self._lost_here = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            self._lost_here += len(data) - written
            if "disk" not in self._why:
                self._why.add("disk")
                # The daemon's own log may lie on the same full disk.
                with contextlib.suppress(OSError):
                    _log.warning("job_log_write_failed", job_id=self.job_id, error=error.strerror)
        return written

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def _cut(self, size: int) -> int:
        with contextlib.suppress(OSError):
            self._ready()
            if self._size() > size:
                os.ftruncate(self._descriptor, size)
        return self._size()

    def _finish(self) -> None:
        with contextlib.suppress(OSError):
            self._ready()
            if self._dropped:
                words = {
                    "limit": f"a job's log may have {self._store.max_bytes} bytes",
                    "slow": "the disk was too slow",
                    "disk": "the disk refused them",
                }
                why = ", ".join(words[word] for word in sorted(self._why))
                self._write_all(note(f"{self._dropped} bytes of output were dropped: {why}"))
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _ready(self) -> None:
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags, 0o600)

    def _write_all(self, data: bytes) -> bool:
        """Our own note, whole or not at all."""
        before = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, data) == len(data):
            return True
        os.ftruncate(self._descriptor, before)
        return False


class LogStore:
    """All jobs' logs in one folder (mode 0700), files `<job id>.log` (mode 0600)."""

    def __init__(self, folder: Path, max_bytes_per_job: int, masker: Masker) -> None:
        self.max_bytes = max_bytes_per_job
        self._folder = folder
        self._masker = masker
        self._writers: dict[JobId, LogWriter] = {}
        self._opened = asyncio.Event()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="logs")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def open(self, job_id: JobId) -> LogWriter:
        """The writer of a job's log; the one that is open already if there is one. Appends after a restart.

        Raises:
            ValueError: `job_id` is not a job id.
        """
        writer = self._writers.get(job_id)
        if writer is None:
            stream = StreamMasker(self._masker, job_id)
            writer = self._writers[job_id] = LogWriter(self, job_id, self._path(job_id), stream)
            self._opened.set()
            self._opened = asyncio.Event()
        return writer

    async def read(
        self, job_id: JobId, offset: int = 0, follow: bool = False, unfinished: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[bytes, None]:
        """The log from byte `offset` in chunks; with `follow`, goes on until the log is closed.

        `unfinished` says whether a log that nobody writes yet may still be opened: a follower of a queued job
        waits for it. An unknown job's log is empty.

        Raises:
            ValueError: `job_id` is not a job id.
        """
        path, at = self._path(job_id), max(0, offset)
        while True:
            writer = self._writers.get(job_id)
            grown = writer.grown if writer else self._opened
            waiting = follow and (writer is not None or unfinished())
            chunk = await self.run(_chunk, path, at)
            if chunk:
                at += len(chunk)
                yield chunk
            elif not waiting:
                return
            elif self._writers.get(job_id) is writer:
                # The time-out is for a job that ends without ever opening its log.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if writer else _LOOK_SECONDS):
                        await grown.wait()

    def writing(self, job_id: JobId) -> bool:
        """Whether the job's log is open: more may come."""
        return job_id in self._writers

    async def size(self, job_id: JobId) -> int | None:
        """Bytes of a job's log now; None when there is none."""
        path = self._path(job_id)
        return await self.run(lambda: path.stat().st_size if path.exists() else None)

    async def delete_older(self, now_ns: int, retention_ns: int, keep: Container[str] = ()) -> int:
        """Delete logs not written for `retention_ns`, except open ones and those of jobs in `keep`; how many."""
        writing = set(self._writers)

        def work() -> int:
            deleted = 0
            for path in self._folder.glob("*.log"):
                job_id = path.name.removesuffix(".log")
                if job_id in writing or job_id in keep:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if now_ns - path.stat().st_mtime_ns >= retention_ns:
                        path.unlink()
                        deleted += 1
            return deleted

        return await self.run(work)

    async def close(self) -> None:
        """Close every open log. Idempotent."""
        await asyncio.gather(*(writer.close() for writer in list(self._writers.values())))
        # What may be left is reading, or taking away what is old; a disk that hangs must not stop the event loop.
        self._threads.shutdown(wait=False)

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """Do file work on a thread of the store's."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def forget(self, writer: LogWriter) -> None:
        """A writer closed; its followers end at the end of the file."""
        self._writers.pop(writer.job_id, None)

    def _path(self, job_id: str) -> Path:
        if not _FILE_NAME.fullmatch(job_id):
            raise ValueError("not a job id")
        return self._folder / f"{job_id}.log"


def note(text: str) -> bytes:
    """A line of ours in a job's log."""
    return f"\n[orchestrator: {text}]\n".encode()


def _chunk(path: Path, at: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(CHUNK)
    except FileNotFoundError:
        return b""
