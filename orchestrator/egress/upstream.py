"""The destination's side of a connection, and the stages both sides share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import Enum
from typing import Protocol, cast

from orchestrator.egress.runner import Report, RunnerEgress

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: socket(7)


class Stage(Enum):
    """Until RELAY not one byte passes in either direction."""

    HEAD = "head"
    """The request is being read."""
    CONNECTING = "connecting"
    HELLO = "hello"
    """The tunnel is open to the job; its ClientHello is being read."""
    RELAY = "relay"
    DRAIN = "drain"
    """Answered; waiting for the client to read that and go."""
    CLOSED = "closed"


class Client(Protocol):
    """What the destination's side needs of the job's side."""

    stage: Stage
    runner: RunnerEgress
    transport: asyncio.Transport
    report: Report

    def upstream_spoke_first(self) -> None: ...

    def upstream_eof(self) -> bool: ...

    def upstream_lost(self, exc: Exception | None) -> None: ...


def reset(transport: asyncio.Transport) -> None:
    """Drop the connection so that the peer sees a reset: an ordinary end could pass for the end of the data."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


class UpstreamConnection(asyncio.Protocol):
    """Passes bytes down, and tells the job's side of everything else."""

    transport: asyncio.Transport

    def __init__(self, client: Client) -> None:
        self.client = client
        self.eof = False
        self.lost = False
        self.spoke_first = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's only looks like one

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client.stage is not Stage.RELAY:
            self.spoke_first = True
            client.upstream_spoke_first()
            return
        count = len(data)
        if client.runner.spend_down(count):
            client.report.bytes_down += count
            client.transport.write(data)

    def eof_received(self) -> bool:
        self.eof = True
        return self.client.upstream_eof()

    def pause_writing(self) -> None:
        if not self.client.transport.is_closing():
            self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.client.transport.is_closing():
            self.client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.client.upstream_lost(exc)

    # --- for the job's side, whatever state this one is in ---

    def pause(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def unsent(self) -> int:
        return 0 if self.lost else self.transport.get_write_buffer_size()

    def close(self) -> None:
        """Flushes what is unsent."""
        if not self.lost:
            self.transport.close()

    def abort(self) -> None:
        if not self.lost:
            reset(self.transport)
