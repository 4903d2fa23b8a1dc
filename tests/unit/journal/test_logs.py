from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.journal import logs
from orchestrator.journal.logs import LogStore
from orchestrator.journal.redact import Masker
from orchestrator.model.events import LogClosed
from orchestrator.model.job import JobId

JOB = JobId("dispatch.a.1")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    made = LogStore(tmp_path / "logs", 10_000, Masker())
    yield made
    await made.close()


async def whole(store: LogStore, job_id: JobId = JOB, offset: int = 0) -> bytes:
    return b"".join([chunk async for chunk in store.read(job_id, offset)])


async def test_output_is_kept_masked_and_private(store: LogStore, tmp_path: Path) -> None:
    store._masker.register(JOB, "a-long-secret")
    writer = store.open(JOB)
    assert store.open(JOB) is writer
    for piece in (b"hello a-long", b"-secret wor", b"ld\nno line end"):
        writer.write(piece)
    closed = await writer.close()
    assert await writer.close() == closed == LogClosed(len(b"hello *** world\nno line end"), 0, 1)
    assert await whole(store) == b"hello *** world\nno line end"
    assert await whole(store, offset=6) == b"*** world\nno line end"
    assert await whole(store, offset=10**9) == b""
    assert await store.size(JOB) == closed.bytes_kept
    [file] = (tmp_path / "logs").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    writer.write(b"too late\n")
    assert await store.size(JOB) == closed.bytes_kept


async def test_whoever_is_cancelled_while_a_log_closes_keeps_nobody_waiting(store: LogStore) -> None:
    writer = store.open(JOB)
    writer.write(b"one\n")
    first = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    async with asyncio.timeout(5):
        assert await writer.close() == LogClosed(4, 0, 0)


