"""The real gateway process, serving listeners on loopback that are handed over as in a sandbox."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.process import GatewayProcess
from orchestrator.model.egress import EgressProtocol, EgressRule
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

RUNNER = RunnerName("runner-a")
HOST = "site.test"


def listener() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    return sock


@dataclass
class Egress:
    """A gateway process and what it has told."""

    process: GatewayProcess
    verdicts: list[tuple[RunnerName, EgressDecided]] = field(default_factory=list)
    deaths: list[frozenset[RunnerName]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, rules: Sequence[EgressRule], runner: RunnerName = RUNNER) -> int:
        """Port where the runner's gateway listens."""
        sock = listener()
        port: int = sock.getsockname()[1]
        await self.process.open(runner, sock, rules)
        return port

    def of(self, runner: RunnerName = RUNNER) -> list[EgressDecided]:
        return [verdict for name, verdict in self.verdicts if name == runner]

    async def told(self, count: int, runner: RunnerName = RUNNER) -> list[EgressDecided]:
        """The runner's verdicts once there are `count`."""
        async with asyncio.timeout(10):
            while len(self.of(runner)) < count:
                self.news.clear()
                await self.news.wait()
        return self.of(runner)


@asynccontextmanager
async def egress(**limits: object) -> AsyncIterator[Egress]:
    names = {HOST: "127.0.0.1", "other.test": "127.0.0.1", "v6.test": "::1"}
    config = GatewayConfig(**{"names": names, **limits})  # type: ignore[arg-type]

    def on_verdict(runner: RunnerName, verdict: EgressDecided) -> None:
        made.verdicts.append((runner, verdict))
        made.news.set()

    made = Egress(GatewayProcess(config, on_verdict, lambda lost: made.deaths.append(lost)))
    await made.process.start()
    try:
        yield made
    finally:
        await made.process.stop()


@pytest.fixture
async def gateway() -> AsyncIterator[Egress]:
    async with egress() as made:
        yield made


def tls(port: int, host: str = HOST) -> EgressRule:
    return EgressRule(host, port)


def http(port: int, host: str = HOST) -> EgressRule:
    return EgressRule(host, port, EgressProtocol.HTTP)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Serve, tls_context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A destination on loopback; its port."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls_context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def connect(
    port: int, target: str, extra: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Ask for a tunnel; the answer's head comes along."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("latin-1") + extra)
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


async def ask(port: int, request: bytes) -> bytes:
    """Everything the gateway says to a request, until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(-1), 20)
    finally:
        writer.close()


def client_hello(host: str | None, context: ssl.SSLContext | None = None) -> bytes:
    """The first flight of a real TLS client."""
    if context is None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


@dataclass(frozen=True)
class Certificate:
    path: Path
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A self-signed certificate for `site.test`, and who serves and who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_path, key_path)
    client = ssl.create_default_context(cafile=str(cert_path))
    return Certificate(cert_path, server, client)


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The tools above; test files cannot import a conftest."""
    return SimpleNamespace(
        RUNNER=RUNNER,
        HOST=HOST,
        egress=egress,
        listener=listener,
        tls=tls,
        http=http,
        serving=serving,
        echo=echo,
        connect=connect,
        ask=ask,
        client_hello=client_hello,
    )
