"""What a backup or a restore must not do: say that less is whole, or touch what is not its own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon.backup import making, restoring, room
from orchestrator.daemon.backup.archive import Manifest
from orchestrator.daemon.backup.copying import check_database
from orchestrator.daemon.backup.making import back_up
from orchestrator.daemon.backup.places import AUDIT, STATE, sources
from orchestrator.daemon.backup.restoring import check, restore
from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.settings import Settings


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder, still without a journal."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def a_journal(state: Path) -> None:
    with closing(sqlite3.connect(state / "journal.db")) as made:
        made.executescript(
            "CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('last_seq', 7);"
            "CREATE TABLE jobs (open); INSERT INTO jobs VALUES (1), (0);"
            "CREATE TABLE facts (seq); INSERT INTO facts VALUES (8), (9);"
        )


def backed_up(state: Path, target: Path) -> Manifest:
    return back_up(Settings(state_dir=state), target, logs=True, progress=lambda _done, _all: None)


def test_a_backup_without_a_journal_is_none(state: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no journal"):
        backed_up(state, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    (state / "journal.db").write_text("something else that is no database")
    with pytest.raises(GiveUpError, match=r"journal.db is no journal, or damaged"):
        backed_up(state, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    (state / "journal.db").unlink()
    a_journal(state)
    made = backed_up(state, tmp_path / "b")
    assert (made.last_seq, made.unfinished) == (9, 1)


def test_what_somebody_else_put_in_its_way_is_not_emptied(state: Path, tmp_path: Path) -> None:
    """In a folder that others can write, the name of the scratch folder can be guessed."""
    a_journal(state)
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    (theirs / "precious").touch()
    (tmp_path / ".b.partial").symlink_to(theirs)
    with pytest.raises(ConfigurationError, match="no private folder"):
        backed_up(state, tmp_path / "b")
    assert [path.name for path in theirs.iterdir()] == ["precious"]
    (tmp_path / ".b.partial").unlink()
    (tmp_path / ".b.partial").mkdir(mode=0o777)
    (tmp_path / ".b.partial").chmod(0o777)
    with pytest.raises(ConfigurationError, match="no private folder"):
        backed_up(state, tmp_path / "b")


def test_a_folder_that_would_be_missing_is_refused(state: Path, tmp_path: Path) -> None:
    a_journal(state)
    (tmp_path / "elsewhere").mkdir()
    (state / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="logs is a link, and what it leads to"):
        backed_up(state, tmp_path / "b")
    (state / "logs").unlink()
    (state / "key").symlink_to(tmp_path / "elsewhere" / "key")
    with pytest.raises(ConfigurationError, match="key is a link, and what it leads to"):
        backed_up(state, tmp_path / "b")
    (state / "key").unlink()
    (tmp_path / "audit").touch()
    with pytest.raises(ConfigurationError, match="audit cannot be listed: Not a directory"):
        sources({STATE: state, AUDIT: tmp_path / "audit"}, logs=True)


def restored(file: Path, target: Path) -> None:
    restore(Settings(state_dir=target), file, keep_jobs=True, newer_audit=None, progress=lambda _done: None)


def test_a_restore_that_is_refused_changes_nothing(state: Path, tmp_path: Path) -> None:
    a_journal(state)
    backed_up(state, tmp_path / "b")
    full = tmp_path / "full"
    full.mkdir()
    full.chmod(0o755)
    (full / "something").touch()
    with pytest.raises(ConfigurationError, match="is not empty"):
        restored(tmp_path / "b", full)
    assert full.stat().st_mode & 0o777 == 0o755


def test_a_restore_beside_another_is_told_so(state: Path, tmp_path: Path) -> None:
    a_journal(state)
    backed_up(state, tmp_path / "b")
    (tmp_path / "new" / ".restoring").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="under way") as caught:
        restored(tmp_path / "b", tmp_path / "new")
    assert "wait for it" in caught.value.fix


def test_a_daemon_that_was_just_starting_loses_nothing(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had looked whether a restore is under way before there was one."""
    a_journal(state)
    backed_up(state, tmp_path / "b")
    new = tmp_path / "new"
    read_it = restoring.read_all

    def while_it_is_read(*given: Any) -> Manifest:
        (new / "journal.db").write_text("of the daemon")
        return read_it(*given)

    monkeypatch.setattr(restoring, "read_all", while_it_is_read)
    with pytest.raises(ConfigurationError, match="is not empty"):
        restored(tmp_path / "b", new)
    assert [path.name for path in new.iterdir()] == ["journal.db"]
    assert (new / "journal.db").read_text() == "of the daemon"


def test_an_archive_cannot_reach_what_tells_a_restore(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("state/.restoring/x"))
    with pytest.raises(GiveUpError, match="no file of ours"):
        restored(tmp_path / "b", tmp_path / "new")


