"""Whoever dies first, nothing is left: processes, control groups, user ids, descriptors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.errors import TryAgainError
from orchestrator.model.runner import ExitCause, RunnerState

pytestmark = pytest.mark.sandbox

DAEMONS = """for i in 1 2 3 4 5; do
  setsid sh -c 'trap "" TERM HUP INT; exec </dev/null >/dev/null 2>&1; exec sleep MARK' &
done
while [ "$(grep -lz '^MARK$' /proc/[0-9]*/cmdline 2>/dev/null | wc -l)" -lt 5 ]; do :; done
echo up
"""


def marked(mark: str) -> list[int]:
    """Processes of this machine whose arguments hold the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"\0{mark}\0" in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def runs(pid: int) -> bool:
    """Is the process there and not merely waiting to be collected by init?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def descriptors() -> list[str]:
    return [entry.name for entry in Path("/proc/self/fd").iterdir()]


def control_groups(instance: str) -> list[str]:
    """Found by a walk, which unlike a glob bears folders that go away meanwhile."""
    folders = (folder for folder, _, _ in os.walk("/sys/fs/cgroup"))
    return [folder for folder in folders if Path(folder).name.startswith(f"orchestrator-{instance}")]


async def all_gone(mark: str, seconds: float = 5) -> float:
    began = time.monotonic()
    while left := marked(mark):
        assert time.monotonic() - began < seconds, f"still alive: {left}"
        await asyncio.sleep(0.002)
    return time.monotonic() - began


def mark_of(request) -> str:
    return f"777.{abs(hash((request.node.nodeid, os.getpid()))) % 10**8:08d}"


async def started(world, mark: str, then: str = "wait"):
    spec = await world.launch(DAEMONS.replace("MARK", mark) + then)
    await world.said(spec, "up")
    assert then != "wait" or len(marked(mark)) == 5
    return spec


async def test_daemons_of_a_finished_job_end_with_it(world, request):
    mark = mark_of(request)
    spec = await started(world, mark, "exit 0")
    view = await world.until(spec.name, RunnerState.EXITED)
    assert view.exit_code == 0
    assert marked(mark) == []


async def test_delete_ends_a_job_that_ignores_everything(worlds, request):
    mark = mark_of(request)
    world = worlds.World(grace=0.05)
    await world.backend.start()
    try:
        spec = await started(world, mark)
        await world.remove(spec)
        assert marked(mark) == []
    finally:
        await world.backend.close()


@pytest.mark.parametrize("victim", ["pid 1", "bwrap"])
async def test_a_killed_sandbox_is_reported_and_leaves_nothing(world, request, victim):
    mark = mark_of(request)
    spec = await started(world, mark)
    inner = world.backend._sandboxes[spec.name].pid
    outer = int(Path(f"/proc/{inner}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(inner if victim == "pid 1" else outer, signal.SIGKILL)
    view = await world.until(spec.name, RunnerState.EXITED)
    assert view.cause is (ExitCause.SIGNALLED if victim == "pid 1" else ExitCause.LOST)
    assert marked(mark) == []
    await world.remove(spec)


async def test_a_killed_launcher_takes_all_along_and_is_replaced(world, request):
    mark = mark_of(request)
    specs = [await started(world, mark, "wait")]
    first = world.backend._link.pid
    os.kill(first, signal.SIGKILL)
    view = await world.until(specs[0].name, RunnerState.EXITED)
    assert view.cause is ExitCause.LOST
    await all_gone(mark)
    await world.remove(specs[0])
    after, output = await world.run("echo again")
    assert (after.exit_code, output) == (0, "again\n")
    assert world.backend._link.pid != first


async def test_a_launcher_that_dies_during_starts_fails_them_for_now(world, worlds):
    specs = [worlds.spec_of(number) for number in range(4)]
    for spec in specs:
        world.api.scripts[spec.name] = {"script": "sleep 60"}
    creations = [asyncio.ensure_future(world.backend.create(spec)) for spec in specs]
    await asyncio.sleep(0.005)
    os.kill(world.backend._link.pid, signal.SIGKILL)
    for result in await asyncio.gather(*creations, return_exceptions=True):
        assert not isinstance(result, BaseException) or isinstance(result, TryAgainError)
    for spec in specs:
        await world.remove(spec)
    assert await world.backend.list() == []


def test_nothing_survives_a_sigkill_of_the_daemon(forked, request):
    mark = mark_of(request)

    async def daemon(world, say):
        for _ in range(2):
            await world.launch(DAEMONS.replace("MARK", mark) + "wait")
        for log in world.logs.logs.values():
            while b"up" not in log.data:
                await asyncio.sleep(0.005)
        say(json.dumps({"instance": world.config.instance, "launcher": world.backend._link.pid}) + "\n")
        await asyncio.sleep(60)

    process = forked(daemon)
    told = json.loads(process.hear(b"\n"))
    assert len(marked(mark)) == 10
    process.kill()
    os.waitpid(process.pid, 0)

    async def look():
        await all_gone(mark)
        until = time.monotonic() + 5
        while runs(told["launcher"]) or control_groups(told["instance"]):
            assert time.monotonic() < until, control_groups(told["instance"])
            await asyncio.sleep(0.005)

    asyncio.run(look())


async def test_close_ends_everything_and_gives_all_back(worlds, request):
    mark = mark_of(request)
    before = set(descriptors())
    world = worlds.World()
    await world.backend.start()
    await started(world, mark)
    launcher = world.backend._link.pid
    await world.backend.close()
    assert marked(mark) == []
    assert not Path(f"/proc/{launcher}").exists()
    assert control_groups(world.config.instance) == []
    assert not world.gateway.open_runners
    del world
    await asyncio.sleep(0)
    left = set(descriptors()) - before
    assert len(left) <= 1, left


async def test_many_short_lives_leave_nothing_in_the_daemon(world):
    async def one(number):
        view, _ = await world.run(f"exit {number % 7}")
        assert view.exit_code == number % 7
        await world.remove(next(spec for spec in specs(world) if spec.name == view.name))

    def specs(world):
        return [sandbox.spec for sandbox in world.backend._sandboxes.values()]

    await asyncio.gather(*(one(number) for number in range(4)))
    count = len(descriptors())
    for _ in range(3):
        await asyncio.gather(*(one(number) for number in range(8)))
    assert len(descriptors()) <= count + 1
    backend = world.backend
    assert not any((backend._sandboxes, backend._starting, backend._removing, backend._by_token))


def test_sandboxes_that_wait_end_with_daemon_and_launcher(forked):
    """Their token's pipe ends empty when the launcher dies, and they go on to an agent that has nothing to do here."""

    async def daemon(world, say):
        await world.launch("wait")
        launcher = world.backend._link.pid
        while len(descendants(launcher)) < 8:  # bubblewraps that wait, each with the PID 1 of its sandbox
            await asyncio.sleep(0.01)
        say(json.dumps({"launcher": launcher, "below": descendants(launcher)}) + "\n")
        await asyncio.sleep(60)

    process = forked(daemon)
    told = json.loads(process.hear(b"\n"))
    os.kill(process.pid, signal.SIGSTOP)  # so that it cannot help
    os.kill(told["launcher"], signal.SIGKILL)
    process.kill()
    os.waitpid(process.pid, 0)
    until = time.monotonic() + 2
    while left := [pid for pid in told["below"] if runs(pid)]:
        assert time.monotonic() < until, left
        time.sleep(0.005)


@pytest.mark.slow
async def test_a_pool_that_changes_again_and_again_costs_no_running_job(world):
    """Spares of the plan before end at any stage of being made, while others are made and end."""
    spec = await world.launch("echo up; sleep 300")
    await world.said(spec, "up")
    backend = world.backend
    for number in range(60):
        backend._define(backend._link, backend._plans, "default")
        await asyncio.sleep(number % 12 / 200)
    assert (await backend.inspect(spec.name)).state is RunnerState.ALIVE
    assert not backend._link.dead
    view, output = await world.run("echo still here")
    assert view.exit_code == 0, output
    await world.remove(spec)


async def test_a_launcher_that_not_even_a_kill_ends_holds_up_nobody(world, monkeypatch, caplog):
    """As one that waits for a disk in the kernel. A blocked event loop would let no other room be closed."""
    link = world.backend._link
    monkeypatch.setattr("orchestrator.backends.sandbox.link._STOP_SECONDS", 0.05)
    monkeypatch.setattr(link, "_kill_group", lambda: None)
    os.kill(link.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            await link.close()
        assert runs(link.pid)
        assert f"process {link.pid}, was killed and does not end" in caplog.text
    finally:
        os.kill(link.pid, signal.SIGCONT)
