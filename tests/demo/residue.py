"""What a run leaves on the machine: processes, mounts, control groups and files, compared before and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import psutil

SHARED_FOLDERS = ("/tmp", "/var/tmp", "/run", "/dev/shm", "~")


def _mounts() -> frozenset[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return frozenset(" ".join(line.split()[3:5]) for line in lines)


def _entries() -> frozenset[str]:
    found = set()
    for folder in SHARED_FOLDERS:
        path = Path(folder).expanduser()
        if path.is_dir():
            found.update(str(child) for child in path.iterdir())
    return frozenset(found)


def _control_groups() -> frozenset[str]:
    root = Path("/sys/fs/cgroup")
    return frozenset(str(path) for path in root.glob("**/*") if path.is_dir()) if root.is_dir() else frozenset()


@dataclass
class Residue:
    """Take it before the run, `watch` the daemon during it, `left` after it."""

    own_folder: Path
    mounts: frozenset[str] = field(default_factory=_mounts)
    entries: frozenset[str] = field(default_factory=_entries)
    groups: frozenset[str] = field(default_factory=_control_groups)
    seen: dict[tuple[int, float], str] = field(default_factory=dict)

    def watch(self, daemon: int) -> None:
        """Remember every process that descends from the daemon now."""
        try:
            process = psutil.Process(daemon)
            for one in (process, *process.children(recursive=True)):
                self.seen[one.pid, one.create_time()] = one.name()
        except psutil.Error:
            return

    def left(self) -> list[str]:
        """Everything that is still there and was not before; empty is the promise."""
        problems = []
        for (pid, born), name in self.seen.items():
            try:
                process = psutil.Process(pid)
                if process.create_time() == born and process.status() != psutil.STATUS_ZOMBIE:
                    problems.append(f"process {pid} ({name}) still runs")
            except psutil.Error:
                continue
        problems += [f"mount {mount}" for mount in sorted(_mounts() - self.mounts)]
        problems += [f"control group {group}" for group in sorted(_control_groups() - self.groups)]
        own = str(self.own_folder)
        problems += [f"file {path}" for path in sorted(_entries() - self.entries) if not own.startswith(path)]
        return problems
