"""Both forms of the egress gateway against a plain asyncio Protocol relay: throughput and CPU per new connection.

All run in a process of their own on the same event loop implementation, take turns within one run, and move the
same bytes between the same two ends: a client and a destination in this process, on threads with blocking sockets.
The relay knows one destination and checks nothing: it is the least that any proxy of this kind must do. The cluster
form polls a daemon's table over TLS meanwhile, which holds a thousand other runners, and checks address and credential.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import ipaddress
import json
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import psutil
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.hub import TableHub
from orchestrator.egress.process import GatewayProcess
from orchestrator.egress.proxy_credential import credential_digest
from orchestrator.model.egress import EgressRule
from orchestrator.model.runner import RunnerName
from orchestrator.server.cluster.gateway_api import GatewayApi

OUTPUT = Path("build/bench/gateway.json")
HOST = "site.test"
BULK_BYTES = 256 << 20
BULK_ROUNDS = 7
CONNECTIONS = 800
CONNECTION_ROUNDS = 5
CHUNK = b"x" * (256 << 10)
CREDENTIAL = "c" * 43
OTHER_RUNNERS = 1000

RELAY = """
import asyncio, socket, sys
from orchestrator.egress.__main__ import loop_factory

PORT = int(sys.argv[1])

class Up(asyncio.Protocol):
    def __init__(self, down):
        self.down = down
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.down.transport.write(data)
    def pause_writing(self):
        self.down.transport.pause_reading()
    def resume_writing(self):
        self.down.transport.resume_reading()
    def connection_lost(self, exc):
        self.down.transport.close()

class Down(asyncio.Protocol):
    up = None
    eof = False
    def connection_made(self, transport):
        self.transport = transport
        self.early = []
        self.task = asyncio.get_running_loop().create_task(self.connect())
    async def connect(self):
        _, up = await asyncio.get_running_loop().create_connection(lambda: Up(self), "127.0.0.1", PORT)
        for data in self.early:
            up.transport.write(data)
        self.up = up
        if self.eof:
            up.transport.write_eof()
    def eof_received(self):
        self.eof = True
        if self.up is not None:
            self.up.transport.write_eof()
        return True
    def data_received(self, data):
        if self.up is None:
            self.early.append(data)
        else:
            self.up.transport.write(data)
    def pause_writing(self):
        self.up.transport.pause_reading()
    def resume_writing(self):
        self.up.transport.resume_reading()
    def connection_lost(self, exc):
        if self.up is not None:
            self.up.transport.close()

