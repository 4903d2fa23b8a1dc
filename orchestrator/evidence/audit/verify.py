"""Checking a log offline: every record, the chain, and every checkpoint that anybody kept. Needs none of the daemon.

The first bad record is named, as exactly as what is left allows: a record whose own hash fails names itself; where the
chain breaks or a checkpoint contradicts, the range is given in which the false records are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.evidence.audit.checkpoint import read_checkpoint
from orchestrator.evidence.audit.note import NoteRefusedError, NoteVerifier, first_whole_note, split_notes, whole_notes
from orchestrator.evidence.audit.record import FIRST_PREV, MAX_RECORD_BYTES, Record, RecordDamagedError, read_line
from orchestrator.evidence.audit.report import Fault, Finding, Refused, Report
from orchestrator.evidence.audit.segments import HISTORY, NEWEST, lines_of, segments_of
from orchestrator.evidence.audit.tree import Tree, leaf_hash

MAX_CHECKPOINT_BYTES: Final = 256 << 20
"""Most bytes of one file of checkpoints: about a million. Of the log's own history the newest so many are read."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What a checkpoint says, and who kept it."""

    root: bytes
    where: str
    external: bool


@dataclass(slots=True)
class _Line:
    where: str
    text: bytes
    whole: bool

    def record(self) -> Record:
        if not self.whole:
            raise RecordDamagedError("it is longer than any record is, or its end is missing")
        return read_line(self.text)


@dataclass(slots=True)
class _Walk:
    told: dict[int, list[_Told]]
    tree: Tree = field(default_factory=Tree)
    prev: str = FIRST_PREV
    before: str = ""
    held: int = 0
    external: int = 0
    vouched: int = 0
    torn_bytes: int = 0


class _Found(Exception):  # noqa: N818 -- ends the walk, is no error
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.why)
        self.finding = finding


def verify(folder: Path, verifier: NoteVerifier, external: Sequence[Path] = ()) -> Report:
    """Check the log in `folder`, live or a copy, against its own checkpoints and those in the `external` files.

    Raises:
        OSError: a file cannot be read.
    """
    # Checkpoints first: a live log then is at least as long as they say.
    kept = _checkpoints(folder, verifier, external)
    walk = _Walk(kept.told)
    finding: Finding | None = None
    try:
        _compare(walk)
        _follow(walk, folder)
        _reach(walk)
    except _Found as found:
        finding = found.finding
    return Report(
        verifier.vkey,
        walk.tree.size,
        walk.tree.root().hex(),
        walk.held,
        walk.external,
        walk.vouched,
        walk.torn_bytes,
        finding,
        tuple(kept.refused),
        tuple(kept.fragments),
    )


