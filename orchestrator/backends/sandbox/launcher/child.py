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


@dataclass(frozen=True)
class Ceilings:
    """Limits of each process. `address_space` of 0 leaves memory to the control group."""

    open_files: int
    file_bytes: int
    address_space: int


def execute(
    argv: Sequence[str],
    descriptors: Sequence[int],
    *,
    uid: int | None,
    entries: Sequence[str],
    ceilings: Ceilings,
    launcher: int,
) -> NoReturn:
    """Never returns. `descriptors` become 0, 1, 2, ...; all numbers above are closed by the exec.

    `uid` of None keeps the user we have; `entries` are the control groups' `cgroup.procs` files.
    """
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number, inheritable=True)
        for entry in entries:
            _enter(entry)
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        _limit(ceilings)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() == launcher:
            os.execve(argv[0], list(argv), {})  # noqa: S606 -- no shell is the point
    except BaseException as error:  # noqa: BLE001 -- nothing may return into the launcher's code
        os.write(2, f"launcher: {type(error).__name__}: {error}\n".encode())
    os._exit(126)


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