async def main():
    server = await asyncio.get_running_loop().create_server(Down, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

with asyncio.Runner(loop_factory=loop_factory()) as runner:
    runner.run(main())
"""


def client_hello() -> bytes:
    context = ssl.create_default_context()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), server_hostname=HOST)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs an answer")


HELLO = client_hello()


def serve(listener: socket.socket) -> None:
    """Swallow what comes until the client is done; say how much that was, in eight bytes."""

    def one(connection: socket.socket) -> None:
        with connection:
            total, buffer = 0, bytearray(1 << 20)
            while count := connection.recv_into(buffer):
                total += count
            connection.sendall(total.to_bytes(8, "big"))

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=one, args=(connection,), daemon=True).start()


Open = Callable[[], socket.socket]


def through_gateway(port: int, destination: int, credential: str = "") -> Open:
    encoded = base64.b64encode(f"runner:{credential}".encode()).decode()
    shown = f"Proxy-Authorization: Basic {encoded}\r\n" if credential else ""
    request = f"CONNECT {HOST}:{destination} HTTP/1.1\r\nHost: {HOST}:{destination}\r\n{shown}\r\n".encode()

    def connect() -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(request)
        answer = sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return sock

    return connect


def bulk(connect: Open) -> float:
    """Bytes per second, client to destination."""
    with connect() as sock:
        started = time.perf_counter()
        sock.sendall(HELLO)
        for _ in range(BULK_BYTES // len(CHUNK)):
            sock.sendall(CHUNK)
        sock.shutdown(socket.SHUT_WR)
        assert int.from_bytes(sock.recv(8, socket.MSG_WAITALL), "big") == BULK_BYTES + len(HELLO)
        return BULK_BYTES / (time.perf_counter() - started)


def connections(connect: Open) -> None:
    """One after the other: open, first flight up, answer down, close."""
    for _ in range(CONNECTIONS):
        with connect() as sock:
            sock.sendall(HELLO)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(8, socket.MSG_WAITALL)


def cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


Contender = tuple[str, int, Open]
"""Name, process and the way through it."""


def rounds(contenders: Sequence[Contender]) -> dict[str, dict[str, float]]:
    """Medians of interleaved rounds, by figure and contender."""
    found: dict[str, dict[str, list[float]]] = {
        figure: {name: [] for name, *_ in contenders} for figure in ("speed", "bulk_cpu", "each")
    }
    for _ in range(BULK_ROUNDS):
        for name, pid, connect in contenders:
            before = cpu(pid)
            found["speed"][name].append(bulk(connect))
            found["bulk_cpu"][name].append(cpu(pid) - before)
    for _ in range(CONNECTION_ROUNDS):
        for name, pid, connect in contenders:
            before = cpu(pid)
            connections(connect)
            found["each"][name].append((cpu(pid) - before) / CONNECTIONS)
    return {
        figure: {name: statistics.median(values) for name, values in by_name.items()}
        for figure, by_name in found.items()
    }


def certificate(folder: Path) -> ssl.SSLContext:
    """For the daemon's side; its PEM is also the CA file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "daemon")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1)).add_extension(address, critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


@contextlib.asynccontextmanager
async def cluster_gateway(destination: int) -> AsyncIterator[Contender]:
    """`orchestrator gateway` with a daemon's side in this process."""

    async def authenticate(token: str) -> str | None:
        return "pod" if token == "token" else None

    hub = TableHub(lambda *_: None, lambda _: None)
    for number in range(OTHER_RUNNERS):
        address = str(ipaddress.IPv4Address(0x0A000000 + number))
        hub.publish(RunnerName(f"other-{number}"), address, credential_digest(str(number)), [EgressRule("a.test")])
    hub.publish(RunnerName("bench"), "127.0.0.1", credential_digest(CREDENTIAL), [EgressRule(HOST, destination)])
    hub.begin()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = web.ServerRunner(web.Server(GatewayApi(hub, authenticate).handle, access_log=None))
        await server.setup()
        await web.TCPSite(server, "127.0.0.1", 0, ssl_context=certificate(folder)).start()
        (folder / "token").write_text("token")
        settings = {
            "daemon_url": f"https://127.0.0.1:{server.addresses[0][1]}", "ca_file": str(folder / "ca.pem"),
            "token_file": str(folder / "token"), "host": "127.0.0.1", "port": 0, "probe_port": 0,
            "names": {HOST: "127.0.0.1"}, "linger_seconds": 0, "drain_seconds": 0, "max_bytes_up": 1 << 40,
        }  # fmt: skip
        (folder / "gateway.yaml").write_text(json.dumps(settings))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "orchestrator", "gateway", "--config", str(folder / "gateway.yaml"),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            port = json.loads(await process.stderr.readline())["proxy_port"]
            assert await hub.delivered(RunnerName("bench"), 20)
            yield "cluster", process.pid, through_gateway(port, destination, CREDENTIAL)
        finally:
            process.terminate()
            await process.wait()
            hub.stop()
            await server.cleanup()


async def measure() -> dict[str, dict[str, float]]:
    destination = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = destination.getsockname()[1]
    threading.Thread(target=serve, args=(destination,), daemon=True).start()
    gateway = GatewayProcess(GatewayConfig(names={HOST: "127.0.0.1"}, max_bytes_up=1 << 40), lambda *_: None)
    await gateway.start()
    listener = socket.create_server(("127.0.0.1", 0))
    gateway_port = listener.getsockname()[1]
    await gateway.open(RunnerName("bench"), listener, [EgressRule(HOST, port)])
    assert gateway.pid is not None
    with subprocess.Popen([sys.executable, "-c", RELAY, str(port)], stdout=subprocess.PIPE, text=True) as relay:
        try:
            assert relay.stdout is not None
            relay_port = int(relay.stdout.readline())
            ours = ("ours", gateway.pid, through_gateway(gateway_port, port))
            floor = ("floor", relay.pid, lambda: socket.create_connection(("127.0.0.1", relay_port)))
            async with cluster_gateway(port) as cluster:
                return await asyncio.to_thread(rounds, (ours, cluster, floor))
        finally:
            relay.terminate()
            await gateway.stop()
            destination.close()


def main() -> None:
    found = asyncio.run(measure())
    scale = {
        "throughput": ("speed", 1e-6, "MB/s"),
        "cpu_per_gib": ("bulk_cpu", (1 << 30) / BULK_BYTES, "s/GiB"),
        "cpu_per_new_connection": ("each", 1e3, "ms"),
    }
    figures = {}
    for form, prefix in (("ours", ""), ("cluster", "cluster_")):
        for figure, (name, factor, unit) in scale.items():
            ours, floor = found[name][form] * factor, found[name]["floor"] * factor
            figures[prefix + figure] = {
                "ours": round(ours, 3),
                "floor": round(floor, 3),
                "ratio": round(ours / floor, 3),
                "unit": unit,
            }
            print(f"{prefix + figure:32} ours {ours:9.3f} {unit}  relay {floor:9.3f} {unit}  ratio {ours / floor:.2f}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
