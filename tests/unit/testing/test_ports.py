"""Ports for servers that start later are nobody else's in between."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from orchestrator.testing.ports import free_port

MANY = 120
PRINT = f"from orchestrator.testing.ports import free_port; print(*(free_port() for _ in range({MANY})))"


def kernels() -> range:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return range(low, high + 1)


def test_no_two_processes_are_given_the_same_one() -> None:
    ours = [free_port() for _ in range(MANY)]
    theirs = subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, check=True, timeout=60)
    given = [*ours, *map(int, theirs.stdout.split())]
    assert len(set(given)) == 2 * MANY
    if not (kernels()[0] <= 12_000 and kernels()[-1] >= 30_000):
        assert not set(given) & set(kernels()), "the kernel gives none of them to somebody else"


def test_one_where_somebody_listens_is_passed_over() -> None:
    first = free_port()
    with socket.create_server(("127.0.0.1", first + 1)):
        following = [free_port() for _ in range(3)]
    assert first + 1 not in following


def test_it_can_be_listened_at() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] > 0
