"""What a run leaves on the machine: processes, mounts, control groups and files, compared before and after.

Other programs go on meanwhile, so what is found is only held against the daemon where it can be its doing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SHARED_FOLDERS = ("/tmp", "/var/tmp", "/run", "/dev/shm", "~")
OUR_NAMES = re.compile(r"orchestrator(?!-(demo|tests)-)|runner-[0-9a-f]{8}|bwrap|bubblewrap")
"""What the daemon's parts could call a file. Another demo and the test suite may run beside, under other names."""
OWN_PREFIX = "orchestrator-demo-"
GROUPS = Path("/sys/fs/cgroup")


def _mounts() -> frozenset[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return frozenset(" ".join(line.split()[3:5]) for line in lines)


def _entries() -> frozenset[Path]:
    folders = [Path(folder).expanduser() for folder in SHARED_FOLDERS]
    return frozenset(child for folder in folders if folder.is_dir() for child in folder.iterdir())


def _groups_of(pid: int | str) -> set[Path]:
    """The control groups a process is in, v1 and v2 (proc(5), `/proc/[pid]/cgroup`)."""
    lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    fields = [line.split(":", 2) for line in lines]
    return {GROUPS / controllers.removeprefix("name=") / path[1:] for _, controllers, path in fields if path != "/"}


@dataclass
class Residue:
    """Take it before the run, `watch` the daemon during it, `left` after it.

    `own_folder` is the run's own, with the state folder in it. `uids` are the host users that sandboxes may have.
    """

    own_folder: Path
    uids: range
    mounts: frozenset[str] = field(default_factory=_mounts)
    entries: frozenset[Path] = field(default_factory=_entries)
    processes: dict[tuple[int, float], str] = field(default_factory=dict)
    groups: set[Path] = field(default_factory=set)

    def watch(self, daemon: int) -> None:
        """Remember every process that descends from the daemon now, and its control groups."""
        try:
            process = psutil.Process(daemon)
            outside = _groups_of("self")
            for one in (process, *process.children(recursive=True)):
                self.processes[one.pid, one.create_time()] = one.name()
                self.groups |= _groups_of(one.pid) - outside
        except (psutil.Error, OSError):
            return

    def left(self) -> list[str]:
        """Everything that is still there and was not before; empty is the promise."""
        problems = []
        for (pid, born), name in self.processes.items():
            try:
                process = psutil.Process(pid)
                if process.create_time() == born and process.status() != psutil.STATUS_ZOMBIE:
                    problems.append(f"process {pid} ({name}) still runs")
            except psutil.Error:
                continue
        problems += [f"mount {mount}" for mount in sorted(_mounts() - self.mounts)]
        problems += [f"control group {group}" for group in sorted(self.groups) if group.is_dir()]
        problems += [f"file {path}" for path in sorted(_entries() - self.entries) if self._ours(path)]
        return problems

    def _ours(self, path: Path) -> bool:
        if path == self.own_folder:
            return False
        try:
            owner = path.lstat().st_uid
        except OSError:
            return False
        return owner in self.uids or (owner == os.geteuid() and OUR_NAMES.search(path.name) is not None)
