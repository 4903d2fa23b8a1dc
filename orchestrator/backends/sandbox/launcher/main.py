"""The launcher process: its place in the family of processes, then its loop."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import socket

from orchestrator.backends.sandbox.launcher import kernel
from orchestrator.backends.sandbox.launcher.child import LOWEST_OWN_DESCRIPTOR
from orchestrator.backends.sandbox.launcher.loop import Launcher


def _occupy_low_descriptors() -> None:
    """Keep our own descriptors out of the numbers that bubblewrap is told about."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    while null < LOWEST_OWN_DESCRIPTOR:
        null = os.dup(null)
        os.set_inheritable(null, False)


def main(descriptor: int, daemon: int) -> None:
    """`descriptor` is our end of the control socket, `daemon` the process id of who started us."""
    _occupy_low_descriptors()
    control = socket.socket(fileno=fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOWEST_OWN_DESCRIPTOR))
    os.close(descriptor)
    os.chdir("/")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kernel.become_subreaper()
    kernel.hide_memory()
    # Not SIGKILL: on SIGTERM the control groups are removed too. Should we be killed outright, every
    # bubblewrap dies of its own parent-death signal.
    wakeup = _wakeup_by_sigterm()
    kernel.die_with_parent(signal.SIGTERM)
    if os.getppid() != daemon:
        return
    launcher = Launcher(control, wakeup)
    gc.collect()
    gc.freeze()
    launcher.serve()


def _wakeup_by_sigterm() -> int:
    """A descriptor that becomes readable on SIGTERM, so that nothing is ever interrupted half-way."""
    wakeup, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return wakeup
