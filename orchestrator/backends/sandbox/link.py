"""The daemon's side of the launcher: start it, send it requests, turn its messages into calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orchestrator
from orchestrator.backends.sandbox.launcher.messages import receive
from orchestrator.errors import ConfigurationError, TryAgainError

_PROGRAM = (
    "import sys; sys.path.append({root!r}); "
    "from orchestrator.backends.sandbox.launcher.main import main; main({descriptor}, {daemon})"
)
_STOP_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """A sandbox that is about to run: its two listeners and a pidfd of its PID 1; the receiver owns them."""

    gateway: socket.socket
    runner_api: socket.socket
    pidfd: int
    pid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a sandbox. `lost`: its supervisor was killed, so `code` says nothing about the job."""

    code: int | None
    oom_kills: int
    lost: bool


class Watcher(Protocol):
    """Who is told about one run, in this order; each descriptor becomes the watcher's."""

    def output(self, descriptor: int) -> None: ...

    def listening(self, listening: Listening) -> None: ...

    def failed(self, error: str) -> None: ...

    def exited(self, report: Exit) -> None: ...

    def orphaned(self) -> None:
        """The launcher died, and took the sandbox with it; nobody will report its end."""
        ...


class LauncherLink:
    """One launcher process. `dead` when it ended; a new link is made then."""

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self._hello = dict(hello)
        self._loop = asyncio.get_running_loop()
        self._watchers: dict[str, Watcher] = {}
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._ready: asyncio.Future[Mapping[str, Any]] = self._loop.create_future()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        with theirs:
            self._process = _spawn(theirs.fileno())
        self._loop.add_reader(self._ours.fileno(), self._readable)
        self.dead = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> Mapping[str, Any]:
        """What the launcher found: `version` of control groups, `controllers`, `privileged`.

        Raises:
            ConfigurationError: reason `isolation_unavailable`.
            TryAgainError: the launcher died at once.
        """
        self._send({"op": "hello", **self._hello})
        async with asyncio.timeout(_STOP_SECONDS):
            return await self._ready

    def define_pool(self, pool: Mapping[str, Any], files: Sequence[bytes]) -> None:
        """Tell the launcher how a pool's sandboxes are started; `files` begin with the seccomp program."""
        descriptors = tuple(_memory_file(data) for data in files)
        self._send({"op": "pool", **pool}, descriptors)

    def start(self, run: str, pool: str, watcher: Watcher, token: str) -> None:
        """Start a sandbox, or rather: let one that waits go on.

        Raises:
            TryAgainError: the launcher is dead.
        """
        if self.dead:
            raise TryAgainError("the launcher is gone", reason="launcher_lost")
        self._watchers[run] = watcher
        self._send({"op": "start", "run": run, "pool": pool, "token": token})

    def signal(self, run: str, number: int) -> None:
        """Signal a sandbox's PID 1; one that is gone is fine."""
        if not self.dead:
            self._send({"op": "signal", "run": run, "number": int(number)})

    async def close(self) -> None:
        """End the launcher and with it every sandbox, and wait for it.

        One that the kernel does not let go of even when it is killed, as on a disk that hangs, is left behind.
        """
        if not self.dead:
            self._drop()
        for _ in range(2):
            try:
                await self._loop.run_in_executor(None, self._process.wait, _STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._kill_group()
            else:
                return
        _log.error("the launcher, process %d, was killed and does not end; going on without it", self.pid)

    def _send(self, message: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        self._queue.append((json.dumps(message).encode(), descriptors))
        if len(self._queue) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._queue:
            data, descriptors = self._queue[0]
            try:
                socket.send_fds(self._ours, [data], descriptors, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._ours.fileno(), self._flush)
                return
            except OSError:
                self._drop()
                return
            self._queue.popleft()
            _close_all(descriptors)
        self._loop.remove_writer(self._ours.fileno())

    def _readable(self) -> None:
        try:
            data, descriptors = receive(self._ours)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if data:
            self._handle(json.loads(data), descriptors)
            return
        self._kill_group()
        self._drop()

    def _kill_group(self) -> None:
        """A bubblewrap cut off at its birth can leave a child that waits for it for ever. Until its last step
        everything the launcher started is in the launcher's process group, which its zombie keeps reserved."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _handle(self, message: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        watcher = self._watchers.get(message.get("run", ""))
        match message["op"]:
            case "ready":
                self._ready.set_result(message)
            case "unfit":
                fix = "give the daemon CAP_SYS_ADMIN, or run it as a normal user that can read the toolchain"
                error = ConfigurationError(
                    f"the launcher cannot prepare sandboxes: {message['error']}",
                    reason="isolation_unavailable",
                    fix=fix,
                )
                self._ready.set_exception(error)
            case "output" if watcher is not None:
                watcher.output(descriptors[0])
            case "listening" if watcher is not None:
                gateway, api = (socket.socket(fileno=number) for number in descriptors[:2])
                gateway.setblocking(False)
                api.setblocking(False)
                watcher.listening(Listening(gateway, api, descriptors[2], message["pid"]))
            case "failed" if watcher is not None:
                watcher.failed(message["error"])
            case "exited" if watcher is not None:
                del self._watchers[message["run"]]
                watcher.exited(Exit(message["code"], message["oom_kills"], message["lost"]))
            case _:
                _close_all(descriptors)

    def _drop(self) -> None:
        """The launcher is gone, or shall go: end-of-file tells it to end everything."""
        if self.dead:
            return
        self.dead = True
        self._loop.remove_reader(self._ours.fileno())
        self._loop.remove_writer(self._ours.fileno())
        self._ours.close()
        for _, descriptors in self._queue:
            _close_all(descriptors)
        self._queue.clear()
        if not self._ready.done():
            self._ready.set_exception(TryAgainError("the launcher died at its start", reason="launcher_lost"))
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers.values():
            watcher.orphaned()


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    """Fork from the calling thread: the launcher's parent-death signal follows that thread."""
    root = str(Path(orchestrator.__file__).resolve().parent.parent)
    program = _PROGRAM.format(root=root, descriptor=descriptor, daemon=os.getpid())
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program],
        env={},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,
    )


def _memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    return descriptor


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