def test_what_killed_backups_left_is_removed_but_for_one_that_is_being_written(state: Path, tmp_path: Path) -> None:
    """Named by the time, as in a folder for backups, none of them would ever be written again."""
    a_journal(state)
    killed, living = (tmp_path / f".orchestrator-2026010{day}T000000Z.backup.partial" for day in (1, 2))
    for left in (killed, living):
        left.mkdir(mode=0o700)
        (left / "part").write_text("half a backup, with keys")
    with (living / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        backed_up(state, tmp_path / "orchestrator-20260103T000000Z.backup")
    assert not killed.exists()
    assert (living / "part").exists()


def test_every_folder_that_is_put_back_is_for_its_user_alone(state: Path, tmp_path: Path) -> None:
    """Also one that holds only folders: the daemon refuses keys in a folder that others may enter."""
    a_journal(state)
    (state / "keys" / "issuers" / "prod").mkdir(parents=True)
    (state / "keys" / "issuers" / "prod" / "issuer.json").touch()
    backed_up(state, tmp_path / "b")
    restored(tmp_path / "b", tmp_path / "new")
    folders = [path for path in (tmp_path / "new").rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert tmp_path / "new" / "keys" / "issuers" / "prod" in folders


def bomb(file: Path, *members: tuple[str, int]) -> Path:
    """An archive whose members claim to be as large as that. Nothing of the last one comes."""
    with gzip.open(file, "wb") as packed:
        for name, size in members:
            info = tarfile.TarInfo(name)
            info.size = size
            packed.write(info.tobuf(tarfile.GNU_FORMAT))
    return file


def test_no_file_that_claims_more_than_the_disk_has_is_begun(tmp_path: Path) -> None:
    with pytest.raises(TryAgainError, match="has no room") as caught:
        restored(bomb(tmp_path / "b", ("state/journal.db", 1 << 60)), tmp_path / "new")
    assert caught.value.reason == "restore_unwritable"
    assert "state/journal.db" in str(caught.value)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_disk_is_never_filled_to_its_end(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others live on it, too: what is left for them is no room for a backup, however small its files are."""
    a_journal(state)
    backed_up(state, tmp_path / "b")
    monkeypatch.setattr(room, "_KEPT_FREE_BYTES", 1 << 62)
    monkeypatch.setattr(room, "_KEPT_FREE_PART", 1)
    with pytest.raises(TryAgainError, match="has no room"):
        restored(tmp_path / "b", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", ["state/journal.db-wal", "state/x/some.db-journal", "state/notifications.db-shm"])
def test_nothing_is_put_beside_a_database_that_would_become_part_of_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(GiveUpError, match="no file of ours"):
        restored(bomb(tmp_path / "b", (name, 0)), tmp_path / "new")


def test_what_pretends_to_be_a_journal_beside_a_file_is_not_played_back(state: Path, tmp_path: Path) -> None:
    """SQLite finishes what an interrupted program left, and may delete files that are named in it."""
    with closing(sqlite3.connect(state / "odd")) as made:
        made.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(100000));")
    untouched = (state / "odd").read_bytes()
    with closing(sqlite3.connect(state / "odd", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("PRAGMA cache_spill = 1")
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("UPDATE t SET x = randomblob(100000)")
        left = (state / "odd-journal").read_bytes()
        changed = (state / "odd").read_bytes()
        writer.execute("ROLLBACK")
    (state / "odd").write_bytes(changed)
    (state / "odd-journal").write_bytes(left)
    assert changed != untouched, "the journal is one that SQLite would play back"
    with contextlib.suppress(GiveUpError):
        check_database(state / "odd", "odd")
    assert (state / "odd").read_bytes() == changed
    assert (state / "odd-journal").exists()


@pytest.mark.parametrize(("name", "why"), [("none", "No such file or directory"), ("", "Is a directory")])
def test_a_backup_that_is_not_there_is_no_matter_of_free_space(tmp_path: Path, name: str, why: str) -> None:
    file = tmp_path / name
    with pytest.raises(ConfigurationError, match=f"^the backup {file} cannot be read: {why}$") as caught:
        check(file, lambda _: None)
    assert "space" not in caught.value.fix
    settings = Settings(state_dir=tmp_path / "state")
    with pytest.raises(ConfigurationError, match=why):
        restore(settings, file, keep_jobs=False, newer_audit=None, progress=lambda _: None)
    assert not (settings.state_dir / "journal.db").exists()


def without_links(*_given: Any, **_more: Any) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_file_system_without_hard_links_has_backups_too(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_journal(state)
    (tmp_path / "backups").mkdir()
    monkeypatch.setattr(os, "link", without_links)
    backed_up(state, tmp_path / "backups" / "b")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["b"]
    assert (tmp_path / "backups" / "b").stat().st_mode & 0o777 == 0o600
    restored(tmp_path / "backups" / "b", tmp_path / "new")
    (tmp_path / "backups" / "c").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="is there already"):
        backed_up(state, tmp_path / "backups" / "c")
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_file_that_a_killed_backup_left_is_none(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    with pytest.raises(GiveUpError, match="no whole backup"):
        restored(tmp_path / "b", tmp_path / "new")


def test_what_cannot_be_read_is_named(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_journal(state)

    def unreadable(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(making, "is_database", unreadable)
    with pytest.raises(TryAgainError, match=r"state/journal\.db: Permission denied"):
        backed_up(state, tmp_path / "b")
