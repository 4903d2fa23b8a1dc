"""TLS for a listener that many untrusted peers share: a connection counts for its address before anything is spent
on it. A loop's own TLS server says who came only after the handshake, which is the dear part.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from typing import Any, Never

from aiohttp import web

from orchestrator.server.entrance.connection import Connection, ConnectionLimits, RefusalLog
from orchestrator.server.entrance.peers import Peers

log = logging.getLogger("orchestrator.server")

_AT_ONCE = 64
"""Connections taken in one turn of the loop."""
_PAUSE_SECONDS = 0.2
"""After the system had no room for a connection: descriptors, memory."""


class TlsEntrance:
    """Takes connections of a listening socket for an HTTP server. Belongs to one event loop."""

    def __init__(
        self,
        http: web.Server,
        context: ssl.SSLContext,
        limits: ConnectionLimits,
        peers: Peers,
        handshake_seconds: float,
    ) -> None:
        self._http = http
        self._context = context
        self._limits = limits
        self._peers = peers
        self._seconds = handshake_seconds
        self._refusals = RefusalLog()
        self._open = 0
        self._handshakes: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[Never] | None = None

    def open(self, listener: socket.socket) -> None:
        """Take connections until `stop`. The socket is bound, listens, does not block, and is ours from now on."""
        self._taking = asyncio.get_running_loop().create_task(self._take(listener), name="taking connections")

    async def stop(self) -> None:
        """Close the listener and give up handshakes that are not done; connections are the HTTP server's to end.
        Idempotent."""
        tasks = [*self._handshakes, *([self._taking] if self._taking else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, listener: socket.socket) -> Never:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    self._came(*await loop.sock_accept(listener))
                    with suppress(BlockingIOError):
                        for _ in range(_AT_ONCE):
                            self._came(*listener.accept())
                except ConnectionError:
                    continue  # it went before it was taken
                except OSError as error:
                    log.warning("connections cannot be taken: %s", error.strerror)
                    await asyncio.sleep(_PAUSE_SECONDS)

    def _came(self, peer: socket.socket, name: Any) -> None:
        """Count the connection and begin its handshake, or cut it off before a byte of it is read."""
        address = str(name[0])
        if self._open >= self._limits.max_connections:
            self._refusals.refused(self._limits.max_connections)
            peer.close()
        elif not self._peers.enter(address):
            peer.close()
        else:
            self._open += 1
            peer.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._secure(peer, address), name=f"TLS with {address}")
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def left(self, address: str) -> None:
        """A connection that was counted ended."""
        self._open -= 1
        self._peers.leave(address)

    async def _secure(self, peer: socket.socket, address: str) -> None:
        connection = _PeerConnection(self, address, self._http, self._limits)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, peer, ssl=self._context, ssl_handshake_timeout=self._seconds
            )
        except OSError:  # what TLS, time-outs and the network fail with: the peer's own business
            connection.leave()
        except BaseException:
            connection.leave()
            raise


class _PeerConnection(Connection):
    """A connection that counts for its address, from before its handshake to its end."""

    __slots__ = ("_address", "_counted", "_entrance")

    def __init__(self, entrance: TlsEntrance, address: str, http: web.Server, limits: ConnectionLimits) -> None:
        super().__init__(http, **limits.options())
        self._entrance = entrance
        self._address = address
        self._counted = True

    def leave(self) -> None:
        """Count no more; also for a handshake that failed, of which nobody tells us otherwise."""
        if self._counted:
            self._counted = False
            self._entrance.left(self._address)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.leave()
        super().connection_lost(exc)
