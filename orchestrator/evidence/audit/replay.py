"""Taking a log up again: its last segment is read and must hold, and must reach its last checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.audit.checkpoint import Checkpoint, read_checkpoint
from orchestrator.evidence.audit.note import NoteRefusedError, NoteVerifier, split_notes
from orchestrator.evidence.audit.record import MAX_RECORD_BYTES, RecordDamagedError, read_line
from orchestrator.evidence.audit.segments import HISTORY, NEWEST, Segment, Start, lines_of, read_note, segments_of
from orchestrator.evidence.audit.tree import Tree, leaf_hash

_HISTORY_TAIL: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Replayed:
    """Where a log goes on: behind `offset` of `segment`; what stands there is the torn end of a write."""

    segment: Segment
    offset: int
    tree: Tree
    prev: str
    journal_seq: int
    checkpoint: Checkpoint


def tampered(folder: Path, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the audit log in {folder} is not what was written: {what}",
        reason="audit_tampered",
        fix="look at it with orchestrator audit verify, keep the folder as it is for whoever investigates,"
        " and move it and the key it is signed with away to begin a new log",
    )


def replay(folder: Path, verifier: NoteVerifier) -> Replayed | None:
    """The state of the log in `folder`; None when there is none yet. Changes nothing.

    Raises:
        ConfigurationError: reason `audit_tampered` or `audit_foreign`.
        OSError: it cannot be read.
    """
    segments = segments_of(folder)
    newest = _newest(folder, verifier)
    if not segments and (newest is None or newest.size == 0):
        return None
    if newest is None:
        raise tampered(folder, "its checkpoint is missing")
    if not segments:
        raise tampered(folder, f"all {newest.size} records are missing")
    segment = segments[-1]
    known = _known(folder, verifier, newest)
    start = _start(segment, verifier)
    tree, prev, journal_seq = start.tree, start.prev, start.journal_seq
    _compare(folder, tree, known)
    offset = 0
    for line in lines_of(segment.path):
        if not line.endswith(b"\n"):
            if len(line) > MAX_RECORD_BYTES:
                raise tampered(folder, f"record {tree.size + 1} is longer than any record is")
            break
        seq = tree.size + 1
        try:
            record = read_line(line[:-1])
        except RecordDamagedError as error:
            raise tampered(folder, f"record {seq}: {error}") from None
        if record.seq != seq or record.prev != prev:
            raise tampered(folder, f"record {seq} does not follow the one before")
        prev, journal_seq, offset = record.hash, max(journal_seq, record.journal_seq), offset + len(line)
        tree.add(leaf_hash(line[:-1]))
        _compare(folder, tree, known)
    if tree.size < max(known):
        raise tampered(folder, f"it ends at record {tree.size}, and a checkpoint of {max(known)} was signed")
    return Replayed(segment, offset, tree, prev, journal_seq, newest)


def _compare(folder: Path, tree: Tree, known: Mapping[int, bytes]) -> None:
    root = known.get(tree.size)
    if root is not None and root != tree.root():
        raise tampered(folder, f"its first {tree.size} records are others than those that were signed for")


def _newest(folder: Path, verifier: NoteVerifier) -> Checkpoint | None:
    try:
        return read_checkpoint(read_note(folder / NEWEST), verifier)
    except FileNotFoundError:
        return None
    except NoteRefusedError as error:
        if error.reason == "note_key_unknown":
            raise ConfigurationError(
                f"the audit log in {folder} was made with another key than {verifier.vkey}",
                reason="audit_foreign",
                fix="restore the key that it was made with, or move the folder and this key away to begin a new log",
            ) from None
        raise tampered(folder, f"its checkpoint cannot be trusted: {error}") from None


def _known(folder: Path, verifier: NoteVerifier, newest: Checkpoint) -> dict[int, bytes]:
    """Roots by size, from the newest checkpoint and the last ones of the history, whose very end may be torn."""
    known = {newest.size: newest.root}
    try:
        with (folder / HISTORY).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _HISTORY_TAIL))
            data = file.read()
    except FileNotFoundError:
        return known
    for note in split_notes(data):
        try:
            one = read_checkpoint(note, verifier)
        except NoteRefusedError:
            continue
        known.setdefault(one.size, one.root)
    return known


def _start(segment: Segment, verifier: NoteVerifier) -> Start:
    folder = segment.path.parent
    try:
        start = Start.read(read_note(segment.start), verifier)
    except FileNotFoundError:
        raise tampered(folder, f"{segment.start.name} is missing") from None
    except NoteRefusedError as error:
        raise tampered(folder, f"{segment.start.name} cannot be trusted: {error}") from None
    if start.tree.size != segment.first - 1:
        raise tampered(folder, f"{segment.start.name} belongs to another segment")
    return start
