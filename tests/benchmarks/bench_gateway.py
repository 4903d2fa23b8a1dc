"""The egress gateway against a plain asyncio Protocol relay: throughput and CPU per new connection.

Both run in a process of their own on the same event loop implementation, take turns within one run, and move the
same bytes between the same two ends: a client and a destination in this process, on threads with blocking sockets.
The relay knows one destination and checks nothing: it is the least that any proxy of this kind must do.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.process import GatewayProcess
from orchestrator.model.egress import EgressRule
from orchestrator.model.runner import RunnerName

OUTPUT = Path("build/bench/gateway.json")
HOST = "site.test"
BULK_BYTES = 256 << 20
BULK_ROUNDS = 7
CONNECTIONS = 800
CONNECTION_ROUNDS = 5
CHUNK = b"x" * (256 << 10)

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


def through_gateway(port: int, destination: int) -> Open:
    request = f"CONNECT {HOST}:{destination} HTTP/1.1\r\nHost: {HOST}:{destination}\r\n\r\n".encode()

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


def rounds(ours: tuple[int, Open], floor: tuple[int, Open]) -> dict[str, tuple[float, float]]:
    """Medians of interleaved rounds, ours and the relay's."""
    speed: dict[int, list[float]] = {ours[0]: [], floor[0]: []}
    bulk_cpu: dict[int, list[float]] = {ours[0]: [], floor[0]: []}
    each: dict[int, list[float]] = {ours[0]: [], floor[0]: []}
    for _ in range(BULK_ROUNDS):
        for pid, connect in (ours, floor):
            before = cpu(pid)
            speed[pid].append(bulk(connect))
            bulk_cpu[pid].append(cpu(pid) - before)
    for _ in range(CONNECTION_ROUNDS):
        for pid, connect in (ours, floor):
            before = cpu(pid)
            connections(connect)
            each[pid].append((cpu(pid) - before) / CONNECTIONS)
    return {
        name: (statistics.median(values[ours[0]]), statistics.median(values[floor[0]]))
        for name, values in (("speed", speed), ("bulk_cpu", bulk_cpu), ("each", each))
    }


async def measure() -> dict[str, tuple[float, float]]:
    destination = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = destination.getsockname()[1]
    threading.Thread(target=serve, args=(destination,), daemon=True).start()
    gateway = GatewayProcess(GatewayConfig(names={HOST: "127.0.0.1"}), lambda *_: None)
    await gateway.start()
    listener = socket.create_server(("127.0.0.1", 0))
    gateway_port = listener.getsockname()[1]
    await gateway.open(RunnerName("bench"), listener, [EgressRule(HOST, port)])
    assert gateway.pid is not None
    with subprocess.Popen([sys.executable, "-c", RELAY, str(port)], stdout=subprocess.PIPE, text=True) as relay:
        try:
            assert relay.stdout is not None
            relay_port = int(relay.stdout.readline())
            ours = (gateway.pid, through_gateway(gateway_port, port))
            floor = (relay.pid, lambda: socket.create_connection(("127.0.0.1", relay_port)))
            return await asyncio.to_thread(rounds, ours, floor)
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
    for figure, (name, factor, unit) in scale.items():
        ours, floor = (value * factor for value in found[name])
        figures[figure] = {
            "ours": round(ours, 3),
            "floor": round(floor, 3),
            "ratio": round(ours / floor, 3),
            "unit": unit,
        }
        print(f"{figure:24} ours {ours:9.3f} {unit}  relay {floor:9.3f} {unit}  ratio {ours / floor:.2f}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
