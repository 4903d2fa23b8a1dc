"""A private file is made once, for one user, whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

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