@dataclass(slots=True)
class _Kept:
    """What all files of checkpoints hold."""

    told: dict[int, list[_Told]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    fragments: list[Refused] = field(default_factory=list)

    def read(self, path: Path, where: str, verifier: NoteVerifier, *, external: bool) -> None:
        history = path.name == HISTORY and not external
        with path.open("rb") as file:
            cut = max(0, file.seek(0, 2) - MAX_CHECKPOINT_BYTES) if history else 0
            file.seek(cut)
            data = file.read(MAX_CHECKPOINT_BYTES + 1)
        if len(data) > MAX_CHECKPOINT_BYTES and not history:
            self.refused.append(Refused(where, f"it is larger than {MAX_CHECKPOINT_BYTES} bytes: divide it"))
            return
        if history:
            data = whole_notes(data)
        notes = split_notes(data[first_whole_note(data) :] if cut else data)
        unreadable: list[Refused] = []
        held = 0
        for number, note in enumerate(notes, 1):
            place = f"{where}, checkpoint {number}"
            try:
                checkpoint = read_checkpoint(note, verifier)
            except NoteRefusedError as error:
                (unreadable if error.reason == "note_malformed" else self.refused).append(Refused(place, str(error)))
            else:
                held += 1
                self.told.setdefault(checkpoint.size, []).append(_Told(checkpoint.root, place, external))
        # Beside checkpoints that hold, a torn one elsewhere is the trace of a crash there, and claims nothing.
        (self.fragments if external and held else self.refused).extend(unreadable)
        if not notes:
            self.refused.append(Refused(where, "it holds no checkpoint"))


def _checkpoints(folder: Path, verifier: NoteVerifier, external: Sequence[Path]) -> _Kept:
    kept = _Kept()
    for path in (folder / NEWEST, folder / HISTORY, *(one.start for one in segments_of(folder))):
        try:
            kept.read(path, path.name, verifier, external=False)
        except FileNotFoundError:
            kept.refused.append(Refused(path.name, "it is missing"))
    for path in external:
        kept.read(path, str(path), verifier, external=True)
    return kept


def _follow(walk: _Walk, folder: Path) -> None:
    lines = _lines(walk, folder)
    told, tree = walk.told, walk.tree
    add = tree.add
    for line in lines:
        seq = tree.size + 1
        try:
            record = line.record()
        except RecordDamagedError as error:
            raise _Found(_damaged(walk, seq, line, error, lines)) from None
        if record.seq != seq or record.prev != walk.prev:
            raise _Found(_misplaced(walk, seq, line, record, lines))
        walk.before, walk.prev = walk.prev, record.hash
        add(leaf_hash(line.text))
        if seq in told:
            _compare(walk)


def _damaged(walk: _Walk, seq: int, line: _Line, error: RecordDamagedError, lines: Iterator[_Line]) -> Finding:
    following = next(_records(lines), None)
    if following is not None and following.seq == seq and following.prev == walk.prev:
        why = f"a line that is no record stands before record {seq}: {error}"
        return Finding(Fault.INSERTED, seq, seq, why, line.where)
    return Finding(Fault.DAMAGED, seq, seq, f"record {seq}: {error}", line.where)


def _misplaced(walk: _Walk, seq: int, line: _Line, record: Record, lines: Iterator[_Line]) -> Finding:
    """Why a record that holds in itself does not belong where it stands."""
    if record.seq > seq:
        if any(one.seq == seq and one.prev == walk.prev for one in _records(lines)):
            why = f"record {record.seq} stands where record {seq} belongs, which stands further down"
            return Finding(Fault.OUT_OF_ORDER, seq, seq, why, line.where)
        gone = f"record {seq} is" if record.seq == seq + 1 else f"records {seq} to {record.seq - 1} are"
        return Finding(Fault.MISSING, seq, record.seq - 1, f"{gone} missing before record {record.seq}", line.where)
    if record.seq < seq:
        if record.seq == seq - 1 and record.prev == walk.before and record.hash != walk.prev:
            why = f"there are two records {record.seq}, and one of them was inserted"
            return Finding(Fault.INSERTED, record.seq, record.seq, why, line.where)
        why = f"record {record.seq} stands again where record {seq} belongs"
        return Finding(Fault.INSERTED, seq, seq, why, line.where)
    following = next(_records(lines), None)
    if following is not None and following.seq == seq and following.prev == walk.prev:
        why = f"a record that follows none stands before record {seq}"
        return Finding(Fault.INSERTED, seq, seq, why, line.where)
    first = max(1, seq - 1, walk.vouched + 1)
    why = f"record {seq} does not follow record {seq - 1}: " + (
        "it was replaced" if first == seq else f"record {first}, record {seq}, or what was between them, was replaced"
    )
    return Finding(Fault.REPLACED, first, seq, why, line.where)


def _records(lines: Iterator[_Line]) -> Iterator[Record]:
    """Those of the lines that are records."""
    for line in lines:
        with contextlib.suppress(RecordDamagedError):
            yield line.record()


def _lines(walk: _Walk, folder: Path) -> Iterator[_Line]:
    segments = segments_of(folder)
    for segment in segments:
        for number, text in enumerate(lines_of(segment.path), 1):
            whole = text.endswith(b"\n")
            if not whole and segment is segments[-1] and len(text) <= MAX_RECORD_BYTES:
                walk.torn_bytes = len(text)
                return
            yield _Line(f"{segment.path.name}, line {number}", text[:-1] if whole else text, whole)


def _compare(walk: _Walk) -> None:
    size = walk.tree.size
    root = walk.tree.root() if size in walk.told else b""
    for one in walk.told.get(size, ()):
        if one.root != root:
            why = f"the checkpoint over {size} records was signed for other ones; "
            why += f"the first {walk.vouched} are as signed" if walk.vouched else "no earlier one vouches for any"
            raise _Found(Finding(Fault.REWRITTEN, min(walk.vouched + 1, max(size, 1)), size, why, one.where))
        walk.held += 1
        walk.external += one.external
        walk.vouched = size


def _reach(walk: _Walk) -> None:
    size, longest = walk.tree.size, max(walk.told, default=0)
    if size < longest:
        where = walk.told[longest][0].where
        why = f"the log ends after record {size}, and a checkpoint over {longest} was signed"
        raise _Found(Finding(Fault.CUT_OFF, size + 1, longest, why, where))
