"""`orchestrator-github-runner PROGRAM [ARGUMENT ...]`: become GitHub's runner, registered for exactly one job.

The registration came with the work, as a file. It is read once and handed to PROGRAM (`run.sh` of a runner's release)
in its environment, never as an argument, with the hooks that report the job and with what lets the runner's end be told
apart. The runner writes beside its own program: where that lies read-only, it is copied first.

It is delivered into the sandbox, or the pod, as one file and runs with whatever Python 3.9+ is there; the program then
takes its place, so that signals and the exit code are the program's own. Failures before that exit with the codes of
`sysexits.h`: 64 called in a wrong way, 66 no registration, 71 operating system error.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

JIT_FILE = "jitconfig"
MAX_JIT_BYTES = 1 << 20
HOOK = "orchestrator-github-hook"
COMPLETED = r"""if [ -n "$ORCHESTRATOR_JOB_ID" ]; then
    printf 'job %s: evidence is made when the runner is gone\n' "$ORCHESTRATOR_JOB_ID"
fi"""
"""Without a program of ours: an interpreter's start would be a quarter of all that such a job costs."""
LISTENER = os.path.join("bin", "Runner.Listener")
COPY = "actions-runner"
LEFT_OUT = frozenset({"_diag", "_work"})
LINKED = frozenset({"externals"})
"""Most of a release and never written to: interpreters for actions, which are found by this path alone."""

EX_USAGE, EX_NOINPUT, EX_OSERR = 64, 66, 71


def main(arguments: list[str]) -> NoReturn:
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command or command[0].startswith("-"):
        fail(EX_USAGE, "usage: orchestrator-github-runner PROGRAM [ARGUMENT ...]")
    home = os.environ.get("HOME") or "/job"
    environment = runner_environment(dict(os.environ), registration(), hooks(home))
    folder, program = writable(command[0], home)
    os.chdir(folder)
    os.execve(program, [program, *command[1:]], environment)


def fail(code: int, message: str) -> NoReturn:
    os.write(2, f"orchestrator-github-runner: {message}\n".encode("utf-8", "replace"))
    sys.exit(code)


def registration() -> str:
    """The just-in-time configuration. Its file goes where it can: a pod's is read-only, and good for one use anyway."""
    path = os.path.join(os.environ.get("ORCHESTRATOR_FILES", ""), JIT_FILE)
    try:
        with open(path, encoding="ascii") as file:
            found = file.read(MAX_JIT_BYTES + 1).strip()
    except (OSError, UnicodeDecodeError):
        fail(EX_NOINPUT, "there is no registration: none came with the work, or it was used already")
    try:  # noqa: SIM105 -- contextlib would cost an import
        os.unlink(path)
    except OSError:
        pass
    if not found or len(found) > MAX_JIT_BYTES:
        fail(EX_NOINPUT, "the registration that came with the work is empty or too long")
    return found


def runner_environment(variables: dict[str, str], jit: str, hooks: tuple[str, str]) -> dict[str, str]:
    """The runner takes ACTIONS_RUNNER_INPUT_* out of its environment before it starts anything."""
    variables.pop("ORCHESTRATOR_FILES", None)
    variables.setdefault("RUNNER_MANUALLY_TRAP_SIG", "1")  # SIGTERM reaches the listener, which then ends its job
    variables["ACTIONS_RUNNER_INPUT_JITCONFIG"] = jit
    variables["ACTIONS_RUNNER_HOOK_JOB_STARTED"], variables["ACTIONS_RUNNER_HOOK_JOB_COMPLETED"] = hooks
    variables["ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"] = "1"
    return variables


def hooks(home: str) -> tuple[str, str]:
    """Job-started and job-completed: the runner takes only files that end in `.sh` and lie outside its own folder.

    The latter is a line for who reads the log: the job's end is told by GitHub, never by what runs beside the job.
    """
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), HOOK)
    folder = os.path.join(home, ".orchestrator")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    quoted = "'" + program.replace("'", "'\\''") + "'"
    return written(folder, "job-started", f"exec {quoted} job-started"), written(folder, "job-completed", COMPLETED)


def written(folder: str, event: str, command: str) -> str:
    path = os.path.join(folder, event + ".sh")
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"#!/bin/sh\n{command}\n")
    os.chmod(path, 0o500)
    return path


def writable(program: str, home: str) -> tuple[str, str]:
    """The folder to run in and the program: where they are, or a copy below `home` of a release that lies read-only.
    What is no release of GitHub's runner is left where it is."""
    folder = os.path.dirname(os.path.abspath(program))
    root = next((at for at in (folder, os.path.dirname(folder)) if os.path.isfile(os.path.join(at, LISTENER))), None)
    if root is None or os.access(root, os.W_OK):
        return root or home, os.path.abspath(program)
    target = os.path.join(home, COPY)
    copy(root, target)
    return target, os.path.join(target, os.path.relpath(os.path.abspath(program), root))


def copy(root: str, target: str) -> None:
    import shutil  # many need none

    os.mkdir(target, 0o700)
    for entry in sorted(os.scandir(root), key=lambda found: found.name):
        there = os.path.join(target, entry.name)
        if entry.name in LEFT_OUT:
            continue
        if entry.name in LINKED:
            os.symlink(entry.path, there)
        elif entry.is_dir(follow_symlinks=False):
            shutil.copytree(entry.path, there, symlinks=True, copy_function=shutil.copy)
        else:
            shutil.copy(entry.path, there, follow_symlinks=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        fail(EX_OSERR, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
