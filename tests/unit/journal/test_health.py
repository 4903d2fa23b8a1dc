"""A journal that cannot be written says so in the daemon's log, where `/readyz` and the guide send people: once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator.errors import TryAgainError
from orchestrator.journal.store import Store


def test_the_log_hears_of_a_full_disk_once_and_of_its_end(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    store = Store.open(path)
    with capture_logs() as told:
        store.execute(f"PRAGMA max_page_count = {store.execute('PRAGMA page_count')[0][0]}")
        for _ in range(3):
            with pytest.raises(TryAgainError, match="database or disk is full") as refused:
                store.transaction(lambda: fill(store))
            assert refused.value.reason == "journal_unavailable"
        assert store.problem is not None
        assert str(store.problem) == str(refused.value), "who asks later is told the same"
        store.execute("PRAGMA max_page_count = 1000000")
        store.probe()
        store.probe()
    assert store.problem is None
    assert [line["event"] for line in told] == ["journal_not_written", "journal_well_again"]
    assert told[0]["error"] == "the journal cannot store facts: database or disk is full"
    assert f"free space on the file system of {path}" in told[0]["fix"]
    store.close()


def test_what_is_no_full_disk_is_not_called_one(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "journal.db")

    def refuse() -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    with capture_logs() as told, pytest.raises(TryAgainError, match="readonly") as refused:
        store.transaction(refuse)
    assert "may write" in refused.value.fix
    assert "log" not in refused.value.fix, "it is in the log that this is read"
    assert len(told) == 1
    store.close()


def fill(store: Store) -> None:
    store.execute("CREATE TABLE filling (x)")
    store.execute("INSERT INTO filling VALUES (zeroblob(1000000))")
