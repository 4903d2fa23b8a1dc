"""The forked child between launcher and bubblewrap: becomes the runner's user, takes its limits, executes."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass

from orchestrator.backends.sandbox.launcher import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


LOWEST_OWN_DESCRIPTOR = 64
"""The launcher's own descriptors are from here on; below are bubblewrap's fixed numbers (`command`)."""


@dataclass(frozen=True)
class Ceilings:
    """Limits of each process. `address_space` of 0 leaves memory to the control group."""

    open_files: int
    file_bytes: int
    address_space: int


@dataclass(frozen=True)
class Order:
    """What a child becomes. `descriptors` become 0, 1, 2, ...; every other one is closed.

    `uid` of None keeps the user we have; `entries` are the control groups' `cgroup.procs` files.
    """

    argv: Sequence[str]
    descriptors: Sequence[int]
    uid: int | None
    entries: Sequence[str]
    ceilings: Ceilings
    launcher: int


def execute(order: Order) -> NoReturn:
    """Become the runner's user with its limits, then bubblewrap. Never returns."""
    try:
        for number, descriptor in enumerate(order.descriptors):
            os.dup2(descriptor, number, inheritable=True)
        os.closerange(len(order.descriptors), 1 << 20)
        _prepare(order)
        if os.getppid() == order.launcher:
            os.execve(order.argv[0], list(order.argv), {})  # noqa: S606 -- no shell is the point
    except BaseException as error:  # noqa: BLE001 -- nothing may return into the launcher's code
        os.write(2, f"launcher: {type(error).__name__}: {error}\n".encode())
    os._exit(126)


def _prepare(order: Order) -> None:
    for entry in order.entries:
        _enter(entry)
    if order.uid is not None:
        os.setgroups([])
        os.setresgid(order.uid, order.uid, order.uid)
        os.setresuid(order.uid, order.uid, order.uid)
    for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    # blocked until the agent has its handler: an init that has none would lose a SIGTERM from outside
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    kernel.die_with_parent(signal.SIGKILL)
    _limit(order.ceilings)
    os.umask(0o022)


def _enter(entry: str) -> None:
    descriptor = os.open(entry, os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, b"0")
    os.close(descriptor)


def _limit(ceilings: Ceilings) -> None:
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, ceilings.open_files),
        (resource.RLIMIT_FSIZE, ceilings.file_bytes),
    ]
    if ceilings.address_space:
        wanted.append((resource.RLIMIT_AS, ceilings.address_space))
    for kind, value in wanted:
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))
