"""The daemon's own log in a bundle: what a real process wrote where it really wrote it, and of no other program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from orchestrator.cli.support import own_log
from orchestrator.cli.support.own_log import daemon_log
from orchestrator.errors import GiveUpError

_DAEMON = """
import sys
kept = open(sys.argv[1])
sys.stderr.write(sys.argv[2]); sys.stderr.flush()
print("ready", flush=True)
sys.stdin.read()
"""

Running = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "journal.db").touch()
    return state


@contextmanager
def running(folder: Path, said: str, stderr: int | IO[bytes], opens: str = "journal.db") -> Iterator[int]:
    """A process that has a file of the folder open and has said something."""
    words = [sys.executable, "-c", _DAEMON, str(folder / opens), said]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (folder / "daemon.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": process.pid}))
        try:
            yield process.pid
        finally:
            process.stdin.close()
            process.wait(30)


def test_the_end_of_a_file_is_taken_in_whole_lines(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_log, "MAX_LOG_BYTES", 30)
    with (tmp_path / "log").open("wb") as log, running(folder, "an older line\nfirst whole line\nlast line\n", log):
        assert daemon_log(folder) == "first whole line\nlast line\n"


def test_a_log_that_was_moved_away_is_still_read(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, running(folder, "a line\n", log):
        (tmp_path / "log").unlink()
        assert daemon_log(folder) == "a line\n"


def test_where_it_is_no_file_it_says_where_to_look(folder: Path) -> None:
    read, write = os.pipe()
    try:
        with running(folder, "a line\n", write) as pid, pytest.raises(GiveUpError, match="goes to pipe") as caught:
            daemon_log(folder)
        assert f"journalctl _PID={pid}" in str(caught.value)
    finally:
        os.close(read)
        os.close(write)


def test_a_process_that_has_a_killed_daemons_number_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "other").touch()
    with (
        (tmp_path / "log").open("wb") as log,
        running(folder, "what is not ours\n", log, opens="other"),
        pytest.raises(GiveUpError, match="no daemon runs"),
    ):
        daemon_log(folder)


@pytest.mark.parametrize("presence", [None, b"", b"[]", b"{}", b'{"pid": "1"}', b'{"pid": -1}', b'{"pid": 4194999}'])
def test_without_a_daemon_it_says_so(folder: Path, presence: bytes | None) -> None:
    if presence is not None:
        (folder / "daemon.json").write_bytes(presence)
    with pytest.raises(GiveUpError, match="no daemon runs"):
        daemon_log(folder)


def test_it_is_in_the_bundle_without_secrets(cli: Running, state: Path, tmp_path: Path) -> None:
    (state / "journal.db").touch()
    (state / "keys").mkdir()
    (state / "keys" / "one").write_text("vq7-kept-in-a-key-file")
    said = "ready\nrefused: vq7-kept-in-a-key-file\nCookie: vq7cookie=1\n"
    said += "-----BEGIN PRIVATE KEY-----\nvq7MIIE\n-----END PRIVATE KEY-----\nlast\n"
    with (tmp_path / "log").open("wb") as log, running(state, said, log):
        done = cli("support-bundle", "--output", str(tmp_path / "b.tar.gz"))
    assert done.exit_code == 0, done.output
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        found = tar.extractfile("b/daemon-log.txt")
        assert found is not None
        assert found.read() == b"ready\nrefused: ***\nCookie: ***\n***\nlast\n"
