"""A folder of backups keeps no more than it should; a restore moves aside what is there, and back when it fails."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.daemon.backup import room
from orchestrator.daemon.backup.aside import audit_of, moved_aside
from orchestrator.daemon.backup.kept import drop_older, name_by_time, named_by_time, newest
from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.journal.ownership import Ownership
from orchestrator.settings import Settings


def backups(folder: Path, *days: int) -> list[Path]:
    made = [folder / name_by_time(datetime(2026, 11, day, 3, tzinfo=UTC)) for day in days]
    for path in made:
        path.write_bytes(b"a backup")
    return made


def a_state(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    with closing(sqlite3.connect(folder / "journal.db")) as made:
        made.executescript(
            "CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('last_seq', 7);"
            "CREATE TABLE jobs (open); INSERT INTO jobs VALUES (1), (0);"
            "CREATE TABLE facts (seq); INSERT INTO facts VALUES (8), (9);"
        )
    return folder


def test_all_but_the_newest_go_and_what_has_another_name_stays(tmp_path: Path) -> None:
    made = backups(tmp_path, 3, 1, 2)
    others = [tmp_path / name for name in ("monday.backup", "orchestrator-20201101T030000Z.backup.age", "lost+found")]
    for other in others:
        other.write_text("not ours")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("a file of somebody else")
    link = tmp_path / name_by_time(datetime(2020, 1, 1, tzinfo=UTC))
    link.symlink_to(elsewhere)
    left, gone = drop_older(tmp_path, 2, made[0])
    assert [one.name for one in left] == [made[2].name, made[0].name]
    assert gone == [made[1]]
    assert named_by_time(tmp_path) == left
    assert newest(tmp_path) == made[0]
    assert all(path.exists() for path in (*others, elsewhere, link))
    assert drop_older(tmp_path, 2, made[0]) == (left, [])


def test_names_from_a_clock_that_was_wrong_push_no_backup_out(tmp_path: Path) -> None:
    ahead = backups(tmp_path, 28, 29)
    right = backups(tmp_path, 1, 2, 3)
    assert drop_older(tmp_path, 2, right[2]) == ([*right[1:], *ahead], right[:1])
    assert drop_older(tmp_path, 2, ahead[1]) == (ahead, right[1:])


def test_one_that_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = backups(tmp_path, 1, 2)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(TryAgainError, match=r"the old one .* cannot be removed: Permission denied"):
        drop_older(tmp_path, 1, made[1])


def test_a_folder_without_backups_has_no_newest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no backup whose name is a time"):
        newest(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be listed"):
        newest(tmp_path / "nowhere")


def test_the_command_keeps_so_many_and_says_which(tmp_path: Path) -> None:
    state, folder = a_state(tmp_path / "state"), tmp_path / "backups"
    folder.mkdir()
    old = backups(folder, 1, 2, 3)
    words = ["--state-dir", str(state), "backup", "--keep", "2", str(folder)]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["kept"] == [old[2].name, Path(told["file"]).name]
    assert told["removed"] == [old[0].name, old[1].name]
    assert sorted(path.name for path in folder.iterdir()) == told["kept"]


def test_old_backups_stay_when_no_new_one_was_made(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (tmp_path / "state").mkdir(mode=0o700)
    old = backups(folder, 1, 2, 3)
    done = CliRunner().invoke(app, ["--state-dir", str(tmp_path / "state"), "backup", "--keep", "1", str(folder)])
    assert done.exit_code == 1
    assert all(path.exists() for path in old)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--keep", "2", "-"], "--keep is for a folder"),
        (["--keep", "2", "monday.backup"], "--keep is for a folder"),
        (["--keep", "0", "."], "--keep"),
        (["--scratch", ".", "monday.backup"], "--scratch is for a pipe"),
    ],
)
def test_options_that_do_not_fit_the_target_are_refused(words: list[str], why: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--state-dir", str(a_state(tmp_path / "state")), "backup", *words])
    assert done.exit_code == 2
    assert why in done.stderr


@pytest.mark.parametrize("words", [[], ["--scratch", "SCRATCH"]])
def test_a_disk_without_room_for_a_copy_is_told_before_it_is_full(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a pod, whose `/tmp` is small and in memory."""
    state, scratch = a_state(tmp_path / "state"), tmp_path / "scratch"
    scratch.mkdir()
    full = SimpleNamespace(f_bavail=1, f_frsize=4096, f_blocks=16, f_files=0, f_favail=0)
    monkeypatch.setattr(room, "os", SimpleNamespace(statvfs=lambda _: full))
    arguments = [str(scratch) if word == "SCRATCH" else word for word in words]
    done = CliRunner().invoke(app, ["--state-dir", str(state), "backup", *arguments, "-"])
    assert done.exit_code == 1
    assert "has no room for a copy of" in done.stderr
    assert "--scratch" in done.stderr
    assert list(scratch.iterdir()) == []


