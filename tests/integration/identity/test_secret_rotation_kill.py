"""A daemon that is killed in the middle of a rotation: the value it has always works, and the next one goes on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.errors import TryAgainError
from orchestrator.identity.secrets.registry import Hook, Registered
from orchestrator.identity.secrets.rotation import Rotations
from orchestrator.identity.secrets.state import StateStore
from orchestrator.identity.secrets.value import Value, present

HERE = Path(__file__).parent
HOOK = HERE.parents[1] / "unit" / "identity" / "secrets" / "hook.py"
FIRST = "first-value-of-the-key"


class Scene:
    def __init__(self, folder: Path) -> None:
        self.state, self.place, self.file = folder / "state", folder / "place", folder / "deploy-key"
        self.place.mkdir()
        (self.place / "works.json").write_text(json.dumps([FIRST]))
        self.file.write_text(FIRST)
        self.file.chmod(0o400)
        self.started: list[subprocess.Popen[bytes]] = []

    def rotator(self, point: str = "") -> subprocess.Popen[bytes]:
        words = [str(HERE / "rotator.py"), str(self.state), str(HOOK), str(self.place), str(self.file)]
        process = subprocess.Popen([sys.executable, *words, *([point] if point else [])])
        self.started.append(process)
        return process

    @property
    def works(self) -> list[str]:
        return list(json.loads((self.place / "works.json").read_text()))

    def behave(self, how: str) -> None:
        (self.place / "how").write_text(how)

    def next_daemon(self) -> tuple[Rotations, Registered]:
        program = Hook((sys.executable, "-I", "-S", str(HOOK), str(self.place)), 20)
        secret = Registered("deploy-key", "team-a", 1, 1, self.file, pools=("default",), rotate=program)
        return Rotations(StateStore(self.state), time.time_ns), secret


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene(tmp_path)
    yield found
    (found.place / "open").touch()
    for process in found.started:
        if process.poll() is None:
            process.kill()
        process.wait()


def now(rotations: Rotations, secret: Registered) -> Value:
    """The value that a job would be given."""
    return present(secret, rotations.state(secret.name))


async def goes_on(scene: Scene) -> None:
    """The next daemon has a value that works, and ends with the new one and nothing else."""
    rotations, secret = scene.next_daemon()
    value = now(rotations, secret)
    assert value.text in scene.works
    if rotations.state("deploy-key").making is not None or value.number == 0:
        await rotations.begin(secret, "next")
        value = await rotations.make(secret)
    assert value.text in scene.works
    await rotations.finish(secret, lambda _value: False)
    assert scene.works == [now(rotations, secret).text]
    assert scene.works != [FIRST]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("side", ["before", "behind"])
async def test_killed_around_each_store_of_a_state(scene, side, number):
    assert scene.rotator(f"{side} {number}").wait() == -9
    await goes_on(scene)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["before", "behind", "own behind"])
async def test_killed_while_its_hook_works(scene, how):
    scene.behave(how)
    daemon = scene.rotator()
    gate = scene.place / how.split()[-1]
    await until(gate.exists)
    hook = psutil.Process(int(gate.read_text()))
    daemon.kill()
    daemon.wait()
    rotations, secret = scene.next_daemon()
    assert now(rotations, secret).text == FIRST
    with pytest.raises(TryAgainError) as busy:  # two hooks at once could each undo what the other does
        await rotations.make(secret)
    assert busy.value.reason == "secret_hook_busy"
    (scene.place / "open").touch()
    await until(lambda: not hook.is_running())
    scene.behave(how.removesuffix("behind").removesuffix("before"))
    await goes_on_after_its_own_value(scene) if "own" in how else await goes_on(scene)


async def goes_on_after_its_own_value(scene: Scene) -> None:
    """A place that makes values by itself made one that nobody heard of: the old one works, and so does the next."""
    rotations, secret = scene.next_daemon()
    assert now(rotations, secret).text == FIRST
    value = await rotations.make(secret)
    await rotations.finish(secret, lambda _value: False)
    assert value.text in scene.works
    assert FIRST not in scene.works


async def until(holds) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def test_the_lock_ends_with_its_last_holder(scene):
    assert scene.rotator().wait() == 0
    assert os.access(scene.state / "deploy-key.lock", os.R_OK)
    assert scene.rotator().wait() == 0
