"""The files of the log: lines of JSON in pieces that are compressed by themselves, each file bounded.

Every piece is a gzip member (RFC 1952), so `zcat` reads a file; a piece that was cut off or damaged costs no other.
A file's name says when its first decision was taken, in which run of the daemon and with which number.
"""

from __future__ import annotations

import datetime as dt
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MAX_PIECE_BYTES = 8 << 20
"""Most bytes of one piece, uncompressed; a reader takes no more."""
MAX_SEGMENT_BYTES = 64 << 20
"""Most bytes of one file that a reader takes."""

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
"""How each of our pieces begins: gzip, deflate, no flags, no time."""
_GZIP = 31
_BITE = 16 << 10
_STAMP = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(r"([0-9]{8}T[0-9]{12}Z)-([0-9a-f]{8})-([0-9]{1,15})(\.open|\.cut|)\.jsonl\.gz")


class State(StrEnum):
    """*open*: being written, by a daemon that lives or one that was killed. *cut*: its daemon was killed, so that what
    was decided in its last moment may be missing. *closed*: whole."""

    OPEN = "open"
    CUT = "cut"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Segment:
    """One file. `first_ns` is the time of its first decision, Unix nanoseconds; `first_number` its number in `run`."""

    path: Path
    first_ns: int
    run: str
    first_number: int
    state: State

    def named(self, state: State) -> Path:
        """Its path once it is in this state."""
        ending = "" if state is State.CLOSED else f".{state.value}"
        stem = self.path.name.removesuffix(".jsonl.gz").removesuffix(f".{self.state.value}")
        return self.path.with_name(f"{stem}{ending}.jsonl.gz")


def segment_path(folder: Path, first_ns: int, run: str, first_number: int) -> Path:
    """The path of a new file, which is open."""
    stamp = (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=first_ns // 1000)).strftime(_STAMP)  # noqa: DTZ001
    return folder / f"{stamp}-{run}-{first_number}.open.jsonl.gz"


def segment_of(path: Path) -> Segment | None:
    """The file as its name tells; None for a foreign one."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return None
    try:
        first = dt.datetime.strptime(found[1], _STAMP).replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    first_ns = int((first - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1)) * 1000
    state = State(found[4].removeprefix(".") or State.CLOSED)
    return Segment(path, first_ns, found[2], int(found[3]), state)


def segments_of(folder: Path) -> Sequence[Segment]:
    """All files of the log, oldest first.

    Raises:
        OSError: the folder cannot be read.
    """
    found = [segment for path in folder.iterdir() if (segment := segment_of(path)) is not None]
    return sorted(found, key=lambda one: (one.first_ns, one.run, one.first_number))


def piece_of(lines: bytes) -> bytes:
    """Lines as a piece of a file."""
    packer = zlib.compressobj(level=4, wbits=_GZIP)
    return packer.compress(lines) + packer.flush()


@dataclass(frozen=True, slots=True)
class Piece:
    """What became of some bytes of a file: its lines, or why there are none; `cut` where the file ends within it."""

    lines: Sequence[bytes]
    at: int
    size: int
    fault: str = ""
    cut: bool = False


def pieces_of(content: bytes) -> Iterator[Piece]:
    """The pieces of a file in order. Damage is told and skipped, up to where a piece begins again."""
    at = 0
    while at < len(content):
        piece = _piece_at(content, at)
        yield piece
        at += piece.size


def _piece_at(content: bytes, at: int) -> Piece:
    unpacker, text, end = zlib.decompressobj(wbits=_GZIP), bytearray(), at
    try:
        # In small bites: what lies behind the piece's end would be copied for each piece anew.
        while not unpacker.eof and end < len(content):
            bite = content[end : end + _BITE]
            text += unpacker.decompress(bite, MAX_PIECE_BYTES + 1 - len(text))
            if unpacker.unconsumed_tail:
                return _damaged(content, at, f"it is larger than {MAX_PIECE_BYTES} bytes")
            end += len(bite)
    except zlib.error:
        return _damaged(content, at, "it cannot be decompressed, or its checksum is another")
    if unpacker.eof:
        return Piece(bytes(text).split(b"\n")[:-1], at, end - len(unpacker.unused_data) - at)
    if content.find(_HEADER, at + 1) >= 0:
        return _damaged(content, at, "its end is missing")
    return Piece((), at, len(content) - at, "the file ends within it", cut=True)


def _damaged(content: bytes, at: int, why: str) -> Piece:
    following = content.find(_HEADER, at + 1)
    end = len(content) if following < 0 else following
    return Piece((), at, end - at, why)