async def test_a_disk_that_fails_at_the_very_end_keeps_nobody_waiting(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = store.open(JOB)
    writer.write(b"one\n")
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        if descriptor == writer._descriptor:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(logs.os, "close", fail)
    async with asyncio.timeout(5):
        assert await writer.close() == LogClosed(4, 0, 0)


async def test_a_silent_job_has_an_empty_log(store: LogStore) -> None:
    assert await store.open(JOB).close() == LogClosed(0, 0, 0)
    assert await store.size(JOB) == 0
    assert await store.size(JobId("dispatch.never.1")) is None
    assert await whole(store, JobId("dispatch.never.1")) == b""


async def test_what_is_over_the_limit_is_dropped_and_the_log_says_so(store: LogStore) -> None:
    writer = store.open(JOB)
    for _ in range(50):
        writer.write(b"x" * 999 + b"\n")
        await writer.drain()
    assert await writer.close() == LogClosed(10_000, 40_000, 0)
    text = await whole(store)
    assert text[:10_000] == (b"x" * 999 + b"\n") * 10
    assert b"40000 bytes of output were dropped" in text[10_000:]
    assert b"10000 bytes" in text[10_000:]
    assert len(text) < 10_200


async def test_a_follower_sees_output_as_it_comes_and_ends_with_the_log(store: LogStore) -> None:
    writer = store.open(JOB)
    follower = store.read(JOB, follow=True)
    for number in range(5):
        writer.write(b"line %d\n" % number)
        assert await asyncio.wait_for(anext(follower), 5) == b"line %d\n" % number
    rest = asyncio.ensure_future(anext(follower, None))
    await asyncio.sleep(0)
    assert not rest.done()
    await writer.close()
    assert await asyncio.wait_for(rest, 5) is None


async def test_many_followers_get_the_same(store: LogStore) -> None:
    writer = store.open(JOB)

    async def follow() -> bytes:
        return b"".join([chunk async for chunk in store.read(JOB, follow=True)])

    followers = [asyncio.ensure_future(follow()) for _ in range(5)]
    for number in range(200):
        writer.write(b"%d\n" % number)
        await asyncio.sleep(0)
    await writer.close()
    texts = await asyncio.wait_for(asyncio.gather(*followers), 10)
    assert set(texts) == {b"".join(b"%d\n" % number for number in range(200))}


async def test_a_follower_of_a_queued_job_waits_for_its_log(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = store.read(JOB, follow=True, unfinished=lambda: True)
    first = asyncio.ensure_future(anext(follower, None))
    await asyncio.sleep(0)
    writer = store.open(JOB)
    writer.write(b"at last\n")
    assert await asyncio.wait_for(first, 5) == b"at last\n"
    await writer.close()
    monkeypatch.setattr(logs, "_LOOK_SECONDS", 0.001)
    alive = [True, True, False]
    ghost = store.read(JobId("dispatch.ghost.1"), follow=True, unfinished=lambda: alive.pop(0))
    assert await asyncio.wait_for(anext(ghost, None), 5) is None
    assert not alive


async def test_a_restarted_daemon_goes_on_where_the_log_stood(tmp_path: Path) -> None:
    for text in (b"before\n", b"after\n"):
        store = LogStore(tmp_path, 10, Masker())
        store.open(JOB).write(text)
        await store.close()
    again = LogStore(tmp_path, 10, Masker())
    text = await whole(again)
    assert text.startswith(b"before\naft\n[orchestrator: 3 bytes of output were dropped")
    await again.close()


async def test_what_a_killed_daemon_wrote_after_its_mark_comes_again_once(tmp_path: Path) -> None:
    killed = LogStore(tmp_path, 1000, Masker())
    writer = killed.open(JOB)
    writer.write(b"one\ntwo\n")
    mark = await writer.settled()
    assert mark == 8
    writer.write(b"three\nfo")
    assert await writer.settled() is None, "half a line is held back"
    assert await whole(killed) == b"one\ntwo\nthree\n"
    after = LogStore(tmp_path, 1000, Masker())
    writer = after.open(JOB)
    await writer.rewind(mark)
    writer.write(b"three\nfour\n")
    closed = await writer.close()
    assert await whole(after) == b"one\ntwo\nthree\nfour\n"
    assert closed.bytes_kept == 19
    await after.close()
    await killed.close()


async def test_nothing_is_taken_away_from_a_log_that_is_shorter_than_its_mark(store: LogStore) -> None:
    writer = store.open(JOB)
    await writer.rewind(100)
    writer.write(b"one\n")
    await writer.close()
    assert await whole(store) == b"one\n"


async def test_a_full_disk_costs_output_not_the_job(store: LogStore) -> None:
    # The kernel refuses to grow files of this process beyond the limit, like a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = store.open(JOB)
    writer.write(b"first\n")
    while await store.size(JOB) != 6:
        await asyncio.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        writer.write(b"second line\n")
        while writer._flushing:
            await asyncio.wait([writer._flushing])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.write(b"third\n")
    closed = await writer.close()
    assert closed == LogClosed(len(b"first\nsecothird\n"), 8, 0)
    text = await whole(store)
    assert text.startswith(b"first\nseco\n[orchestrator: 8 bytes of output were lost here]\nthird\n")


async def test_a_slow_disk_bounds_memory_and_drain_avoids_the_loss(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_PENDING", 1000)
    lossy, careful = store.open(JOB), store.open(JobId("dispatch.b.1"))
    for _ in range(9):
        lossy.write(b"x" * 499 + b"\n")
        assert len(lossy._pending) <= 1000
    for _ in range(9):
        careful.write(b"x" * 499 + b"\n")
        await careful.drain()
    assert (await careful.close()).bytes_kept == 4500
    closed = await lossy.close()
    assert closed.bytes_kept == 1000
    assert closed.bytes_dropped == 3500
    assert b"too slow" in await whole(store)


async def test_old_logs_go_open_and_kept_ones_stay(store: LogStore, tmp_path: Path) -> None:
    names = [JobId(f"dispatch.{name}.1") for name in ("old", "kept", "open", "young")]
    for job_id in names:
        writer = store.open(job_id)
        writer.write(b"x\n")
        if "open" not in job_id:
            await writer.close()
    while await store.size(names[2]) != 2:
        await asyncio.sleep(0.001)
    for job_id in names[:3]:
        os.utime(tmp_path / "logs" / f"{job_id}.log", ns=(0, 0))
    assert await store.delete_older(10**12, 10**12, keep={names[1]}) == 1
    assert [await store.size(job_id) for job_id in names] == [None, 2, 2, 2]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a.b", "a.b.c", "", "a/b.c.1", "a.b.1\n", "x" * 300 + ".b.1"])
async def test_only_job_ids_name_files(store: LogStore, name: str) -> None:
    with pytest.raises(ValueError):
        store.open(JobId(name))
    with pytest.raises(ValueError):
        await anext(store.read(JobId(name)))


async def test_a_link_in_the_folder_is_not_followed(store: LogStore, tmp_path: Path) -> None:
    (tmp_path / "logs" / f"{JOB}.log").symlink_to(tmp_path / "target")
    writer = store.open(JOB)
    writer.write(b"x\n")
    assert await writer.close() == LogClosed(0, 2, 0)
    assert not (tmp_path / "target").exists()


async def test_a_disk_that_hangs_at_the_stop_hangs_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, begun, gate = LogStore(tmp_path / "logs", 10_000, Masker()), threading.Event(), threading.Event()
    rescue = threading.Timer(2.0, gate.set)
    rescue.start()

    def hung(_path: Path, _at: int) -> bytes:
        begun.set()
        gate.wait(20)
        return b""

    monkeypatch.setattr(logs, "_chunk", hung)
    reading = asyncio.create_task(whole(store))
    await asyncio.to_thread(begun.wait, 20)
    await store.close()
    assert not gate.is_set(), "the event loop stood still until the disk came back"
    gate.set()
    rescue.cancel()
    assert await reading == b""
