"""The launcher's loop: read requests, watch sandboxes, end everything when the daemon is gone."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import time

from orchestrator.backends.sandbox.launcher import cgroups, kernel, staging
from orchestrator.backends.sandbox.launcher.child import Ceilings
from orchestrator.backends.sandbox.launcher.messages import MAX_DESCRIPTORS, MAX_MESSAGE
from orchestrator.backends.sandbox.launcher.run import Machine, PoolPlan, Run
from orchestrator.backends.sandbox.launcher.slots import UidSlots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

LOWEST_OWN_DESCRIPTOR = 64
"""Everything below is for bubblewrap's fixed numbers; keeping it occupied keeps our own descriptors out of it."""

RETRY_SECONDS = 0.005
END_SECONDS = 5.0
SWEEP_SECONDS = 1.0


class Launcher:
    """All state of the process. `serve` runs until the daemon's end of the socket closes."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._pools: dict[str, PoolPlan] = {}
        self._runs: dict[str, Run] = {}
        self._ending: list[Run] = []
        self._machine: Machine | None = None
        self._open = True
        self._watch(control.fileno(), self._request)

    def serve(self) -> None:
        try:
            while self._open:
                for descriptor, _ in self._poll.poll(RETRY_SECONDS if self._ending else -1):
                    callback = self._watched.get(descriptor)
                    if callback is not None:
                        callback()
                self._finish_ending()
        finally:
            self._end_everything()

    def _watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._watched[descriptor] = callback
        self._poll.register(descriptor, select.EPOLLIN)

    def _unwatch(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def _send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors, socket.MSG_NOSIGNAL)
        except OSError:
            self._open = False

    def _request(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._control, MAX_MESSAGE, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._open = False
            return
        message = json.loads(data)
        match message["op"]:
            case "hello":
                self._hello(message)
            case "pool":
                self._pool(message, tuple(descriptors))
            case "start":
                self._start(message, descriptors)
            case "signal":
                run = self._runs.get(message["run"])
                if run is not None:
                    run.signal(message["number"])
            case _:
                self._open = False

    def _hello(self, message: dict[str, Any]) -> None:
        privileged = os.geteuid() == 0
        try:
            if message["stage"]:
                staging.stage(message["stage_at"], message["stage"])
            groups = cgroups.find(message["instance"])
            until = time.monotonic() + SWEEP_SECONDS
            while groups.sweep() and time.monotonic() < until:
                time.sleep(RETRY_SECONDS)
        except OSError as error:
            self._send({"op": "unfit", "error": str(error)})
            return
        self._machine = Machine(
            groups=groups,
            slots=UidSlots(message["uid_base"]) if privileged else None,
            home_network=os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC),
            null=os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC),
        )
        answer = {"version": groups.version, "controllers": groups.controllers, "privileged": privileged}
        self._send({"op": "ready", **answer})

    def _pool(self, message: dict[str, Any], files: tuple[int, ...]) -> None:
        machine = self._machine
        assert machine is not None
        limits = message["limits"]
        grouped = "memory" in machine.groups.controllers
        before = self._pools.get(message["pool"])
        self._pools[message["pool"]] = PoolPlan(
            argv=tuple(message["argv"]),
            files=files,
            limits=cgroups.Limits(limits["memory_bytes"], limits["max_processes"], limits["cpu_cores"]),
            ceilings=Ceilings(
                limits["max_open_files"], limits["max_file_bytes"], 0 if grouped else limits["memory_bytes"]
            ),
        )
        for descriptor in before.files if before else ():
            os.close(descriptor)

    def _start(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        assert self._machine is not None
        run = Run(message["run"], self._pools[message["pool"]], self._machine)
        self._runs[run.key] = run
        try:
            run.start(*descriptors)
        except OSError as error:
            self._send({"op": "failed", "run": run.key, "error": str(error)})
            if run.outer:
                os.kill(run.outer, signal.SIGKILL)
            self._ended(run)
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._watch(run.info_fd, lambda: self._info(run))
        self._watch(run.outer_fd, lambda: self._ended(run))

    def _info(self, run: Run) -> None:
        try:
            if not run.read_info():
                return
            made = run.listeners()
        except OSError as error:
            self._unwatch(run.info_fd)
            self._send({"op": "failed", "run": run.key, "error": str(error)})
            run.signal(signal.SIGKILL)
            return
        self._unwatch(run.info_fd)
        self._send({"op": "listening", "run": run.key, "pid": run.inner}, [*made, run.inner_fd])
        for descriptor in made:
            os.close(descriptor)

    def _ended(self, run: Run) -> None:
        """Bubblewrap ended, or never began: collect, clean, report."""
        self._unwatch(run.info_fd)
        self._unwatch(run.outer_fd)
        self._ending.append(run)

    def _finish_ending(self) -> None:
        for run in list(self._ending):
            if not run.reap():
                continue
            kills = run.machine.groups.oom_kills(run.key)
            if not run.clean():
                continue
            run.close()
            self._ending.remove(run)
            del self._runs[run.key]
            code = run.status
            answer = {"code": code, "oom_kills": kills, "lost": code is None or code < 0}
            self._send({"op": "exited", "run": run.key, **answer})

    def _end_everything(self) -> None:
        """The daemon is gone or wants us gone: kill every sandbox, await every child, leave no control group."""
        until = time.monotonic() + END_SECONDS
        for run in self._runs.values():
            run.signal(signal.SIGKILL)
        while time.monotonic() < until and _children():
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        if self._machine is None:
            return
        groups = self._machine.groups
        while time.monotonic() < until and groups.sweep():
            time.sleep(RETRY_SECONDS)
        groups.dissolve()


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]


def _occupy_low_descriptors() -> None:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    while null < LOWEST_OWN_DESCRIPTOR:
        null = os.dup(null)
        os.set_inheritable(null, False)


def main(descriptor: int, daemon: int) -> None:
    """`descriptor` is our end of the control socket, `daemon` the process id of who started us."""
    control = socket.socket(fileno=descriptor)
    os.chdir("/")
    kernel.become_subreaper()
    kernel.hide_memory()
    # Not SIGKILL: on SIGTERM the control groups are removed too. Should we be killed outright, every
    # bubblewrap dies of its own parent-death signal.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel.die_with_parent(signal.SIGTERM)
    if os.getppid() != daemon:
        return
    _occupy_low_descriptors()
    launcher = Launcher(control)
    gc.collect()
    gc.freeze()
    try:
        launcher.serve()
    except _StoppedError:
        return


class _StoppedError(Exception):
    """SIGTERM arrived."""


def _stop(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _StoppedError
