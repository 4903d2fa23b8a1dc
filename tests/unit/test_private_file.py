"""A private file is made once, for one user, whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from orchestrator import private_file
from orchestrator.private_file import create_private_file


def test_it_is_for_its_user_alone_whatever_the_mask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_private_file(tmp_path / "key", b"secret", 1_700_000_000_123_456_789)
    finally:
        os.umask(before)
    found = (tmp_path / "key").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o600, 1_700_000_000_123_456_789)
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_what_is_there_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            create_private_file(tmp_path / name, b"secret")
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_left_of_one_that_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a key would be in the way of the next try."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_private_file(tmp_path / "key", b"secret")
    assert list(tmp_path.iterdir()) == []


def test_of_two_threads_that_replace_one_file_each_does_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync, begun, gate = tmp_path / "key", os.fsync, threading.Event(), threading.Event()
    failed: list[OSError] = []

    def held(descriptor: int) -> None:
        if not begun.is_set():
            begun.set()
            gate.wait(20)
        sync(descriptor)

    def replace(data: bytes) -> None:
        try:
            private_file.replace_private_file(path, data)
        except OSError as error:
            failed.append(error)

    monkeypatch.setattr(os, "fsync", held)
    first = threading.Thread(target=replace, args=(b"first",))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=replace, args=(b"second",))
    second.start()
    second.join(0.3)  # where nothing holds it, it is done by now
    gate.set()
    first.join(20)
    second.join(20)
    assert not failed
    assert path.read_bytes() == b"second"
    assert not private_file._turns, "nothing is kept of files that nobody writes"
