# ruff: noqa: S108 -- these paths are inside the sandbox
"""The bubblewrap argument list of a pool, and the files it carries from memory. Pure but for looking at `/`.

Three rules hold for every list (each has a test): there is no writable bind, so no destination can lie
below anything a job may have written (bubblewrap before 0.12 follows planted links there,
GHSA-pxhw-h44j-8pfx); nothing secret is in it; every tmpfs has a size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.backends.sandbox.config import SandboxPool

JOB_UID = 1000
HOME = "/run/orchestrator"
AGENT = f"{HOME}/agent.pyc"
AGENT_SOURCE = f"{HOME}/agent.py"
TOKEN = f"{HOME}/token"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SECCOMP_FD, INFO_FD, BLOCK_FD, TOKEN_FD, FIRST_FILE_FD = 3, 4, 5, 6, 7
"""Descriptor numbers inside bubblewrap; the launcher puts the open files there."""

_ETC_BINDS = ("ssl", "pki", "ca-certificates", "alternatives", "ld.so.cache", "localtime")
_ROOT_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True, slots=True)
class CarriedFile:
    """A file made inside the sandbox from memory: absolute path, permission bits, content."""

    path: str
    mode: int
    data: bytes


ETC = (
    CarriedFile("/etc/passwd", 0o444, f"job:x:{JOB_UID}:{JOB_UID}:job:/job:/bin/sh\n".encode()),
    CarriedFile("/etc/group", 0o444, f"job:x:{JOB_UID}:\n".encode()),
    CarriedFile("/etc/hosts", 0o444, b"127.0.0.1 localhost runner\n::1 localhost\n"),
    CarriedFile("/etc/nsswitch.conf", 0o444, b"passwd: files\ngroup: files\nhosts: files\n"),
    CarriedFile("/etc/resolv.conf", 0o444, b"# no name service: the egress gateway resolves\n"),
)


def arguments(
    pool: SandboxPool, binds: Sequence[tuple[str, str]], files: Sequence[CarriedFile], program: Sequence[str]
) -> list[str]:
    """Everything after `bwrap`. `binds` are (source, destination) of the toolchain; `program` runs as PID 1."""
    return [
        *_namespaces(),
        *_host_folders(),
        *_writable(pool),
        *(part for source, destination in binds for part in ("--ro-bind", source, destination)),
        *_carried(files),
        *("--chdir", "/job", "--remount-ro", "/"),
        *("--seccomp", str(SECCOMP_FD), "--info-fd", str(INFO_FD), "--block-fd", str(BLOCK_FD)),
        "--",
        *program,
    ]


def _namespaces() -> list[str]:
    return [
        *("--unshare-user", "--uid", str(JOB_UID), "--gid", str(JOB_UID)),
        *("--unshare-all", "--disable-userns", "--hostname", "runner"),
        *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
        *("--clearenv", "--setenv", "PATH", PATH, "--setenv", "LC_ALL", "C.UTF-8"),
    ]


def _host_folders(root: Path = Path("/")) -> list[str]:
    parts = ["--ro-bind", "/usr", "/usr"]
    for name in _ROOT_LINKS:
        path = root / name
        if path.is_symlink():
            parts += ["--symlink", str(path.readlink()), f"/{name}"]
        elif path.is_dir():
            parts += ["--ro-bind", f"/{name}", f"/{name}"]
    parts += ["--dir", "/etc"]
    for name in _ETC_BINDS:
        if (root / "etc" / name).exists():
            parts += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    return parts


def _writable(pool: SandboxPool) -> list[str]:
    return [
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--size", str(pool.shm_bytes), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(pool.tmp_bytes), "--tmpfs", "/tmp"),
        *("--perms", "0700", "--size", str(pool.workspace_bytes), "--tmpfs", "/job"),
        *("--dir", "/var", "--symlink", "../tmp", "/var/tmp"),
    ]


def _carried(files: Sequence[CarriedFile]) -> list[str]:
    parts = ["--perms", "0755", "--dir", "/run", "--perms", "0755", "--dir", HOME]
    for number, file in enumerate(files, FIRST_FILE_FD):
        parts += ["--perms", f"{file.mode:04o}", "--file", str(number), file.path]
    return [*parts, "--perms", "0400", "--file", str(TOKEN_FD), TOKEN]
