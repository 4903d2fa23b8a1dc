"""The gateway on the standard event loop, in this process: what needs a DNS of our own, or no uvloop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager

import pytest

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.gateway import Gateway
from orchestrator.errors import GiveUpError
from orchestrator.model.egress import EgressProtocol, EgressRule


def client_hello(host: str) -> bytes:
    context = ssl.create_default_context()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


class Dns:
    def __init__(self, answers: dict[str, list[list[str]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return answers.pop(0)


@asynccontextmanager
async def serving(rules, *, dns=None, names=None, max_connections=4096, **limits):
    """Port of a runner's gateway, and the verdicts."""
    verdicts = []
    config = GatewayConfig(names=names or {"site.test": "127.0.0.1"}, **limits)
    gateway = Gateway(config, lambda _, verdict: verdicts.append(verdict), dns or Dns({}), max_connections)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    await gateway.open("runner-a", listener, rules)
    try:
        yield port, verdicts, gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def destination():
    async def echo(reader, writer):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(-1), 10)
    finally:
        writer.close()


async def tunnel(port: int, target: str):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    return reader, writer, head


@pytest.mark.parametrize(
    "answer",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"],
)
async def test_a_listed_name_does_not_lead_inside(answer):
    dns = Dns({"a.test": [[answer], ["8.8.8.8"]]})
    async with serving([EgressRule("a.test"), EgressRule("a.test", 80, EgressProtocol.HTTP)], dns=dns) as made:
        port, verdicts, _ = made
        assert b"403 Forbidden (address_not_public)" in await ask(port, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n")
        # Rebound meanwhile; the first answer holds.
        assert b"(address_not_public)" in await ask(port, b"GET http://A.test./ HTTP/1.1\r\n\r\n")
    assert dns.asked == ["a.test"]
    assert [(v.allowed, v.reason) for v in verdicts] == [(False, "address_not_public")] * 2


async def test_names_that_are_not_listed_are_never_looked_up():
    dns = Dns({})
    async with serving([EgressRule("a.test")], dns=dns) as (port, _, _gateway):
        for host in ("secret-data.evil.test", "b.a.test", "egress-canary.invalid"):
            assert b" 403 " in await ask(port, f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
    assert dns.asked == []


async def test_unknown_names():
    async with serving([EgressRule("a.test")]) as (port, verdicts, _):
        assert b"502 Bad Gateway (name_unresolved)" in await ask(port, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n")
    assert [(v.allowed, v.reason) for v in verdicts] == [(True, "name_unresolved")]


async def test_a_lookup_that_hangs():
    async def hang(host):
        await asyncio.Event().wait()

    async with serving([EgressRule("a.test")], dns=hang, connect_timeout_seconds=0.05) as (port, verdicts, _):
        assert b"504 Gateway Timeout (connect_timeout)" in await ask(port, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n")
    assert [v.reason for v in verdicts] == ["connect_timeout"]


async def test_closing_ends_a_connection_that_is_being_made():
    asked = asyncio.Event()

    async def hang(host):
        asked.set()
        await asyncio.Event().wait()

    async with serving([EgressRule("a.test")], dns=hang) as (port, verdicts, gateway):
        asking = asyncio.create_task(ask(port, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n"))
        await asked.wait()
        await gateway.close("runner-a")
        assert [v.reason for v in verdicts] == ["runner_closed"]
        with pytest.raises(ConnectionError):
            await asking


async def test_the_tunnel_without_uvloop():
    flight = client_hello("site.test")
    payload = flight + bytes(2 << 20)
    async with destination() as there, serving([EgressRule("site.test", there)]) as (port, verdicts, gateway):
        reader, writer, head = await tunnel(port, f"site.test:{there}")
        assert b" 200 " in head
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await gateway.close("runner-a")
    (verdict,) = verdicts
    assert (verdict.allowed, verdict.reason) == (True, "")
    assert verdict.bytes_up == verdict.bytes_down == len(payload)


async def test_a_client_that_is_reset_is_told_as_such():
    async with destination() as there, serving([EgressRule("site.test", there)]) as (port, verdicts, gateway):
        reader, writer, _ = await tunnel(port, f"site.test:{there}")
        flight = client_hello("site.test")
        writer.write(flight)
        await reader.readexactly(len(flight))
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        async with asyncio.timeout(10):
            while not verdicts:
                await asyncio.sleep(0)
        await gateway.close("runner-a")
    assert [(v.allowed, v.reason) for v in verdicts] == [(True, "reset")]


async def test_the_whole_gateway_has_room_for_so_many():
    async with destination() as there, serving([EgressRule("site.test", there)], max_connections=1) as (port, _, _g):
        _, writer, _ = await tunnel(port, f"site.test:{there}")
        assert b"503 Service Unavailable (gateway_full)" in await ask(port, b"")
        writer.close()


async def test_far_too_many_connections_are_cut_off_and_counted():
    async with serving([], max_connections=4096) as (port, verdicts, gateway):
        runner = gateway._open["runner-a"].runner
        runner.config = GatewayConfig(max_connections=0)
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(80)]
        async with asyncio.timeout(10):
            while not verdicts:
                await asyncio.sleep(0)
        await asyncio.gather(*(reader.read(-1) for reader, _ in opened), return_exceptions=True)
        for _, writer in opened:
            writer.close()
        await gateway.close("runner-a")
    assert {v.reason for v in verdicts} == {"too_many_connections"}
    assert sum(v.connections for v in verdicts) == 80


async def test_a_refused_client_that_keeps_talking_is_cut_off():
    async with serving([]) as (port, verdicts, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST http://a.test/ HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 403 " in await reader.readuntil(b"\r\n\r\n")

        async def keep_talking():
            for _ in range(10_000):
                writer.write(bytes(65536))
                await asyncio.wait_for(writer.drain(), 10)

        with pytest.raises(ConnectionError):
            await keep_talking()
        writer.close()
    assert len(verdicts) == 1


async def test_a_runner_is_opened_once_and_its_listener_closed_on_refusal():
    async with serving([]) as (_, _verdicts, gateway):
        second = socket.create_server(("127.0.0.1", 0))
        with pytest.raises(GiveUpError):
            await gateway.open("runner-a", second, [])
        assert second.fileno() == -1
