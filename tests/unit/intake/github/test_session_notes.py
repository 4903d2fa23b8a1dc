"""Sessions noted on disk over a kill."""

from __future__ import annotations

import logging

import pytest

from orchestrator.intake.github.scale_sets.session_notes import FileNotes


def test_a_note_outlives_the_daemon(tmp_path):
    path = tmp_path / "sessions.json"
    FileNotes(path).write("default/zt", "session-1")
    FileNotes(path).write("default/other", "session-2")
    found = FileNotes(path)
    assert (found.read("default/zt"), found.read("default/other")) == ("session-1", "session-2")
    found.write("default/zt", "")
    assert FileNotes(path).read("default/zt") == ""
    assert [one.name for one in tmp_path.iterdir()] == ["sessions.json"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a": 1, "b": ""}', b"\xff", b"[" * 100_000])
def test_a_damaged_note_is_no_note(tmp_path, text):
    path = tmp_path / "sessions.json"
    path.write_bytes(text)
    notes = FileNotes(path)
    assert (notes.read("a"), notes.read("b")) == ("", "")
    notes.write("a", "session")
    assert FileNotes(path).read("a") == "session"


def test_a_note_that_is_too_long_is_no_note(tmp_path):
    path = tmp_path / "sessions.json"
    path.write_text('{"a": "' + "x" * 129 + '", "b": "y"}')
    assert (FileNotes(path).read("a"), FileNotes(path).read("b")) == ("", "y")


def test_a_place_that_takes_no_notes_is_told_and_no_more(tmp_path, caplog):
    notes = FileNotes(tmp_path / "missing" / "sessions.json")
    with caplog.at_level(logging.WARNING):
        notes.write("a", "session")
    assert notes.read("a") == "session"
    assert "could not be noted" in caplog.text


def test_a_link_in_the_place_of_the_new_file_is_not_followed(tmp_path, caplog):
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "sessions.json.new").symlink_to(target)
    FileNotes(tmp_path / "sessions.json").write("a", "session")
    assert target.read_text() == "mine"
    assert "could not be noted" in caplog.text
