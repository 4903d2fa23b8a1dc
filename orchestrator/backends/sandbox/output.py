"""A job's output: read from its pipe as long as anybody can write to it, handed to the log."""

from __future__ import annotations

import asyncio
import os

from orchestrator.backends.sandbox.ports import LogWriter

CHUNK = 65536
HEAD = 2048


class OutputPump:
    """Reads one pipe to its end. `head` are its first bytes, for the message when a sandbox fails to start.

    It reads as fast as the log can take and never stops for good: a job must not hang because its log is
    full; the writer drops. One chunk for each turn of the event loop keeps a flood from starving others, and
    after each chunk's worth of bytes, in however small pieces they came, the log may slow the job down.
    """

    def __init__(self, descriptor: int, writer: LogWriter) -> None:
        self._descriptor = descriptor
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._undrained = 0
        self.head = b""
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self.pull)

    def pull(self) -> None:
        """Take what is there now."""
        if self._ended.is_set():
            return
        try:
            data = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._ended.set()
            return
        if len(self.head) < HEAD:
            self.head += data[: HEAD - len(self.head)]
        self._writer.write(data)
        self._undrained += len(data)
        if self._undrained >= CHUNK:
            self._undrained = 0
            self._loop.remove_reader(self._descriptor)
            self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        finally:
            if not self._ended.is_set():
                self._loop.add_reader(self._descriptor, self.pull)

    async def drained(self) -> None:
        """Until every process that could write is gone, and all it wrote is with the log."""
        await self._ended.wait()
