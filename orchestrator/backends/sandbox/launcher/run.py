"""One sandbox as the launcher sees it: start, the way to *listening*, and the end with nothing left."""

from __future__ import annotations

import json
import os
import select
import signal
from dataclasses import dataclass, field

from orchestrator.backends.sandbox.launcher import child, network
from orchestrator.backends.sandbox.launcher.cgroups import ControlGroups, Limits
from orchestrator.backends.sandbox.launcher.slots import UidSlots

MAX_INFO = 4096


@dataclass(frozen=True)
class PoolPlan:
    """What every sandbox of a pool is started with. `files` are memfds: the seccomp program, then the others.

    `spares` is how many sandboxes wait ready."""

    argv: tuple[str, ...]
    files: tuple[int, ...]
    limits: Limits
    ceilings: child.Ceilings
    spares: int = 0


@dataclass
class Machine:
    """What all runs share."""

    groups: ControlGroups
    slots: UidSlots | None
    home_network: int
    null: int


@dataclass
class Run:
    """A bubblewrap (`outer`) and the sandbox's PID 1 (`inner`) once it is known.

    Without a `key` it is a spare: everything is made, and bubblewrap waits to read the runner's token.
    `folder` names its control groups; `listeners` are kept until a job takes them.
    """

    folder: str
    plan: PoolPlan
    machine: Machine
    key: str = ""
    uid: int | None = None
    outer: int = 0
    outer_fd: int = -1
    inner: int = 0
    inner_fd: int = -1
    info_fd: int = -1
    block_fd: int = -1
    token_fd: int = -1
    output_fd: int = -1
    info: bytes = b""
    listeners: list[int] = field(default_factory=list)
    status: int | None = None
    inner_gone: bool = False
    grouped: bool = False

    def prepare(self) -> None:
        """Fork bubblewrap; it goes on until it wants the token.

        Raises:
            OSError: no user id, control group or process to be had; `reap`, `clean` and `close` still apply.
        """
        machine, plan = self.machine, self.plan
        if machine.slots is not None:
            self.uid = machine.slots.take()
        self.grouped = True
        entries = machine.groups.create(self.folder, plan.limits)
        self.info_fd, info_write = os.pipe2(os.O_CLOEXEC)
        block_read, self.block_fd = os.pipe2(os.O_CLOEXEC)
        token_read, self.token_fd = os.pipe2(os.O_CLOEXEC)
        self.output_fd, output = os.pipe2(os.O_CLOEXEC)
        # opened anew for each run: the sandboxes must not share a read position
        files = [os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_CLOEXEC) for number in plan.files]
        order = child.Order(
            argv=plan.argv,
            descriptors=[machine.null, output, output, files[0], info_write, block_read, token_read, *files[1:]],
            uid=self.uid,
            entries=entries,
            ceilings=plan.ceilings,
            launcher=os.getpid(),
        )
        self.outer = os.fork()
        if self.outer == 0:
            child.execute(order)
        for descriptor in (info_write, block_read, token_read, output, *files):
            os.close(descriptor)
        self.outer_fd = os.pidfd_open(self.outer)
        os.set_blocking(self.info_fd, False)

    def start(self, key: str, token: str) -> None:
        """Give the sandbox its token: bubblewrap goes on to its last step.

        Raises:
            OSError: bubblewrap is dead.
        """
        self.key = key
        os.write(self.token_fd, token.encode("ascii"))
        os.close(self.token_fd)
        self.token_fd = -1

    def read_info(self) -> bool:
        """Take what bubblewrap says on its info descriptor; True when PID 1 is known or will never be.

        Raises:
            OSError: its answer is no use.
        """
        chunk = os.read(self.info_fd, MAX_INFO)
        self.info += chunk
        try:
            pid = json.loads(self.info)["child-pid"]
        except (ValueError, KeyError):
            if not chunk or len(self.info) > MAX_INFO:
                raise OSError("bubblewrap ended before the sandbox was made") from None
            return False
        self.inner_fd = os.pidfd_open(pid)
        if _parent_of(pid) != self.outer:
            raise OSError("the sandbox ended while it was being made")
        self.inner = pid
        return True

    def listen(self) -> None:
        """Make the two listeners, then let bubblewrap pass its block: the agent will find them.

        Raises:
            OSError: the sandbox's network cannot be entered.
        """
        privileged = self.machine.slots is not None
        home = self.machine.home_network
        self.listeners = network.listeners_inside(self.inner, privileged=privileged, home=home)
        os.write(self.block_fd, b".")
        os.close(self.block_fd)
        self.block_fd = -1

    def signal(self, number: int) -> None:
        """Signal PID 1; a kill before it is known goes to bubblewrap, whose death it follows."""
        target = self.inner_fd if self.inner_fd >= 0 else self.outer_fd
        if target >= 0 and not (self.inner_fd < 0 and number != signal.SIGKILL):
            try:
                signal.pidfd_send_signal(target, number)
            except ProcessLookupError:
                return

    def breathes(self) -> bool:
        """Has neither of the two processes ended?"""
        ends = select.poll()
        for descriptor in (self.outer_fd, self.inner_fd):
            if descriptor >= 0:
                ends.register(descriptor, select.POLLIN)
        return not ends.poll(0)

    def reap(self) -> bool:
        """Collect both processes; True when neither is left. Kills PID 1 when bubblewrap is gone."""
        if self.outer and self.status is None:
            pid, status = os.waitpid(self.outer, os.WNOHANG)
            if pid == 0:
                return False
            self.status = os.waitstatus_to_exitcode(status)
            self.signal(signal.SIGKILL)
        if self.inner and not self.inner_gone:
            try:
                self.inner_gone = os.waitpid(self.inner, os.WNOHANG)[0] != 0
            except ChildProcessError:
                self.inner_gone = True  # bubblewrap itself had reaped it
            return self.inner_gone
        return True

    def close(self) -> None:
        for name in ("outer_fd", "inner_fd", "info_fd", "block_fd", "token_fd", "output_fd"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)
        self.close_listeners()

    def close_listeners(self) -> None:
        for descriptor in self.listeners:
            os.close(descriptor)
        self.listeners = []

    def clean(self) -> bool:
        """Remove the control groups and free the user id; False when the kernel is not ready yet."""
        if self.grouped and not self.machine.groups.remove(self.folder):
            return False
        if self.uid is not None and self.machine.slots is not None:
            self.machine.slots.give_back(self.uid)
        return True


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])
