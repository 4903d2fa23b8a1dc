"""Our HTTP connections: bounded in number, headers and idle time, and broken requests answered as problems."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from orchestrator.server.entrance import problems
from orchestrator.server.entrance.edge import SECURITY_HEADERS
from orchestrator.server.entrance.seats import Seats

log = logging.getLogger("orchestrator.server")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`idle_seconds` also bounds how long a request's headers may take to come; sizes are in bytes."""

    max_connections: int
    idle_seconds: float
    max_line_bytes: int = 8190
    max_header_bytes: int = 16 * 1024
    max_headers: int = 64

    def options(self) -> dict[str, Any]:
        """For the constructor of `Connection`."""
        return {
            "loop": asyncio.get_running_loop(),
            "keepalive_timeout": self.idle_seconds,
            "access_log": None,
            "logger": log,
            "max_line_size": self.max_line_bytes,
            "max_field_size": self.max_header_bytes,
            "max_headers": self.max_headers,
            "lingering_time": 1.0,
            "auto_decompress": False,
        }


class Connection(web.RequestHandler):
    """aiohttp's connection, except that what it cannot parse is neither quoted to the peer nor logged."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that never reached a handler; `message` quotes it, so it is dropped."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already; the connection can only be cut")
        log.info("request could not be served: %s", type(exc).__name__)
        reason = "request_malformed" if status < 500 else "internal_error"
        response = problems.problem(reason, f"{problems.REASONS[reason].title}.", headers=SECURITY_HEADERS)
        response.force_close()
        return response


class Refused(asyncio.Protocol):
    """A connection over the limit: closed before a byte is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()


class RefusalLog:
    """Says that connections are refused, and how many, once in a while: a flood of them must not fill the log."""

    SECONDS = 10.0
    WORDS = "connections refused"

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._refused = 0
        self._next = float("-inf")

    def refused(self, limit: int) -> None:
        self._refused += 1
        now = self._monotonic()
        if now >= self._next:
            log.warning("%d %s: %d are open", self._refused, self.WORDS, limit)
            self._refused, self._next = 0, now + self.SECONDS


class EvictionLog(RefusalLog):
    """The same of connections that had to go for others."""

    WORDS = "connections closed to make room"


class SeatedConnection(Connection):
    """A connection of a listener that is for everybody: see `Seats`."""

    __slots__ = ("_evictions", "_limit", "_seats")

    def __init__(
        self, server: web.Server, limits: ConnectionLimits, seats: Seats[SeatedConnection], evictions: EvictionLog
    ) -> None:
        super().__init__(server, **limits.options())
        self._seats = seats
        self._evictions = evictions
        self._limit = limits.max_connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        goes = self._seats.enter(self)
        if goes is not None:
            self._evictions.refused(self._limit)
            if goes.transport is not None:
                goes.transport.abort()

    def belongs(self, name: str) -> None:
        """Somebody has shown on it who they are."""
        self._seats.name(self, name)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._seats.leave(self)
        super().connection_lost(exc)


def seated_factory(server: web.Server, limits: ConnectionLimits) -> Callable[[], asyncio.Protocol]:
    """As `connection_factory`, for a listener where anybody may connect and some can show who they are."""
    seats: Seats[SeatedConnection] = Seats(limits.max_connections)
    evictions = EvictionLog()
    return lambda: SeatedConnection(server, limits, seats, evictions)


def connection_factory(server: web.Server, limits: ConnectionLimits) -> Callable[[], asyncio.Protocol]:
    """A protocol factory for `loop.create_server`: connections of `server` within `limits`."""
    refusals = RefusalLog()

    def connect() -> asyncio.Protocol:
        if len(server.connections) >= limits.max_connections:
            refusals.refused(limits.max_connections)
            return Refused()
        return Connection(server, **limits.options())

    return connect
