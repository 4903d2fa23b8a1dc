"""Control groups of the sandboxes: v2 where a subtree is ours, else v1 as root, else none at all.

Only files and folders are touched, so tests run it on a made-up tree. A run's folder lies at
`<own group>/orchestrator-<instance>/<run>`; leftovers of a killed predecessor are swept at start.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

V1_CONTROLLERS = ("memory", "pids", "cpu")
_CPU_PERIOD = 100_000
_PROCESSES_OF_BWRAP = 4


@dataclass(frozen=True)
class Limits:
    """What one sandbox may use: bytes, processes, cores (0: no limit)."""

    memory_bytes: int
    max_processes: int
    cpu_cores: float


class ControlGroups:
    """`version` is 2, 1 or 0 (none); `bases` maps a v1 controller (v2: "") to the folder of this instance."""

    def __init__(self, version: int, bases: Mapping[str, str], controllers: Sequence[str]) -> None:
        self.version = version
        self.bases = dict(bases)
        self.controllers = tuple(controllers)

    def create(self, run: str, limits: Limits) -> list[str]:
        """Make the run's folders with their limits; returns the files a process enters them by."""
        entries = []
        for controller, base in self.bases.items():
            values = self._values(controller, limits)
            if not values:
                continue  # every group to enter costs a start some milliseconds
            folder = f"{base}/{run}"
            os.mkdir(folder)
            for name, value in values:
                _write(f"{folder}/{name}", value)
            entries.append(f"{folder}/cgroup.procs")
        return entries

    def _values(self, controller: str, limits: Limits) -> list[tuple[str, str]]:
        memory, processes = str(limits.memory_bytes), str(limits.max_processes + _PROCESSES_OF_BWRAP)
        quota = int(limits.cpu_cores * _CPU_PERIOD)
        if self.version == 2:
            values = [("memory.max", memory), ("memory.swap.max", "0"), ("pids.max", processes)]
            if quota:
                values.append(("cpu.max", f"{quota} {_CPU_PERIOD}"))
            return [item for item in values if item[0].split(".")[0] in self.controllers]
        table = {
            "memory": [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)],
            "pids": [("pids.max", processes)],
            "cpu": [("cpu.cfs_quota_us", str(quota))] if quota else [],
        }
        return table[controller]

    def oom_kills(self, run: str) -> int:
        """How many processes of the run the kernel killed for memory so far."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        base = self.bases.get("" if self.version == 2 else "memory")
        if base is None:
            return 0
        try:
            lines = _read(f"{base}/{run}/{name}").splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def remove(self, run: str) -> bool:
        """Remove the run's folders; False while the kernel still finds somebody in one of them."""
        done = True
        for base in self.bases.values():
            try:
                os.rmdir(f"{base}/{run}")
            except FileNotFoundError:
                continue
            except OSError:
                done = False
        return done

    def sweep(self) -> list[str]:
        """End and remove what a killed predecessor left; returns the runs that resist."""
        stuck = set()
        for base in self.bases.values():
            for entry in os.scandir(base):
                if entry.is_dir() and not self.remove(entry.name):
                    stuck.add(entry.name)
                    _kill_members(f"{entry.path}/cgroup.procs")
        return sorted(stuck)

    def dissolve(self) -> None:
        """Remove the instance's own folders, when nothing is in them any more."""
        for base in self.bases.values():
            try:
                os.rmdir(base)
            except OSError:
                continue


def find(instance: str, root: str = "/sys/fs/cgroup", proc: str = "/proc") -> ControlGroups:
    """The best rung of the ladder that this machine gives to this user."""
    own = _own_groups(_read(f"{proc}/self/cgroup"))
    name = f"orchestrator-{instance}"
    try:
        groups = _version_2(name, root, proc, own)
    except OSError:
        groups = None
    return groups or _version_1(name, root, own) or ControlGroups(0, {}, ())


def _own_groups(text: str) -> dict[str, str]:
    """`/proc/self/cgroup` as controller to path; "" is the v2 hierarchy."""
    own = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    return own


def _version_2(name: str, root: str, proc: str, own: Mapping[str, str]) -> ControlGroups | None:
    """v2 with delegation: our own group is ours to divide, and nobody else's process is in it."""
    if "" not in own or not os.path.exists(f"{root}/cgroup.controllers"):
        return None
    group = (root + own[""]).rstrip("/")
    offered = [item for item in ("memory", "pids", "cpu") if item in _read(f"{group}/cgroup.controllers").split()]
    if not {"memory", "pids"} <= set(offered) or not os.access(f"{group}/cgroup.procs", os.W_OK):
        return None
    base = f"{group}/{name}"
    if not _is_enabled(group, offered):
        if not _only_ours(_read(f"{group}/cgroup.procs").split(), proc):
            return None
        _make(f"{group}/{name}-daemon")
        for pid in _read(f"{group}/cgroup.procs").split():
            _write(f"{group}/{name}-daemon/cgroup.procs", pid)
        _write(f"{group}/cgroup.subtree_control", " ".join(f"+{item}" for item in offered))
    _make(base)
    _write(f"{base}/cgroup.subtree_control", " ".join(f"+{item}" for item in offered))
    return ControlGroups(2, {"": base}, offered)


def _is_enabled(group: str, offered: Sequence[str]) -> bool:
    return set(offered) <= set(_read(f"{group}/cgroup.subtree_control").split())


def _only_ours(pids: Sequence[str], proc: str) -> bool:
    """Is every process the daemon (our parent) or a child of it?"""
    daemon = str(os.getppid())

    def parent(pid: str) -> str:
        try:
            return _read(f"{proc}/{pid}/stat").rsplit(")", 1)[1].split()[1]
        except (OSError, IndexError):
            return daemon

    return all(daemon in (pid, parent(pid)) for pid in pids)


def _version_1(name: str, root: str, own: Mapping[str, str]) -> ControlGroups | None:
    bases = {}
    for controller in V1_CONTROLLERS:
        for group in (f"{root}/{controller}{own.get(controller, '/')}".rstrip("/"), f"{root}/{controller}"):
            if os.path.exists(f"{group}/cgroup.procs") and _made(f"{group}/{name}"):
                bases[controller] = f"{group}/{name}"
                break
    return ControlGroups(1, bases, tuple(bases)) if bases else None


def _kill_members(path: str) -> None:
    for pid in _read(path).split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except OSError:
            continue


def _made(folder: str) -> bool:
    try:
        _make(folder)
    except OSError:
        return False
    return os.access(f"{folder}/cgroup.procs", os.W_OK)


def _make(folder: str) -> None:
    try:
        os.mkdir(folder)
    except FileExistsError:
        return


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _write(path: str, value: str) -> None:
    """Write one setting; a kernel that lacks the file (swap accounting off) is no failure."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
