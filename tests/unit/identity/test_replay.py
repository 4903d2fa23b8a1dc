"""Spent tokens: bounded, kept over restarts, and not lost to a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading

import pytest

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.identity.replay import ReplayStore


async def test_a_token_is_tied_to_its_first_key_until_its_time():
    store = ReplayStore(None, 0)
    assert await store.spend("token", "one", until=100, now=0)
    assert await store.spend("token", "one", until=100, now=50)
    assert not await store.spend("token", "two", until=100, now=99)
    assert await store.spend("token", "two", until=200, now=100)


async def test_a_restart_forgets_nothing_and_keeps_no_token_text(tmp_path):
    path = tmp_path / "spent"
    store = ReplayStore(path, 0)
    assert await store.spend("token-text", "key-text", until=100, now=0)
    assert await store.spend("short", "key-text", until=10, now=0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"text" not in path.read_bytes()
    again = ReplayStore(path, 50)
    assert len(again) == 1
    assert not await again.spend("token-text", "other", until=100, now=50)
    assert await again.spend("token-text", "key-text", until=100, now=50)


async def test_of_two_at_once_one_wins(tmp_path):
    store = ReplayStore(tmp_path / "spent", 0)
    results = await asyncio.gather(*(store.spend("token", f"key-{i}", until=100, now=0) for i in range(8)))
    assert sorted(results) == [False] * 7 + [True]


async def test_memory_is_bounded_and_room_is_made_by_time():
    store = ReplayStore(None, 0, max_entries=3)
    for i in range(3):
        assert await store.spend(f"token-{i}", "key", until=10 + i, now=0)
    with pytest.raises(TryAgainError) as caught:
        await store.spend("one-more", "key", until=100, now=9)
    assert caught.value.reason == "replay_store_full"
    assert await store.spend("one-more", "key", until=100, now=10)


async def test_the_file_is_bounded_too(tmp_path):
    path = tmp_path / "spent"
    store = ReplayStore(path, 0)
    store._lines = 5000
    assert await store.spend("token", "key", until=100, now=0)
    assert len(path.read_bytes().splitlines()) == 1
    assert len(ReplayStore(path, 1)) == 1


async def test_a_use_that_cannot_be_written_does_not_count(tmp_path, monkeypatch):
    store = ReplayStore(tmp_path / "spent", 0)

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(TryAgainError) as caught:
            await store.spend("token", "one", until=100, now=0)
    assert caught.value.reason == "replay_store_unwritable"
    assert await store.spend("token", "two", until=100, now=0)


async def test_a_line_that_a_full_disk_cut_counts_for_nothing_and_spoils_no_other(tmp_path, monkeypatch):
    path = tmp_path / "spent"
    store = ReplayStore(path, 0)
    assert await store.spend("first", "one", until=100, now=0)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
        with pytest.raises(TryAgainError) as caught:
            await store.spend("cut", "one", until=100, now=0)
    assert caught.value.reason == "replay_store_unwritable"
    assert await store.spend("next", "one", until=100, now=0)
    again = ReplayStore(path, 1)
    assert not await again.spend("first", "two", until=100, now=1)
    assert not await again.spend("next", "two", until=100, now=1)
    assert await again.spend("cut", "two", until=100, now=1)


@pytest.mark.parametrize("tail", [b'["cut', b"\xff\xfe\n", b"[]\n", b"{}\n", b"[1, 2, 3]\n", b"\0" * 100])
async def test_a_line_cut_by_a_crash_is_dropped_alone(tmp_path, tail):
    path = tmp_path / "spent"
    store = ReplayStore(path, 0)
    await store.spend("token", "key", until=100, now=0)
    with path.open("ab") as file:
        file.write(tail)
    assert len(ReplayStore(path, 1)) == 1


@pytest.mark.parametrize(
    "middle", [b'["cut\n', b"\xff\xfe\n", b"[]\n", b"{}\n", b"[1, 2, 3]\n", b"\0\n", b"\n", b"[" * 9999 + b"\n"]
)
async def test_no_other_line_is_dropped(tmp_path, middle):
    path = tmp_path / "spent"
    store = ReplayStore(path, 0)
    await store.spend("token", "key", until=100, now=0)
    whole = path.read_bytes() + middle + path.read_bytes()
    path.write_bytes(whole)
    with pytest.raises(ConfigurationError, match="is damaged: line 2 is not what was written") as caught:
        ReplayStore(path, 1)
    assert caught.value.reason == "replay_store_unreadable"
    assert path.read_bytes() == whole


def test_a_store_that_cannot_be_read_is_a_clear_error(tmp_path):
    (tmp_path / "spent").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        ReplayStore(tmp_path / "spent", 0)
    assert caught.value.reason == "replay_store_unreadable"


async def test_whoever_gives_up_leaves_nothing_that_another_relies_on_before_it_is_on_disk(tmp_path):
    path = tmp_path / "spent"
    store, begun, gate = ReplayStore(path, 0), threading.Event(), threading.Event()
    append = store._append

    def refused(*_given):
        store._append = append
        begun.set()
        gate.wait(20)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store._append = refused
    first = asyncio.create_task(store.spend("token", "key", until=100, now=0))
    await asyncio.to_thread(begun.wait, 20)
    first.cancel()
    second = asyncio.create_task(store.spend("token", "key", until=100, now=0))
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    assert await second
    assert len(ReplayStore(path, 1)) == 1
    await asyncio.wait([first])
