"""Port numbers for servers that a test starts later, and that nobody else is given in between.

A port that the kernel chose and that was let go again may go to anybody: the next server that asks for any, the next
connection that needs an end of its own. These lie outside the kernel's range (`ip_local_port_range`, ip(7)), and are
this process' own for as long as it lives.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

_LOWEST, _END = 12_000, 30_000
"""Below are servers that everybody knows, above the ports of a cluster's nodes."""
_BLOCK = 50
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` where nobody listens; each call gives another one.

    Raises:
        OSError: none is left.
    """
    for port in _ours:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise OSError(f"no port from {_LOWEST} to {_END - 1} is free")


def _reserved() -> Iterator[int]:
    low, high = map(int, _RANGE.read_text("ascii").split())
    blocks = [range(first, first + _BLOCK) for first in range(_LOWEST, _END, _BLOCK)]
    apart = [block for block in blocks if block[-1] < low or high < block[0]]
    blocks = apart or blocks  # where the kernel gives away all ports, these are as good as any
    random.SystemRandom().shuffle(blocks)  # the usual generator is seeded by hypothesis
    for block in blocks:
        if _take(block[0]):
            yield from block


def _take(first: int) -> bool:
    """Whether no other process has the block. An abstract Unix socket is its lock, kept open until we end."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0orchestrator-test-ports-{first}")
    except OSError:
        lock.close()
        return False
    lock.detach()
    return True


_ours = _reserved()
