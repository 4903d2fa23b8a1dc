"""What the gateway process gives up before it meets its first job. Linux only."""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401 - see `confine`: what is loaded late may not be readable any more
import os
import resource
import signal

MAX_OPEN_FILES = 65_536
MAX_MEMORY = 4 << 30
MAX_THREADS = 256

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def confine(uid: int | None, parent: int) -> int:
    """Become a process that dies with its parent, cannot gain privileges and leaves no core.

    Root changes to `uid` if it is given, without groups; another user who asks for that fails. Returns the number
    of open files allowed. To be called with one thread and everything imported.

    Raises:
        OSError: a step failed. Nothing may be served then.
    """
    files = limit()
    if uid is not None:
        if uid == 0:
            raise PermissionError("the gateway does not change to root")
        if os.getuid() != uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        _lower(resource.RLIMIT_NPROC, MAX_THREADS)
    give_up()
    # After the change of user, which clears it (prctl(2)).
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError("the parent is gone already")
    return files


def limit() -> int:
    """Private files, no cores, bounded memory; as many open files as may be, which is what is returned."""
    os.umask(0o077)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_DATA, MAX_MEMORY)  # not RLIMIT_AS: malloc reserves far more than it uses
    return files


def give_up() -> None:
    """Gain no privileges any more, and be read by nobody: not by ptrace, not through /proc.

    Raises:
        OSError: the kernel refuses. Nothing may be served then.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    limit = value if hard == resource.RLIM_INFINITY else min(hard, value)
    resource.setrlimit(kind, (limit, limit))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")
