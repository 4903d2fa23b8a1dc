"""The forked child between launcher and bubblewrap: becomes the runner's user, takes its limits, executes."""

from __future__ import annotations

import os
import resource
import signal
import socket
from dataclasses import dataclass

from orchestrator.backends.sandbox.launcher import kernel
from orchestrator.backends.sandbox.launcher.messages import receive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


TOKEN_FD = 6
CHANNEL_FD = 63
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
    """What a child becomes. `descriptors` become 0, 1, 2, ...; `channel` brings the job's two.

    `uid` of None keeps the user we have; `entries` are the control groups' `cgroup.procs` files.
    """

    argv: Sequence[str]
    descriptors: Sequence[int]
    channel: socket.socket
    uid: int | None
    entries: Sequence[str]
    ceilings: Ceilings
    launcher: int


def wait_and_execute(order: Order) -> NoReturn:
    """Do all that needs no job, wait on the channel for output and token descriptors, execute. Never returns.

    Entering a control group can take 15 ms (the kernel waits for a grace period), so a child is made ready
    before a job asks for it. An error is kept until there is an output to write it to.
    """
    problem = ""
    try:
        channel = _arrange(order)
    except BaseException:  # noqa: BLE001 -- nothing may return into the launcher's code
        os._exit(126)
    try:
        _prepare(order)
    except BaseException as error:  # noqa: BLE001
        problem = f"launcher: {type(error).__name__}: {error}\n"
    try:
        _, received = receive(channel, 2)
        if len(received) == 2:
            output, token = received
            for descriptor, number in ((output, 1), (output, 2), (token, TOKEN_FD)):
                os.dup2(descriptor, number, inheritable=True)
            if problem:
                os.write(2, problem.encode())
            elif os.getppid() == order.launcher:
                os.execve(order.argv[0], list(order.argv), {})  # noqa: S606 -- no shell is the point
    except BaseException as error:  # noqa: BLE001
        os.write(2, f"launcher: {type(error).__name__}: {error}\n".encode())
    os._exit(126)


def _arrange(order: Order) -> socket.socket:
    """Put descriptors where bubblewrap looks for them and close everything that is the launcher's."""
    os.dup2(order.channel.fileno(), CHANNEL_FD, inheritable=False)
    for number, descriptor in enumerate(order.descriptors):
        os.dup2(descriptor, number, inheritable=True)
    os.closerange(len(order.descriptors), CHANNEL_FD)
    os.closerange(LOWEST_OWN_DESCRIPTOR, 1 << 20)
    order.channel.detach()
    return socket.socket(fileno=CHANNEL_FD)


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
