"""A pod's proof that forbidden egress fails."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from orchestrator.agent.main import CANARY, FORBIDDEN
from orchestrator.agent.surroundings import Surroundings

PROBE_SECONDS = 2.0
CANARY_SECONDS = 10.0
GATEWAY_PATIENCE_SECONDS = 20.0
"""How long the gateway may be unable to answer before it counts as not refusing."""
RENEWAL_DELAY_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 1.0


@dataclass
class Proof:
    """What was denied and what was reached, in words for the journal; when it was begun and made, by time.monotonic."""

    denied: list[str]
    reached: list[str]
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0


def prove(around: Surroundings) -> Proof:
    """Try what must fail, all at once. Network policies drop silently, so here no answer in time is a denial;
    what proves that they do is the API server's address, where somebody would answer."""
    service = f"tcp:{around.api_server[0]}:{around.api_server[1]}"
    family = socket.AF_INET6 if ":" in around.api_server[0] else socket.AF_INET
    proof = Proof([], [])
    probes = [*FORBIDDEN, (service, family, socket.SOCK_STREAM, around.api_server)]
    with ThreadPoolExecutor(len(probes) + 1, thread_name_prefix="probe") as threads:
        canary = threads.submit(gateway_refuses, around.gateway)
        answers = [(name, threads.submit(answers_at, family, kind, where)) for name, family, kind, where in probes]
        for name, answered in answers:
            (proof.reached if answered.result() else proof.denied).append(name)
        (proof.denied if canary.result() else proof.reached).append("gateway:" + CANARY)
    proof.ended = time.monotonic()
    return proof


def answers_at(family: int, kind: int, address: tuple[str, int]) -> bool:
    """Whether anybody can be spoken to there. A refusal says nothing about who refused."""
    try:
        with socket.socket(family, kind) as probe:
            probe.settimeout(PROBE_SECONDS)
            probe.connect(address)
            if kind == socket.SOCK_DGRAM:
                probe.send(_ROOT_QUERY)
                probe.recv(512)
    except OSError:
        return False
    return True


_ROOT_QUERY = bytes.fromhex("2f00010000010000000000000000020001")
"""A DNS query (RFC 1035) for the name servers of the root: what any resolver answers."""


def gateway_refuses(url: str) -> bool:
    """Whether the gateway refuses a host that nobody may reach; it may take a moment to know anything."""
    until = time.monotonic() + GATEWAY_PATIENCE_SECONDS
    pause = FIRST_PAUSE
    while True:
        status = ask_canary(url)
        if status in (403, 407) or 200 <= status < 300 or time.monotonic() + pause > until:
            return status in (403, 407)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def ask_canary(url: str) -> int:
    """The status of the gateway's answer, 0 for none."""
    gateway = urlsplit(url)
    try:
        with socket.create_connection((gateway.hostname or "", gateway.port or 80), CANARY_SECONDS) as connection:
            connection.sendall(f"CONNECT {CANARY} HTTP/1.1\r\nHost: {CANARY}\r\n\r\n".encode())
            line = connection.makefile("rb").readline(1024)
    except OSError:
        return 0
    words = line.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) == 3 else 0


class Renewal:
    """A proof in the making while a claim waits, begun when the wait turns out to be long."""

    def __init__(self, around: Surroundings) -> None:
        self._proof = Proof([], ["unproven"], ended=time.monotonic())
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(around,), daemon=True)
        self._thread.start()

    def _run(self, around: Surroundings) -> None:
        self._wanted.wait(RENEWAL_DELAY_SECONDS)
        self._proof = prove(around)

    def result(self) -> Proof:
        self._wanted.set()
        self._thread.join()
        return self._proof
