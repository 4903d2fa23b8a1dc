"""Tokens in files, for programs that read them there: whole or not at all, for this user only, and kept fresh."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import sha256

from .exchange import Answer
from .runner_api import RefusedError

RETRY_SECONDS = (1.0, 2.0, 5.0, 15.0)
SHORTEST_PAUSE_SECONDS = 0.5


def put(path: str, text: str) -> None:
    """Mode 0600, by a rename within the folder: a reader sees the old token or the new one.

    Raises:
        OSError: it cannot be written there; with the path that was asked for.
    """
    try:
        _put(path, text)
    except OSError as error:
        told = f"{path} cannot be written: {error.strerror}; name a file in a folder that this job may write to"
        raise OSError(told) from error


def _put(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def own_file(*about: str) -> str:
    """A path for a token in a folder that nobody else may enter; the same for the same `about`.

    Raises:
        OSError: somebody else made that folder.
    """
    folder = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"orchestrator-token-{os.geteuid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        found = os.lstat(folder)
        if found.st_uid != os.geteuid() or found.st_mode & 0o170077 != 0o040000:
            raise OSError(f"{folder} is not a folder of this user alone; remove it, or name a file") from None
    return os.path.join(folder, sha256("\0".join(about).encode()).hexdigest()[:20])


def keep_fresh(path: str, answer: Answer, ask: Callable[[], Answer]) -> None:
    """Go on in a process of its own that renews `path` until the job ends, or asking is refused for good.

    Its output is closed, so that nothing waits for it. Why it ended is then in `PATH.refused`.
    """
    if os.fork():
        return
    try:
        os.setsid()
        if not os.fork():
            _detach()
            _renew(path, answer, ask)
    finally:
        os._exit(0)


def _detach() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)


def _renew(path: str, answer: Answer, ask: Callable[[], Answer]) -> None:
    failures = 0
    wait = pause(answer.expires_in)
    while True:
        time.sleep(wait)
        try:
            fresh = ask()
            put(path, fresh.token)
        except RefusedError as error:
            if error.final:
                put(path + ".refused", f"{error}\n")
                return
            wait = max(float(error.retry_after), RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1
        except (OSError, ValueError, KeyError):
            wait = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            failures += 1
        else:
            failures, wait = 0, pause(fresh.expires_in)


def pause(expires_in: int) -> float:
    """Seconds until a token of this life is renewed: two thirds, so that whoever reads it has a third left."""
    return max(expires_in * 2 / 3, SHORTEST_PAUSE_SECONDS)