def test_a_backup_from_a_pipe_with_its_copies_in_a_folder_of_choice(tmp_path: Path) -> None:
    state, scratch = a_state(tmp_path / "state"), tmp_path / "scratch"
    scratch.mkdir()
    left = scratch / ".orchestrator-stream.backup.partial"
    left.mkdir(mode=0o700)
    (left / "database").write_text("left by one that was killed")
    made = CliRunner().invoke(app, ["--state-dir", str(state), "backup", "--scratch", str(scratch), "-"])
    assert made.exit_code == 0, made.stderr
    assert list(scratch.iterdir()) == []
    checked = CliRunner().invoke(app, ["restore", "--check", "-", "--json"], input=made.stdout_bytes)
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["unfinished_jobs"] == 1
    cut = CliRunner().invoke(app, ["restore", "--check", "-"], input=made.stdout_bytes[:-40])
    assert cut.exit_code == 1
    assert "cut off" in cut.stderr


def test_what_is_there_is_moved_aside_and_the_newest_backup_put_in_its_place(tmp_path: Path) -> None:
    state, folder = a_state(tmp_path / "state"), tmp_path / "backups"
    folder.mkdir()
    assert CliRunner().invoke(app, ["--state-dir", str(state), "backup", str(folder)]).exit_code == 0
    backups(folder, 1)  # older, and no backup at all
    (state / "since").write_text("then")
    words = ["--state-dir", str(state), "restore", "--keep-jobs", str(folder)]
    assert "not empty" in CliRunner().invoke(app, words).stderr
    done = CliRunner().invoke(app, [*words, "--aside", "--json"])
    assert done.exit_code == 0, done.output
    (away,) = map(Path, json.loads(done.stdout)["moved_aside"])
    assert away.parent == state.parent
    assert away.name.startswith("state.before-")
    assert (away / "since").read_text() == "then"
    assert sorted(path.name for path in state.iterdir()) == ["journal.db"]
    assert state.stat().st_mode & 0o777 == 0o700


def test_a_restore_that_fails_puts_back_what_it_moved(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state")
    before = (state / "journal.db").read_bytes()
    words = ["--state-dir", str(state), "restore", "--aside", "-"]
    done = CliRunner().invoke(app, words, input=b"no backup")
    assert done.exit_code == 1
    assert "no whole backup" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (state / "journal.db").read_bytes() == before


def test_a_state_that_a_daemon_has_is_not_moved(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state")
    owner = Ownership.take(state / "journal.db")
    try:
        done = CliRunner().invoke(app, ["--state-dir", str(state), "restore", "--aside", "-"], input=b"")
    finally:
        owner.release()
    assert done.exit_code == 1
    assert f"pid {os.getpid()}" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_nothing_there_is_nothing_to_move(tmp_path: Path) -> None:
    for state in (tmp_path / "none", tmp_path / "empty", tmp_path / "volume"):
        if state.name != "none":
            state.mkdir()
        if state.name == "volume":
            (state / "lost+found").mkdir()
        with moved_aside(Settings(state_dir=state)) as moved:
            assert dict(moved) == {}
            assert audit_of(Settings(state_dir=state), moved) is None


def test_each_place_of_its_own_is_moved_and_its_audit_log_found(tmp_path: Path) -> None:
    state, audit = a_state(tmp_path / "state"), tmp_path / "audit"
    audit.mkdir()
    (audit / "vkey").write_text("key")
    settings = Settings.model_validate({"state_dir": str(state), "audit": {"folder": str(audit)}})
    with moved_aside(settings) as moved:
        assert sorted(moved) == ["audit", "state"]
        assert not audit.exists()
        assert not state.exists()
        assert audit_of(settings, moved) == moved["audit"]
    assert moved["audit"].name.startswith("audit.before-")


@pytest.mark.parametrize("apart", [False, True])
def test_after_a_restore_that_was_cut_short_the_audit_log_is_the_one_before_it(apart: bool, tmp_path: Path) -> None:
    state = tmp_path / "state"
    audit = tmp_path / "audit" if apart else state / "audit"
    settings = Settings.model_validate({"state_dir": str(state), "audit": {"folder": str(audit)} if apart else {}})
    for stamp in ("20260101T000000Z", "20260102T000000Z"):
        before = tmp_path / f"audit.before-{stamp}" if apart else tmp_path / f"state.before-{stamp}" / "audit"
        before.mkdir(parents=True)
        (before / "vkey").write_text("key")
    (state / ".restoring").mkdir(parents=True)
    if apart:
        (audit / ".restoring").mkdir(parents=True)
    audit.mkdir(exist_ok=True)
    (audit / "vkey").write_text("put before it was cut short")
    with moved_aside(settings) as moved:
        assert audit_of(settings, moved) == before


def test_a_folder_that_cannot_be_moved_back_is_named(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state")

    def fail() -> None:
        with moved_aside(Settings(state_dir=state)):
            state.mkdir()
            (state / "somebody").write_text("else")
            raise RuntimeError("it failed")

    with pytest.raises(TryAgainError, match=r"state\.before-\S+ could not be moved back to \S+/state: "):
        fail()


def test_the_others_are_moved_back_all_the_same(tmp_path: Path) -> None:
    state, audit = a_state(tmp_path / "state"), tmp_path / "audit"
    audit.mkdir()
    (audit / "vkey").write_text("key")
    settings = Settings.model_validate({"state_dir": str(state), "audit": {"folder": str(audit)}})

    def fail() -> None:
        with moved_aside(settings):
            state.mkdir()
            (state / "somebody").write_text("else")
            raise RuntimeError("it failed")

    with pytest.raises(TryAgainError, match=r"state\.before-\S+ could not be moved back"):
        fail()
    assert (audit / "vkey").read_text() == "key"
