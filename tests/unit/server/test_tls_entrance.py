"""TLS for many untrusted peers, over real sockets, on both event loops that the daemon may run on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from aiohttp import web

from orchestrator.identity.serving_certificate import ServingCertificate
from orchestrator.server.entrance.connection import ConnectionLimits
from orchestrator.server.entrance.peers import PeerLimits, Peers
from orchestrator.server.entrance.tls_entrance import TlsEntrance

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
ALL = ConnectionLimits(64, 5.0)
FREE = PeerLimits(connections=32, connect_burst=1000)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request, tmp_path):
    """Runs a test on one of the loops, beside a listener with the limits it asks for."""
    certificate = ServingCertificate.open(tmp_path / "keys", "127.0.0.1", time.time)
    trust = ssl.create_default_context(cadata=certificate.ca_pem)

    async def serve(
        test: Callable[[Listener], Awaitable[None]], peers: PeerLimits, limits: ConnectionLimits, seconds: float
    ) -> None:
        async def answer(asked: web.BaseRequest) -> web.Response:
            return web.Response(body=await asked.read())

        http = web.Server(answer)
        counts = Peers(peers, time.monotonic)
        entrance = TlsEntrance(http, certificate.context, limits, counts, seconds)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        entrance.open(listener)
        try:
            await test(Listener(listener.getsockname()[1], trust, counts))
        finally:
            await entrance.stop()
            http.pre_shutdown()
            await http.shutdown(1.0)
        assert not counts._connections, "all that came were taken off again"

    def runner(
        test: Callable[[Listener], Awaitable[None]],
        *,
        peers: PeerLimits = FREE,
        limits: ConnectionLimits = ALL,
        seconds: float = 10.0,
    ) -> None:
        with asyncio.Runner(loop_factory=request.param) as loop:
            loop.run(asyncio.wait_for(serve(test, peers, limits, seconds), 30))

    return runner


class Listener:
    def __init__(self, port: int, trust: ssl.SSLContext, counts: Peers) -> None:
        self.port, self.trust, self.counts = port, trust, counts

    async def post(self) -> bytes:
        """Speaks in the very moment in which the handshake ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust)
        writer.write(REQUEST)
        answer = await reader.read()
        writer.close()
        return answer

    async def plain(self, *said: bytes, end: bool = False) -> bytes:
        """What comes back on a connection without TLS, until it is cut."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in said:
                writer.write(part)
            if end:
                writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def test_requests_arrive_whole_however_early_they_are_sent(run):
    async def test(listener: Listener) -> None:
        answers = await asyncio.gather(*(listener.post() for _ in range(30)))
        assert all(answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"abc") for answer in answers)

        def at_once() -> bytes:  # the request right behind the handshake's last message, as fast as it goes
            with socket.create_connection(("127.0.0.1", listener.port)) as plain:
                inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = listener.trust.wrap_bio(inside, outside, server_hostname="127.0.0.1")
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        plain.sendall(outside.read())
                        inside.write(plain.recv(65536))
                tls.write(REQUEST)
                plain.sendall(outside.read())
                got = b""
                while not got.endswith(b"abc") and (data := plain.recv(65536)):
                    inside.write(data)
                    with contextlib.suppress(ssl.SSLWantReadError):
                        got += tls.read(65536)
                return got

        for _ in range(20):
            assert (await asyncio.to_thread(at_once)).startswith(b"HTTP/1.1 200")

    run(test)


def test_what_is_no_handshake_or_never_ends_is_cut_and_no_longer_counted(run):
    async def test(listener: Listener) -> None:
        for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00"):
            await asyncio.gather(*(listener.plain(said, end=True) for _ in range(10)))
        began = time.monotonic()
        await asyncio.gather(*(listener.plain() for _ in range(10)))
        assert 0.9 <= time.monotonic() - began < 5
        while listener.counts._connections:
            await asyncio.sleep(0.01)
        assert (await listener.post()).startswith(b"HTTP/1.1 200")

    run(test, seconds=1.0)


def test_an_address_that_has_too_many_or_is_too_fast_is_cut_unread(run):
    async def test(listener: Listener) -> None:
        held = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(3)]
        async with asyncio.timeout(5):
            assert await listener.plain(b"x") == b""
        for _, writer in held:
            writer.close()
        while listener.counts._connections:
            await asyncio.sleep(0.01)
        await listener.post()
        with pytest.raises((ConnectionError, ssl.SSLError)):  # the fifth: four were free
            await listener.post()

    run(test, peers=PeerLimits(connections=3, connect_burst=4, connects_per_second=0))


def test_all_together_are_bounded(run):
    async def test(listener: Listener) -> None:
        held = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(4)]
        await asyncio.sleep(0.1)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await listener.post()
        held[0][1].close()
        while listener.counts._connections["127.0.0.1"] == 4:
            await asyncio.sleep(0.01)
        assert (await listener.post()).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()

    run(test, limits=ConnectionLimits(4, 5.0))


def test_the_end_of_the_listener_ends_handshakes(run):
    async def test(listener: Listener) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await asyncio.sleep(0.1)
        writer.close()
        assert listener.counts._connections["127.0.0.1"] == 1

    run(test, seconds=60.0)
