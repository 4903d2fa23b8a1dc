"""The files of a log: segments named by the `seq` of their first record, and what each begins with.

00000000000000000001.jsonl   records, one a line
00000000000000000001.start   a signed checkpoint of what came before, from which the log is taken up again
checkpoint                   the newest signed checkpoint
checkpoints                  all of them, each followed by an empty line
vkey                         the public key
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from orchestrator.evidence.audit.checkpoint import Checkpoint, read_checkpoint, sign_checkpoint
from orchestrator.evidence.audit.note import MAX_NOTE_BYTES, NoteKey, NoteRefusedError, NoteVerifier
from orchestrator.evidence.audit.record import MAX_RECORD_BYTES
from orchestrator.evidence.audit.tree import Tree

NEWEST: Final = "checkpoint"
HISTORY: Final = "checkpoints"
VKEY: Final = "vkey"

_NAME: Final = re.compile(r"([0-9]{20})\.jsonl")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    first: int
    path: Path

    @classmethod
    def of(cls, folder: Path, first: int) -> Segment:
        return cls(first, folder / f"{first:020d}.jsonl")

    @property
    def start(self) -> Path:
        return self.path.with_suffix(".start")


def segments_of(folder: Path) -> list[Segment]:
    """In the order of their records."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(Segment(int(match[1]), path) for match, path in found if match)


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines with their newlines; the last may lack one, and one that is too long comes in parts that lack one."""
    with path.open("rb", buffering=1 << 20) as file:
        yield from iter(partial(file.readline, MAX_RECORD_BYTES + 1), b"")


@dataclass(frozen=True, slots=True)
class Start:
    """What stood when a segment was begun: the tree, the hash of the last record, the highest `journal_seq`."""

    tree: Tree
    prev: str
    journal_seq: int

    def sign(self, key: NoteKey) -> Checkpoint:
        peaks = " ".join(peak.hex() for peak in self.tree.peaks)
        told = (f"peaks {peaks}".strip(), f"prev {self.prev}", f"journal_seq {self.journal_seq}")
        return sign_checkpoint(key, self.tree.size, self.tree.root(), told)

    @classmethod
    def read(cls, note: str, verifier: NoteVerifier) -> Start:
        """
        Raises:
            NoteRefusedError: see `read_checkpoint`.
        """
        checkpoint = read_checkpoint(note, verifier)
        try:
            told = dict(line.partition(" ")[::2] for line in checkpoint.extensions)
            tree = Tree(checkpoint.size, [bytes.fromhex(peak) for peak in told["peaks"].split()])
            start = cls(tree, told["prev"], int(told["journal_seq"]))
        except (KeyError, ValueError):
            raise NoteRefusedError("the note is not the start of a segment") from None
        if tree.root() != checkpoint.root:
            raise NoteRefusedError("the note contradicts itself")
        return start


def read_note(path: Path) -> str:
    """The text of a file of notes that is not too large.

    Raises:
        OSError: it cannot be read.
        NoteRefusedError: it is too large.
    """
    with path.open("rb") as file:
        data = file.read(MAX_NOTE_BYTES + 1)
    if len(data) > MAX_NOTE_BYTES:
        raise NoteRefusedError("the file is too large for a note")
    return data.decode("utf-8", errors="replace")
