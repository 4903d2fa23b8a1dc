"""Bombs go off inside and nothing outside notices. Which limits hold depends on the machine; each is asked for."""

from __future__ import annotations

import json
import re

import pytest

from orchestrator.model.runner import ExitCause

pytestmark = pytest.mark.sandbox

FORK_BOMB = """exec python3 - <<'END'
import os, signal, time
born = 0
try:
    for _ in range(500):
        if os.fork() == 0:
            signal.pause()
        born += 1
except OSError as error:
    print(born, type(error).__name__)
END
"""

THREAD_BOMB = """exec python3 - <<'END'
import threading; threading.stack_size(65536)

stop, threads = threading.Event(), []
try:
    for _ in range(500):
        threads.append(threading.Thread(target=stop.wait)); threads[-1].start()
except RuntimeError:
    print(len(threads) - 1)
stop.set()
END
"""

MEMORY_BOMB = """exec python3 -c '
held = []
while True: held.append(bytearray(4 << 20)); held[-1][::4096] = b"x" * 1024
'"""


def test_a_fork_bomb_stops_at_the_limit_of_its_own_sandbox(forked):
    async def two_at_once(world, say):
        other = await world.launch(
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 60 & done; echo up; wait"
        )
        await world.said(other, "up")
        view, output = await world.run(FORK_BOMB)
        threads, counted = await world.run(THREAD_BOMB)
        say(json.dumps([output, view.exit_code, counted, threads.exit_code]))

    output, code, counted, threads_code = json.loads(forked(two_at_once).join())
    assert (code, threads_code) == (0, 0)
    born, kind = output.split()
    assert kind == "BlockingIOError"
    # all of this sandbox's limit of 48, though another one of the same user holds 20 processes
    assert 44 <= int(born) <= 48
    assert 40 <= int(counted) <= 48


async def test_a_memory_bomb_ends_its_job_and_is_told_apart(world):
    view, output = await world.run(MEMORY_BOMB)
    if "memory" in world.backend.status.controllers:
        assert view.cause is ExitCause.OUT_OF_MEMORY, output
        assert view.exit_code == 137
        assert re.search(r"killed \d+ process", view.detail)
    else:
        assert "MemoryError" in output


async def test_a_job_that_survives_the_death_of_a_greedy_child_is_not_called_out_of_memory(world):
    if "memory" not in world.backend.status.controllers:
        pytest.skip("memory is not limited for the whole sandbox here")
    bomb = MEMORY_BOMB.removeprefix("exec ")
    view, _ = await world.run(f"{bomb} || true\nexit 0")
    assert (view.exit_code, view.cause) == (0, ExitCause.EXITED)


def test_without_control_groups_memory_is_still_bounded_for_each_process(forked, worlds):
    async def bomb(world, say):
        view, output = await world.run(MEMORY_BOMB)
        say(json.dumps([world.backend.status.controllers, view.exit_code, output]))

    controllers, code, output = json.loads(forked(bomb).join())
    assert code != 0
    assert "memory" in controllers or "MemoryError" in output


@pytest.mark.parametrize(("folder", "size"), [("/job", 32 << 20), ("/tmp", 16 << 20), ("/dev/shm", 8 << 20)])
async def test_a_full_disk_is_the_jobs_own(world, folder, size):
    view, output = await world.run(f"dd if=/dev/zero of={folder}/fill bs=1M || echo full; stat -c %s {folder}/fill")
    assert view.exit_code == 0
    assert "No space left on device" in output
    assert size - (1 << 20) <= int(output.split()[-1]) <= size


async def test_an_inode_bomb_is_contained(world):
    if "memory" not in world.backend.status.controllers:
        pytest.skip("inodes are bounded by the memory control group only")
    script = """exec python3 -c '
import os
os.mkdir("/tmp/d")
for n in range(10**7): os.close(os.open("/tmp/d/%d" % n, os.O_CREAT | os.O_WRONLY))
'"""
    view, output = await world.run(script)
    assert view.cause is ExitCause.OUT_OF_MEMORY or "No space left" in output


async def test_file_size_core_and_descriptor_limits_hold(worlds):
    from dataclasses import replace

    world = worlds.World(pools={"default": replace(worlds.SMALL, max_file_bytes=1 << 20, max_open_files=64)})
    await world.backend.start()
    try:
        view, output = await world.run(
            "ulimit -c; ulimit -n; ! ulimit -n 65; head -c 2000000 /dev/zero > big || echo too big; stat -c %s big"
        )
    finally:
        await world.backend.close()
    assert view.exit_code == 0, output
    lines = output.splitlines()
    assert lines[:2] == ["0", "64"]
    assert lines[-1] == str(1 << 20)


async def test_a_processor_quota_holds(worlds):
    from dataclasses import replace

    world = worlds.World(pools={"default": replace(worlds.SMALL, cpu_cores=0.25)})
    await world.backend.start()
    try:
        if "cpu" not in world.backend.status.controllers:
            pytest.skip("no cpu control group here")
        _, output = await world.run(
            """python3 -c '
import time
wall = time.monotonic()
while time.process_time() < 0.3: pass
print(time.process_time() / (time.monotonic() - wall))
'"""
        )
    finally:
        await world.backend.close()
    assert float(output) < 0.6
