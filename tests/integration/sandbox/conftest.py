"""Real sandboxes for tests: as whoever runs them, and as a plain user by a forked, demoted process."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
import traceback
from pathlib import Path

import pytest

_FILE = Path(__file__).with_name("world.py")
_SPEC = importlib.util.spec_from_file_location("sandbox_world", _FILE)
world_module = sys.modules.get("sandbox_world")
if world_module is None:
    world_module = importlib.util.module_from_spec(_SPEC)
    sys.modules["sandbox_world"] = world_module
    _SPEC.loader.exec_module(world_module)

PLAIN_USER = 64_321
INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3", sys.executable)


@pytest.fixture
async def world():
    made = world_module.World()
    await made.backend.start()
    yield made
    await made.backend.close()


@pytest.fixture
def worlds():
    """The module with World, SMALL and the neighbours, for tests that need settings of their own."""
    return world_module


class Forked:
    """A process of its own that runs a scenario; `words` are what it has said so far."""

    def __init__(self, scenario, uid: int | None) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            _be(scenario, uid, write)
        os.close(write)
        self.words = b""

    def hear(self, until: bytes) -> bytes:
        while until not in self.words:
            chunk = os.read(self._read, 65536)
            assert chunk, f"the process ended; it said: {self.words.decode()}"
            self.words += chunk
        return self.words

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def join(self) -> str:
        """Wait for the end; its words, once it succeeded."""
        while chunk := os.read(self._read, 65536):
            self.words += chunk
        _, status = os.waitpid(self.pid, 0)
        assert status == 0, self.words.decode()
        return self.words.decode()


def _be(scenario, uid, write) -> None:
    code = 1
    try:
        signal.alarm(100)
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.environ.clear()
            # the tests' own interpreter may lie where this user cannot go
            sys.executable = next(path for path in INTERPRETERS if Path(path).exists())

        async def run() -> None:
            made = world_module.World()
            await made.backend.start()
            try:
                await scenario(made, lambda text: os.write(write, text.encode()))
            finally:
                await made.backend.close()

        asyncio.run(run())
        code = 0
    except BaseException:  # noqa: BLE001
        os.write(write, traceback.format_exc().encode())
    finally:
        os._exit(code)


@pytest.fixture(params=["self", "user"])
def forked(request):
    """Run `scenario(world, say)` in a forked process, as we are and as a plain user; returns a Forked."""
    if request.param == "user" and os.geteuid() != 0:
        pytest.skip("already a plain user")
    uid = PLAIN_USER if request.param == "user" else None
    made: list[Forked] = []

    def fork(scenario) -> Forked:
        made.append(Forked(scenario, uid))
        return made[-1]

    return fork
