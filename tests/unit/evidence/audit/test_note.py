"""Notes, checkpoints and their keys against what Go's package publishes, and against forgery."""

from __future__ import annotations

import base64
import os
import stat

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.audit.checkpoint import read_checkpoint, sign_checkpoint
from orchestrator.evidence.audit.note import (
    MAX_NOTE_BYTES,
    NoteKey,
    NoteRefusedError,
    NoteVerifier,
    open_note_key,
    split_notes,
    whole_notes,
)
from orchestrator.evidence.audit.tree import EMPTY_ROOT

# From the documentation of golang.org/x/mod/sumdb/note.
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    f"{GO_TEXT}\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_keys_and_notes_are_those_of_go():
    key = NoteKey.parse(GO_PRIVATE)
    assert key.text == GO_PRIVATE
    assert key.verifier.vkey == GO_PUBLIC
    assert key.sign(GO_TEXT) == GO_NOTE
    assert NoteVerifier.parse(f"{GO_PUBLIC}\n").text_of(GO_NOTE) == GO_TEXT
    assert "AYEK" not in repr(key)


def test_signatures_of_others_beside_ours_are_ignored(key):
    other = NoteKey.generate("witness.example")
    note = sign_checkpoint(key, 0, EMPTY_ROOT).note
    text = key.verifier.text_of(note)
    both = other.sign(text) + note.removeprefix(text + "\n")
    assert read_checkpoint(both, key.verifier).size == 0
    assert other.verifier.text_of(both) == text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda note: note.replace("\n7\n", "\n8\n"), "note_forged"),
        (lambda note: note.replace("ci.example/audit\n", "ci.example/other\n"), "note_forged"),
        (lambda note: note.replace("— ci.example/audit", "— ci.example/other"), "note_key_unknown"),
        (lambda note: note.replace("— ", "- "), "note_malformed"),
        (lambda note: note.rstrip("\n"), "note_malformed"),
        (lambda note: note.replace("\n\n", "\n"), "note_malformed"),
        (lambda note: note.split("\n\n")[0] + "\n\n", "note_malformed"),
        (lambda note: note.replace("\n7\n", "\n7\r\n"), "note_malformed"),
        (lambda note: note + "— ci.example/audit AAAA\n", "note_malformed"),
        (lambda note: note + "— a b!\n", "note_malformed"),
        (lambda note: "x" * MAX_NOTE_BYTES + note, "note_malformed"),
        (lambda note: note + "— w AAAAAAAA\n" * 100, "note_malformed"),
        (lambda note: "", "note_malformed"),
    ],
)
def test_a_changed_checkpoint_counts_for_nothing(key, change, reason):
    note = sign_checkpoint(key, 7, b"r" * 32).note
    with pytest.raises(NoteRefusedError) as caught:
        read_checkpoint(change(note), key.verifier)
    assert caught.value.reason == reason


def test_a_key_of_the_same_name_is_another(key):
    stranger = NoteKey.generate(key.name)
    with pytest.raises(NoteRefusedError) as caught:
        read_checkpoint(sign_checkpoint(stranger, 7, b"r" * 32).note, key.verifier)
    assert caught.value.reason == "note_key_unknown"


@pytest.mark.parametrize(
    "text",
    [
        "ci.example/audit\n7\n",
        "ci.example/audit\n07\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "ci.example/audit\n-7\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "ci.example/audit\n7\n" + base64.b64encode(b"r" * 31).decode() + "\n",
        "ci.example/audit\n7\n???\n",
        "elsewhere\n7\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "ci.example/audit\n7\n" + base64.b64encode(b"r" * 32).decode() + "\n\nmore\n",
    ],
)
def test_what_our_key_signed_is_still_no_checkpoint_of_ours(key, text):
    with pytest.raises(NoteRefusedError) as caught:
        read_checkpoint(key.sign(text), key.verifier)
    assert caught.value.reason == "note_malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        GO_PUBLIC.replace("c74f20a3", "c74f20a4"),
        GO_PUBLIC.replace("Peter", "Petra"),
        GO_PUBLIC[:-4],
        GO_PUBLIC.replace("+AR", "+Ah"),
        GO_PUBLIC.replace("PeterNeumann", "Peter Neumann"),
        GO_PRIVATE,
    ],
)
def test_public_keys_of_another_form(text):
    with pytest.raises(NoteRefusedError):
        NoteVerifier.parse(text)


@pytest.mark.parametrize("text", ["", GO_PUBLIC, GO_PRIVATE[:-4], GO_PRIVATE.replace("c74f20a3", "00000000")])
def test_private_keys_of_another_form_are_not_repeated(text):
    with pytest.raises(NoteRefusedError) as caught:
        NoteKey.parse(text)
    assert "AYEK" not in str(caught.value)


def test_the_key_file_is_made_once_for_its_owner_and_keeps_its_name(tmp_path):
    path = tmp_path / "audit.key"
    before = os.umask(0)
    try:
        made = open_note_key(path, "ci.example/audit")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = open_note_key(path, "elsewhere.example/audit")
    assert again.verifier.vkey == made.verifier.vkey
    path.chmod(0o640)
    with pytest.raises(ConfigurationError) as caught:
        open_note_key(path, "ci.example/audit")
    assert caught.value.reason == "keys_unsafe"


@pytest.mark.parametrize("data", [b"", b"\xff", b"nonsense", GO_PUBLIC.encode()])
def test_a_damaged_key_file_is_told_and_not_repeated(tmp_path, data):
    path = tmp_path / "audit.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        open_note_key(path, "ci.example/audit")
    assert caught.value.reason == "keys_corrupt"
    assert "PeterNeumann" not in caught.value.diagnostics()


@pytest.mark.parametrize("name", ["", "a b", "a+b", "x" * 256, "a\nb"])
def test_names_that_no_note_can_hold(tmp_path, name):
    with pytest.raises(ConfigurationError) as caught:
        open_note_key(tmp_path / "audit.key", name)
    assert caught.value.reason == "keys_name_invalid"
    assert not (tmp_path / "audit.key").exists()


def test_files_of_many_notes(key):
    notes = [sign_checkpoint(key, size, b"r" * 32, ("peaks", "prev x")).note for size in range(3)]
    joined = "".join(f"{note}\n" for note in notes)
    assert split_notes(joined.encode()) == notes
    assert split_notes(notes[0].encode()) == notes[:1]
    assert split_notes(b"") == []
    torn = split_notes((joined + notes[0][:30]).encode())
    assert torn[:3] == notes
    assert len(torn) == 4
    broken = split_notes((notes[0][:30] + "\n\n" + joined).encode())
    assert broken[1:] == notes


def test_the_torn_end_of_a_write_is_left_out(key):
    one, two = (f"{sign_checkpoint(key, size, b'r' * 32).note}\n".encode() for size in range(2))
    for cut in range(len(two)):
        assert whole_notes(one + two[:cut]) == one
    assert whole_notes(one + two) == one + two
    assert whole_notes(two[:-1]) == b""
