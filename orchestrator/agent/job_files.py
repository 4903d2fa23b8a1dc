"""What a pod's agent leaves for the job's container: the script, its environment, programs and the CA."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any
from urllib.parse import urlsplit

from orchestrator.agent.main import EX_OSERR, environment
from orchestrator.agent.surroundings import told

COMMANDS = {
    "orchestrator-token": "token.py",
    "orchestrator-artifact": "artifact.py",
    "orchestrator-github-runner": "github_runner.py",
    "orchestrator-github-hook": "github_hook.py",
}
LIBRARY = "tokens"
"""The folder of modules that `orchestrator-token` and `orchestrator-artifact` find in `../lib`."""
FILES = "files"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""For images that set none."""
FOR_THE_PROXY = {"GIT_HTTP_PROXY_AUTHMETHOD": "basic"}
"""git shows a proxy no credential before it was asked for one: a refused connection for each that it makes."""
READ_ONLY = frozenset({"UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO", "OPTIND", "LINENO"})
"""Variables that shells keep for themselves: in some of them setting one ends the script."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def write(work: dict[str, Any], ca_pem: str, folder: str, workspace: str) -> None:
    """Everything that the job's container needs; `start` last, so that there is never half a job."""
    commands = os.path.join(folder, "bin")
    os.makedirs(commands, exist_ok=True)
    os.chmod(commands, 0o755)
    for name, source in COMMANDS.items():
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), source), "rb") as file:
            put(os.path.join(commands, name), b"#!/usr/bin/env python3\n" + file.read(), 0o555)
    leave_library(os.path.join(folder, "lib", LIBRARY))
    ca_file, script = os.path.join(folder, "ca.pem"), os.path.join(folder, "job.sh")
    put(ca_file, ca_pem.encode(), 0o444)
    put(script, work["job"]["script"].encode("utf-8", "surrogateescape"), 0o444)
    found = variables(work, ca_file, workspace)
    if work.get("files"):
        place = found["ORCHESTRATOR_FILES"] = leave_files(work["files"], folder)
        named = work.get("file_variables") or {}
        found.update({variable: os.path.join(place, os.path.basename(name)) for variable, name in named.items()})
    start = start_script(found, commands, script, workspace)
    put(os.path.join(folder, "start"), start, 0o444)


def leave_library(place: str) -> None:
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), LIBRARY)
    os.makedirs(place, exist_ok=True)
    for parent in (os.path.dirname(place), place):
        os.chmod(parent, 0o755)
    for name in sorted(os.listdir(source)):
        if name.endswith(".py"):
            with open(os.path.join(source, name), "rb") as file:
                put(os.path.join(place, name), file.read(), 0o444)


def leave_files(files: dict[str, str], folder: str) -> str:
    """More of the work, in memory that only the pod's two containers see. The job's user is another one and its mount
    is read-only, so it cannot take a file away once it is read: a registration must be good for one use. Secrets stay
    readable to the job for as long as the pod lives, as they do in a sandbox."""
    place = os.path.join(folder, FILES)
    os.makedirs(place, exist_ok=True)
    os.chmod(place, 0o755)
    for name, content in files.items():
        put(os.path.join(place, os.path.basename(name)), content.encode("utf-8", "surrogateescape"), 0o444)
    return place


def put(path: str, data: bytes, mode: int) -> None:
    """The job's user is another one and may only read. Whole or not at all."""
    temporary = path + ".tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
    os.rename(temporary, path)


def variables(work: dict[str, Any], ca_file: str, workspace: str) -> dict[str, str]:
    """As in a sandbox, but for what TLS and the network between pods ask for."""
    found = environment(work)
    if "PATH" not in (work["job"].get("environment") or {}):
        del found["PATH"]  # the image's own stays
    found["HOME"] = found["HOME"] if "HOME" in (work["job"].get("environment") or {}) else workspace
    own = work["job"].get("environment") or {}
    host = urlsplit(work["exchange_url"]).hostname or ""
    for name in ("NO_PROXY", "no_proxy"):
        found[name] = ",".join(filter(None, (own.get(name) or "127.0.0.1,localhost", host)))
    found = FOR_THE_PROXY | found
    found["ORCHESTRATOR_CA_FILE"] = ca_file
    if work.get("otlp_endpoint"):
        found["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] = ca_file
    return found


def start_script(variables: dict[str, str], commands: str, script: str, workspace: str) -> bytes:
    """For any POSIX shell. What is no name to it cannot be set and is left out, with a word."""
    lines = [f'PATH={quoted(commands)}:"${{PATH:-{PATH}}}"', "export PATH"]
    for name, value in sorted(variables.items()):
        if not _NAME.fullmatch(name) or name in READ_ONLY or "\0" in value:
            told(0, f"the variable {name!r} cannot be set in a shell and is left out")
            continue
        lines += [f"{name}={quoted(value)}", f"export {name}"]
    lines += [f"cd {quoted(workspace)} || exit {EX_OSERR}", f"exec /bin/sh -e {quoted(script)}", ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def quoted(value: str) -> str:
    """One word to a POSIX shell, whatever is in it (POSIX.1-2017, XCU 2.2.2)."""
    return "'" + value.replace("'", "'\\''") + "'"
