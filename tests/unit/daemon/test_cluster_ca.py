"""The public CA in the state folder is always whole, and a start that has nothing new to write writes nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from orchestrator.daemon.cluster import room
from orchestrator.daemon.cluster.room import CA_FILE, publish_ca
from orchestrator.errors import ConfigurationError


def full_disk(path: Path, data: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_full_disk_stops_no_start_that_has_nothing_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_ca(tmp_path, "one\n")
    before = (tmp_path / CA_FILE).stat()
    monkeypatch.setattr(room, "replace_private_file", full_disk)
    publish_ca(tmp_path, "one\n")
    assert (tmp_path / CA_FILE).stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(ConfigurationError, match="No space left on device") as refused:
        publish_ca(tmp_path, "two\n")
    assert refused.value.fix
    assert (tmp_path / CA_FILE).read_text() == "one\n", "the old one is whole"


def test_a_new_one_takes_the_place_of_the_old_one_at_once(tmp_path: Path) -> None:
    """A backup reads files while they are replaced: one that is written anew in place could be half of it."""
    publish_ca(tmp_path, "one\n")
    with (tmp_path / CA_FILE).open() as reading:
        publish_ca(tmp_path, "two\n")
        assert reading.read() == "one\n"
    assert (tmp_path / CA_FILE).read_text() == "two\n"
    assert [path.name for path in tmp_path.iterdir()] == [CA_FILE]
