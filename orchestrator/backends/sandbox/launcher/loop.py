"""The launcher's loop: read requests, watch sandboxes, end everything when the daemon is gone."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from dataclasses import replace

from orchestrator.backends.sandbox.launcher import cgroups, staging
from orchestrator.backends.sandbox.launcher.child import Ceilings
from orchestrator.backends.sandbox.launcher.messages import receive
from orchestrator.backends.sandbox.launcher.run import Machine, PoolPlan, Run
from orchestrator.backends.sandbox.launcher.slots import UidSlots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

FOREVER = 3600.0
RETRY_SECONDS = 0.005
QUIET_SECONDS = 0.012
"""After a start no spare is made for this long: the job's own first steps come first."""
END_SECONDS = 5.0
SWEEP_SECONDS = 1.0


class Launcher:
    """All state of the process. `serve` runs until the daemon's end of the socket closes."""

    def __init__(self, control: socket.socket, wakeup: int) -> None:
        self._control = control
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._pools: dict[str, PoolPlan] = {}
        self._runs: dict[str, Run] = {}
        self._spares: dict[str, list[Run]] = {}
        self._retired: list[Run] = []  # spares of a plan that is no more, killed and about to end
        self._ending: list[Run] = []
        self._preparing = 0
        self._quiet_until = 0.0
        self._count = 0
        self._machine: Machine | None = None
        self._open = True
        self._watch(control.fileno(), self._request)
        self._watch(wakeup, self._stop)

    def serve(self) -> None:
        wait = FOREVER
        try:
            while self._open:
                for descriptor, _ in self._poll.poll(min(wait, RETRY_SECONDS) if self._ending else wait):
                    callback = self._watched.get(descriptor)
                    if callback is not None:
                        callback()
                self._finish_ending()
                wait = self._refill()
        finally:
            self._end_everything()

    def _stop(self) -> None:
        self._open = False

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
            data, descriptors = receive(self._control)
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
                self._start(message)
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
            spares=message["spares"],
        )
        for run in self._spares.pop(message["pool"], []):
            run.signal(signal.SIGKILL)
            self._retired.append(run)
        for descriptor in before.files if before else ():
            os.close(descriptor)

    def _start(self, message: dict[str, Any]) -> None:
        key, pool = message["run"], message["pool"]
        self._quiet_until = time.monotonic() + QUIET_SECONDS
        try:
            run = self._spare(pool) or self._prepared(pool)
        except OSError as error:
            self._send({"op": "failed", "run": key, "error": str(error)})
            self._send({"op": "exited", "run": key, "code": None, "oom_kills": 0, "lost": True})
            return
        self._runs[key] = run
        self._send({"op": "output", "run": key}, [run.output_fd])
        os.close(run.output_fd)
        run.output_fd = -1
        try:
            run.start(key, message["token"])
        except OSError:
            return  # it is dead, which its pidfd is about to say
        if run.listeners:
            self._hand_over(run)

    def _spare(self, pool: str) -> Run | None:
        """A spare that is alive; a dead one stays until its end is handled."""
        spares = self._spares.get(pool, [])
        for run in spares:
            if run.breathes():
                spares.remove(run)
                return run
        return None

    def _prepared(self, pool: str) -> Run:
        """A new sandbox on its way to waiting for its token.

        Raises:
            OSError: there is none, and nothing will be left of the attempt.
        """
        assert self._machine is not None
        self._count += 1
        run = Run(f"{os.getpid()}-{self._count}", self._pools[pool], self._machine)
        try:
            run.prepare()
        except OSError:
            if run.outer:
                os.kill(run.outer, signal.SIGKILL)
            self._ending.append(run)
            raise
        self._preparing += 1
        self._watch(run.info_fd, lambda: self._info(run))
        self._watch(run.outer_fd, lambda: self._ended(run))
        return run

    def _refill(self) -> float:
        """Make one spare where one is missing, but not while starts are on their way; seconds until the next look."""
        missing = [pool for pool, plan in self._pools.items() if len(self._spares.setdefault(pool, [])) < plan.spares]
        if not missing or self._preparing:
            return FOREVER
        rest = self._quiet_until - time.monotonic()
        if rest > 0:
            return rest
        pool = missing[0]
        try:
            self._spares[pool].append(self._prepared(pool))
        except OSError:
            self._fewer_spares(pool)
        return 0

    def _fewer_spares(self, pool: str) -> None:
        """A spare failed: its pool gets along with one less, and starts that need one say why."""
        plan = self._pools[pool]
        self._pools[pool] = replace(plan, spares=max(0, plan.spares - 1))

    def _info(self, run: Run) -> None:
        try:
            if not run.read_info():
                return
            run.listen()
        except OSError as error:
            self._made(run)
            if run.key:
                self._send({"op": "failed", "run": run.key, "error": str(error)})
            run.signal(signal.SIGKILL)
            return
        self._made(run)
        if run.key:
            self._hand_over(run)

    def _made(self, run: Run) -> None:
        if run.info_fd in self._watched:
            self._unwatch(run.info_fd)
            self._preparing -= 1

    def _hand_over(self, run: Run) -> None:
        self._send({"op": "listening", "run": run.key, "pid": run.inner}, [*run.listeners, run.inner_fd])
        run.close_listeners()

    def _ended(self, run: Run) -> None:
        """Bubblewrap ended."""
        self._made(run)
        self._unwatch(run.outer_fd)
        for pool, spares in self._spares.items():
            if run in spares:
                spares.remove(run)
                self._fewer_spares(pool)
        self._retired = [other for other in self._retired if other is not run]
        self._ending.append(run)

    def _finish_ending(self) -> None:
        """Collect, clean up, and only then report."""
        for run in list(self._ending):
            if not run.reap():
                continue
            if run.outer and not run.inner:
                self._kill_strays()
            kills = run.machine.groups.oom_kills(run.folder)
            if not run.clean():
                continue
            run.close()
            self._ending.remove(run)
            if not run.key:
                continue
            self._runs.pop(run.key, None)
            lost = run.status is None or run.status < 0
            self._send({"op": "exited", "run": run.key, "code": run.status, "oom_kills": kills, "lost": lost})

    def _kill_strays(self) -> None:
        """End what we adopted from a bubblewrap that died before it told us of its child."""
        groups = (self._runs.values(), self._ending, self._retired, *self._spares.values())
        known = {pid for runs in groups for run in runs for pid in (run.outer, run.inner)}
        for pid in _children():
            if pid not in known:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _end_everything(self) -> None:
        """The daemon is gone or wants us gone: kill every sandbox, await every child, leave no control group."""
        until = time.monotonic() + END_SECONDS
        for run in self._runs.values():
            run.signal(signal.SIGKILL)
        while time.monotonic() < until and _children():
            children = _children()
            for pid in children:  # all of them before any is awaited: each takes the kernel a while
                os.kill(pid, signal.SIGKILL)
            for pid in children:
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
