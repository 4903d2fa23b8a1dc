"""Runs an owner's program: bounded in time and output, and never two at once for one secret, daemons included.

It gets a JSON object on standard input and nothing secret anywhere else. Its standard output may be a value, so it goes
to the caller alone; its standard error goes nowhere. A lock that the program inherits says for how long it, or anything
it started, may still be at work: also when the daemon that started it was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from orchestrator.errors import TryAgainError
from orchestrator.identity.secrets.registry import Hook
from orchestrator.identity.secrets.state import MAX_VALUE_BYTES

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BUSY: Final = "secret_hook_busy"
_CHUNK: Final = 16 << 10


def _failed(why: str) -> TryAgainError:
    return TryAgainError(
        f"the hook {why}", reason="secret_hook_failed", fix="run it by hand; its own words are not kept"
    )


async def run_hook(hook: Hook, folder: Path, name: str, step: str, document: Mapping[str, str | None]) -> str:
    """What the program for this step of this secret printed.

    `folder` is the daemon's own; locks and the program's working folder lie there.

    Raises:
        TryAgainError: reason `secret_hook_busy` (an earlier run may still be at work) or `secret_hook_failed` (it
            cannot be run, took too long, printed too much, or its exit code was not 0).
    """
    work = folder / "work"
    work.mkdir(mode=0o700, exist_ok=True)
    given = json.dumps({"name": name, "step": step, **document}).encode()
    with _lock(folder / f"{name}.lock") as lock:
        try:
            process = await asyncio.create_subprocess_exec(
                *hook.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=work,
                env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(work), "ORCHESTRATOR_SECRET_STEP": step},
                pass_fds=(lock,),
                start_new_session=True,
            )
        except OSError as error:
            raise _failed(f"cannot be run: {error.strerror}") from None
        try:
            async with asyncio.timeout(hook.timeout_seconds):
                printed = await _talk(process, given)
                code = await process.wait()
        except TimeoutError:
            raise _failed(f"was not done within {hook.timeout_seconds:g} s") from None
        finally:
            _end(process)
            await process.wait()
    if code:
        raise _failed(f"ended with exit code {code}")
    try:
        return printed.decode()
    except UnicodeDecodeError:
        raise _failed("printed something that is no UTF-8 text") from None


async def _talk(process: asyncio.subprocess.Process, given: bytes) -> bytes:
    assert process.stdin is not None, "a pipe"
    assert process.stdout is not None, "a pipe"
    with contextlib.suppress(ConnectionError):  # it need not read
        process.stdin.write(given)
        await process.stdin.drain()
    process.stdin.close()
    printed = b""
    while chunk := await process.stdout.read(_CHUNK):
        printed += chunk
        if len(printed) > MAX_VALUE_BYTES + 1:
            raise _failed(f"printed more than {MAX_VALUE_BYTES} bytes")
    return printed


def _end(process: asyncio.subprocess.Process) -> None:
    """It leads a session of its own, so whatever it left behind goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[int]:
    """The descriptor of a locked file; the lock ends when the last copy of the descriptor is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TryAgainError(
                "the hook was started before, and it or what it started is still at work",
                reason=BUSY,
                fix="wait for its end, or end its processes",
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)
