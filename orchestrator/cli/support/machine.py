"""The machine and the program: versions, what the kernel allows, and how full the disk is."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.errors import GiveUpError

_KERNEL = (
    "user/max_user_namespaces",
    "user/max_net_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/pid_max",
    "fs/file-max",
)
_MAX_ENTRIES = 10_000


def about_program() -> dict[str, Any]:
    """Versions of the program, the interpreter and every package that is installed with them."""
    return {
        "orchestrator": __version__,
        "python": sys.version,
        "platform": platform.platform(),
        "packages": {one.name: one.version for one in sorted(distributions(), key=lambda one: one.name)},
    }


def about_machine(state: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """What the kernel allows, memory, processors, the disk of the state folder, and which variables are set: of those
    the names only."""
    return {
        "kernel": {name: _first_line(Path("/proc/sys") / name) for name in _KERNEL},
        "control_groups": _first_line(Path("/sys/fs/cgroup/cgroup.controllers")),
        "processors": os.cpu_count(),
        "load": list(os.getloadavg()),
        "memory": _memory(),
        "programs": {name: shutil.which(name) for name in ("bwrap", "slirp4netns", "opa", "kubectl")},
        "user_is_root": os.geteuid() == 0,
        "state_disk": _disk(state),
        "variables_set": sorted(name for name in environment if name.startswith(("ORCHESTRATOR_", "OTEL_", "KUBE"))),
    }


def state_folder(state: Path) -> dict[str, Any]:
    """What is at the top of the state folder, with mode and size; of folders how many files and bytes are in them.

    Raises:
        GiveUpError: reason `state_folder_missing`.
    """
    if not state.is_dir():
        raise GiveUpError(
            "there is no such folder; name the daemon's with --state-dir, or its settings with --config",
            reason="state_folder_missing",
        )
    found: dict[str, Any] = {}
    for entry in sorted(os.scandir(state), key=lambda one: one.name):
        known = entry.stat(follow_symlinks=False)
        mode = f"{known.st_mode & 0o7777:04o}"
        if entry.is_dir(follow_symlinks=False):
            files, size = _size_of(Path(entry.path))
            found[entry.name] = {"mode": mode, "files": files, "bytes": size}
        else:
            found[entry.name] = {"mode": mode, "bytes": known.st_size}
    return found


def _size_of(folder: Path) -> tuple[int, int]:
    files = size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(parent) / name).lstat().st_size
            except OSError:
                continue
            files += 1
            if files >= _MAX_ENTRIES:
                return files, size
    return files, size


def _disk(state: Path) -> dict[str, int] | None:
    try:
        total, used, free = shutil.disk_usage(state)
    except OSError:
        return None
    return {"total_bytes": total, "used_bytes": used, "free_bytes": free}


def _memory() -> dict[str, str]:
    wanted = ("MemTotal", "MemAvailable", "SwapFree")
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs if name in wanted}


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text("ascii")[:200].partition("\n")[0]
    except (OSError, ValueError):
        return None
