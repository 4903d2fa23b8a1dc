"""Real gateway processes in both forms: fed with listeners as in a sandbox, or with a table as in a cluster."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.egress.batch import Misuse
from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.hub import TableHub
from orchestrator.egress.process import GatewayProcess
from orchestrator.egress.proxy_credential import credential_digest
from orchestrator.model.egress import EgressProtocol, EgressRule
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName
from orchestrator.server.cluster.gateway_api import GatewayApi

RUNNER = RunnerName("runner-a")
HOST = "site.test"
NAMES = {HOST: "127.0.0.1", "other.test": "127.0.0.1", "v6.test": "::1"}
FORM = "listener"
"""Which form `egress` makes: `listener` or `cluster`; set by a fixture of the modules that test both."""


def listener() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    return sock


class Way(int):
    """A port of a gateway, with what one runner needs to go through it."""

    source = "127.0.0.1"
    credential = ""

    @property
    def proxy(self) -> str:
        user = f"runner:{self.credential}@" if self.credential else ""
        return f"http://{user}127.0.0.1:{int(self)}"

    def request(self, data: bytes) -> bytes:
        """A request with the runner's credential, where it has one."""
        line, separator, rest = data.partition(b"\r\n")
        return line + separator + basic(self.credential) + rest if self.credential and separator else data


def basic(credential: str, user: str = "runner") -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{credential}".encode()) + b"\r\n"


def way(port: int, source: str = "127.0.0.1", credential: str = "") -> Way:
    made = Way(port)
    made.source, made.credential = source, credential
    return made


class Told:
    """The verdicts of a gateway, in either form."""

    def __init__(self) -> None:
        self.verdicts: list[tuple[RunnerName, EgressDecided]] = []
        self.news = asyncio.Event()

    def on_verdict(self, runner: RunnerName, verdict: EgressDecided) -> None:
        self.verdicts.append((runner, verdict))
        self.news.set()

    def of(self, runner: RunnerName = RUNNER) -> list[EgressDecided]:
        return [verdict for name, verdict in self.verdicts if name == runner]

    async def told(self, count: int, runner: RunnerName = RUNNER) -> list[EgressDecided]:
        """The runner's verdicts once there are `count`."""
        async with asyncio.timeout(10):
            while len(self.of(runner)) < count:
                self.news.clear()
                await self.news.wait()
        return self.of(runner)


class Egress(Told):
    """A gateway process that is handed listeners, and what it has told."""

    process: GatewayProcess

    def __init__(self) -> None:
        super().__init__()
        self.deaths: list[frozenset[RunnerName]] = []

    async def open(self, rules: Sequence[EgressRule], runner: RunnerName = RUNNER) -> Way:
        """Where the runner's gateway listens."""
        sock = listener()
        port: int = sock.getsockname()[1]
        await self.process.open(runner, sock, rules)
        return way(port)

    async def close(self, runner: RunnerName = RUNNER) -> None:
        await self.process.close(runner)


class ClusterEgress(Told):
    """Gateway processes that poll a daemon's table; the daemon's side of it, over TLS as it is."""

    hub: TableHub

    def __init__(self, folder: Path, certificate: Certificate, max_age: float) -> None:
        super().__init__()
        self.folder = folder
        self.certificate = certificate
        self.max_age = max_age
        self.misuses: list[Misuse] = []
        self.tokens = {"gateway-token": "pod-a"}
        self.requests: list[str] = []
        self.failing = 0
        """Requests that are still answered with 503."""
        self.url = ""
        self.wrap: list[str] = []
        """Command line that the next gateways run in."""
        self.gateways: list[GatewayProgram] = []
        self._runner: web.ServerRunner | None = None

    async def start_daemon(self, port: int = 0, *, begin: bool = True) -> None:
        self.hub = TableHub(self.on_verdict, self._misused, max_age=self.max_age)
        api = GatewayApi(self.hub, self._authenticate)

        async def handle(request: web.BaseRequest) -> web.Response:
            self.requests.append(f"{request.method} {request.path}")
            if self.failing:
                self.failing -= 1
                return web.Response(status=503)
            return await api.handle(request)

        self._runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self.certificate.server)
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"
        if begin:
            self.hub.begin()

    async def stop_daemon(self) -> int:
        """Its port."""
        assert self._runner is not None
        port: int = self._runner.addresses[0][1]
        self.hub.stop()
        await self._runner.cleanup()
        return port

    def _misused(self, misuse: Misuse) -> None:
        self.misuses.append(misuse)
        self.news.set()

    async def _authenticate(self, token: str) -> str | None:
        return self.tokens.get(token)

    async def start_gateway(self, **settings: object) -> GatewayProgram:
        made = GatewayProgram(self.folder, len(self.gateways), self.url, self.certificate.path)
        self.gateways.append(made)
        await made.start(settings, self.wrap)
        return made

    async def open(
        self, rules: Sequence[EgressRule], runner: RunnerName = RUNNER, address: str = "", credential: str = ""
    ) -> Way:
        """`runner-a` is at 127.0.0.1, `runner-b` at 127.0.0.2 and so on, unless said otherwise."""
        address = address or f"127.0.0.{ord(runner[-1]) - ord('a') + 1}"
        credential = credential or f"credential-of-{runner}"
        self.hub.publish(runner, address, credential_digest(credential), rules)
        assert await self.hub.delivered(runner, 10)
        return way(self.gateways[0].port, address, credential)

    async def close(self, runner: RunnerName = RUNNER) -> None:
        await self.hub.withdraw(runner)


