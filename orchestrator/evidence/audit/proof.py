"""Proofs that stand without the log: that a record is in it, and that it only grew since a checkpoint.

A proof of a record is a C2SP tlog-proof, with the record's line as its extra data. A proof of growth has the form in
which C2SP tlog-witness asks for one: the old size, the hashes, the new checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from orchestrator.errors import GiveUpError
from orchestrator.evidence.audit.checkpoint import Checkpoint, read_checkpoint
from orchestrator.evidence.audit.note import NoteVerifier
from orchestrator.evidence.audit.record import Record, RecordDamagedError, read_line
from orchestrator.evidence.audit.segments import lines_of, segments_of
from orchestrator.evidence.audit.tree import (
    HASH_BYTES,
    consistency_ranges,
    extends,
    hashes_of,
    included,
    inclusion_ranges,
    leaf_hash,
)

MAX_PROOF_BYTES: Final = 256 << 10

_TITLE: Final = "c2sp.org/tlog-proof@v1"
_MAX_HASHES: Final = 128
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class ProofRefusedError(GiveUpError):
    """`proof_malformed`, `proof_invalid` (it does not show what it claims), `proof_impossible` (it cannot be made)."""

    reason = "proof_invalid"


@dataclass(frozen=True, slots=True)
class RecordProof:
    """Shows that `line` is leaf `index` (record `index + 1`) under `note`, a signed checkpoint."""

    line: bytes
    index: int
    hashes: tuple[bytes, ...]
    note: str

    @property
    def text(self) -> str:
        lines = [_TITLE, f"extra {_encode(self.line)}", f"index {self.index}", *map(_encode, self.hashes)]
        return "\n".join(lines) + f"\n\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> RecordProof:
        """
        Raises:
            ProofRefusedError: reason `proof_malformed`.
        """
        head, _, note = text.partition("\n\n")
        lines = head.split("\n")
        if len(lines) < 3 or lines[0] != _TITLE or not lines[1].startswith("extra "):
            raise _malformed()
        return cls(_decode(lines[1][6:]), _number(lines[2], "index "), _hashes(lines[3:]), note)

    def check(self, verifier: NoteVerifier) -> tuple[Record, Checkpoint]:
        """The record and the checkpoint that vouches for it.

        Raises:
            NoteRefusedError: the checkpoint is not this key's.
            ProofRefusedError: the record is not in the log that was signed for.
        """
        checkpoint = read_checkpoint(self.note, verifier)
        if not included(leaf_hash(self.line), self.index, checkpoint.size, self.hashes, checkpoint.root):
            raise ProofRefusedError(f"the record is not number {self.index + 1} of what the checkpoint was signed for")
        try:
            record = read_line(self.line)
        except RecordDamagedError as error:
            raise ProofRefusedError(f"the log holds a line that is no record: {error}") from None
        return record, checkpoint


@dataclass(frozen=True, slots=True)
class GrowthProof:
    """Shows that the log under `note`, a signed checkpoint, begins with its first `old_size` records of before."""

    old_size: int
    hashes: tuple[bytes, ...]
    note: str

    @property
    def text(self) -> str:
        return "\n".join([f"old {self.old_size}", *map(_encode, self.hashes)]) + f"\n\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> GrowthProof:
        """
        Raises:
            ProofRefusedError: reason `proof_malformed`.
        """
        head, _, note = text.partition("\n\n")
        lines = head.split("\n")
        return cls(_number(lines[0], "old "), _hashes(lines[1:]), note)

    def check(self, old: Checkpoint, verifier: NoteVerifier) -> Checkpoint:
        """The newer checkpoint, once it is shown to hold all that `old` was signed for.

        Raises:
            NoteRefusedError: the newer checkpoint is not this key's.
            ProofRefusedError: the log is not a continuation of the old one.
        """
        new = read_checkpoint(self.note, verifier)
        if self.old_size != old.size:
            raise ProofRefusedError(f"the proof begins at {self.old_size} records, the checkpoint at {old.size}")
        if not (old.size == 0 or extends(old.size, old.root, new.size, new.root, self.hashes)):
            raise ProofRefusedError(f"the log does not continue the one of {old.size} records")
        return new


def is_growth(text: str) -> bool:
    """Which of the two proofs a text is meant to be."""
    return text.startswith("old ")


def prove_record(folder: Path, seq: int, checkpoint: Checkpoint) -> RecordProof:
    """The proof for record `seq` under `checkpoint`, from the log's files.

    Raises:
        ProofRefusedError: there is no such record under the checkpoint, or the log does not fit it.
        OSError: the log cannot be read.
    """
    if not 0 < seq <= checkpoint.size:
        raise ProofRefusedError(
            f"the checkpoint is over records 1 to {checkpoint.size}, and does not vouch for {seq}",
            reason="proof_impossible",
            fix="wait for the next checkpoint" if seq > checkpoint.size else "records count from 1",
        )
    line = _line_of(folder, seq)
    try:
        hashes = hashes_of(inclusion_ranges(seq - 1, checkpoint.size), _leaves(folder))
    except ValueError:
        raise _unfit() from None
    if not included(leaf_hash(line), seq - 1, checkpoint.size, hashes, checkpoint.root):
        raise _unfit()
    return RecordProof(line, seq - 1, tuple(hashes), checkpoint.note)


def prove_growth(folder: Path, old: Checkpoint, new: Checkpoint) -> GrowthProof:
    """The proof that the log under `new` begins with what `old` was signed for, from the log's files.

    Raises:
        ProofRefusedError: it does not, or the log does not fit the checkpoints.
        OSError: the log cannot be read.
    """
    if old.size > new.size:
        raise ProofRefusedError(
            f"the newest checkpoint is over {new.size} records, the other over {old.size}: the log became shorter",
            reason="proof_impossible",
            fix="look at it with orchestrator audit verify --checkpoint",
        )
    try:
        hashes = hashes_of(consistency_ranges(old.size, new.size), _leaves(folder)) if old.size else []
    except ValueError:
        raise _unfit() from None
    if old.size and not extends(old.size, old.root, new.size, new.root, hashes):
        raise _unfit()
    return GrowthProof(old.size, tuple(hashes), new.note)


def _leaves(folder: Path) -> Iterator[bytes]:
    for segment in segments_of(folder):
        for line in lines_of(segment.path):
            yield leaf_hash(line.removesuffix(b"\n"))


def _line_of(folder: Path, seq: int) -> bytes:
    segments = [segment for segment in segments_of(folder) if segment.first <= seq]
    if not segments:
        return b""
    return next(islice(lines_of(segments[-1].path), seq - segments[-1].first, None), b"").removesuffix(b"\n")


def _unfit() -> ProofRefusedError:
    return ProofRefusedError(
        "the log does not hold what the checkpoint was signed for",
        reason="proof_impossible",
        fix="orchestrator audit verify says from where on",
    )


def _malformed() -> ProofRefusedError:
    return ProofRefusedError(
        "the file is no proof", reason="proof_malformed", fix="make one with orchestrator audit prove"
    )


def _number(line: str, name: str) -> int:
    text = line.removeprefix(name)
    if text == line or not _NUMBER.fullmatch(text):
        raise _malformed()
    return int(text)


def _hashes(lines: list[str]) -> tuple[bytes, ...]:
    decoded = tuple(_decode(line) for line in lines)
    if len(decoded) > _MAX_HASHES or any(len(one) != HASH_BYTES for one in decoded):
        raise _malformed()
    return decoded


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed() from None