class GatewayProgram:
    """`orchestrator gateway` as a process."""

    def __init__(self, folder: Path, number: int, daemon: str, ca: Path) -> None:
        self.folder = folder / f"gateway-{number}"
        self.folder.mkdir()
        self.token_file = self.folder / "token"
        self.token_file.write_text("gateway-token\n")
        self.log: list[dict[str, object]] = []
        self.port = self.probe_port = 0
        self._daemon = daemon
        self._ca = ca
        self._reading: asyncio.Task[None] | None = None

    async def start(self, settings: dict[str, object], wrap: Sequence[str]) -> None:
        config = self.folder / "gateway.yaml"
        given = {
            "daemon_url": self._daemon, "ca_file": str(self._ca), "token_file": str(self.token_file),
            "host": "0.0.0.0", "port": 0, "probe_host": "127.0.0.1", "probe_port": 0, "names": NAMES,
            "linger_seconds": 0, "drain_seconds": 0,
        }  # fmt: skip
        config.write_text(yaml.safe_dump(given | settings))
        self.process = await asyncio.create_subprocess_exec(
            *wrap, sys.executable, "-m", "orchestrator", "gateway", "--config", str(config),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            cwd="/", env={"PATH": os.environ["PATH"]}, limit=1 << 20,
        )  # fmt: skip
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            while not self.port:
                line = await self.process.stderr.readline()
                assert line, "the gateway ended"
                self._read(line)
        self._reading = asyncio.get_running_loop().create_task(self._read_on(self.process.stderr))

    def _read(self, line: bytes) -> None:
        entry = json.loads(line) if line.startswith(b"{") else {"event": line.decode()}
        self.log.append(entry)
        if entry["event"] == "the gateway listens":
            self.port, self.probe_port = entry["proxy_port"], entry["probe_port"]

    async def _read_on(self, stderr: asyncio.StreamReader) -> None:
        while line := await stderr.readline():
            self._read(line)

    async def probe(self, path: str) -> tuple[int, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.probe_port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(-1), 10)).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.decode()

    async def until_ready(self, ready: bool = True) -> None:
        async with asyncio.timeout(20):
            while ((await self.probe("/readyz"))[0] == 200) is not ready:
                await asyncio.sleep(0.05)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None and number:
            self.process.send_signal(number)
        """`number` 0 only waits."""
        code = await asyncio.wait_for(self.process.wait(), 30)
        if self._reading is not None:
            await self._reading
        return code


@asynccontextmanager
async def egress(**limits: object) -> AsyncIterator[Egress | ClusterEgress]:
    """A gateway of the form that `FORM` says."""
    if FORM == "cluster":
        async with cluster(**limits) as made:
            yield made
        return
    config = GatewayConfig(**{"names": NAMES, **limits})  # type: ignore[arg-type]
    handed = Egress()
    handed.process = GatewayProcess(config, handed.on_verdict, lambda lost: handed.deaths.append(lost))
    await handed.process.start()
    try:
        yield handed
    finally:
        await handed.process.stop()


@asynccontextmanager
async def cluster(gateways: int = 1, max_age: float = 15.0, **settings: object) -> AsyncIterator[ClusterEgress]:
    """A daemon with so many gateways."""
    with tempfile.TemporaryDirectory(prefix="gateway-") as folder:
        made = ClusterEgress(Path(folder), daemon_certificate(Path(folder)), max_age)
        await made.start_daemon()
        try:
            await asyncio.gather(*(made.start_gateway(**settings) for _ in range(gateways)))
            for each in made.gateways:
                await each.until_ready()
            yield made
        finally:
            await asyncio.gather(*(each.stop() for each in made.gateways))
            await made.stop_daemon()


@pytest.fixture
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """A module that tests both forms parametrises this."""
    global FORM
    FORM = getattr(request, "param", "listener")
    yield FORM
    FORM = "listener"


@pytest.fixture
async def gateway(form: str) -> AsyncIterator[Egress | ClusterEgress]:
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


async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the gateway, from the runner's address."""
    source = (port.source, 0) if isinstance(port, Way) else None
    return await asyncio.open_connection("127.0.0.1", port, local_addr=source)


def request(port: int, data: bytes) -> bytes:
    return port.request(data) if isinstance(port, Way) else data


async def connect(
    port: int, target: str, extra: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Ask for a tunnel; the answer's head comes along."""
    reader, writer = await dial(port)
    writer.write(request(port, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("latin-1")) + extra)
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


async def ask(port: int, data: bytes) -> bytes:
    """Everything the gateway says to a request, until it hangs up."""
    reader, writer = await dial(port)
    writer.write(request(port, data))
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


def make_certificate(folder: Path, name: x509.GeneralName) -> Certificate:
    """A self-signed certificate, and who serves and who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_path, key_path)
    client = ssl.create_default_context(cafile=str(cert_path))
    return Certificate(cert_path, server, client)


def daemon_certificate(folder: Path) -> Certificate:
    return make_certificate(folder, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For `site.test`."""
    return make_certificate(tmp_path_factory.mktemp("tls"), x509.DNSName(HOST))


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The tools above; test files cannot import a conftest."""
    return SimpleNamespace(
        RUNNER=RUNNER,
        HOST=HOST,
        egress=egress,
        cluster=cluster,
        way=way,
        basic=basic,
        dial=dial,
        daemon_certificate=daemon_certificate,
        listener=listener,
        tls=tls,
        http=http,
        serving=serving,
        echo=echo,
        connect=connect,
        ask=ask,
        client_hello=client_hello,
    )
