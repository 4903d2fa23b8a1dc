"""Files of the log under damage: each piece stands for itself."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.decision_log import segments
from orchestrator.policy.decision_log.segment_file import SegmentFile
from orchestrator.policy.decision_log.segments import State, piece_of, pieces_of, segment_of, segment_path, segments_of

LINES = [[b"%d-%d" % (piece, line) * 20 for line in range(3)] for piece in range(5)]
PIECES = [piece_of(b"".join(line + b"\n" for line in lines)) for lines in LINES]
CONTENT = b"".join(PIECES)


def test_others_programs_read_it():
    assert gzip.decompress(CONTENT) == b"".join(line + b"\n" for lines in LINES for line in lines)


def test_pieces_come_back():
    assert [list(piece.lines) for piece in pieces_of(CONTENT)] == LINES
    assert list(pieces_of(b"")) == []


@given(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT)), st.binary(max_size=40))
def test_damage_costs_what_it_touches_and_no_other_piece(one, other, instead):
    start, end = min(one, other), max(one, other)
    content = CONTENT[:start] + instead + CONTENT[end:]
    found = list(pieces_of(content))
    assert sum(piece.size for piece in found) == len(content)
    read = {line for piece in found for line in piece.lines}
    assert read <= {line for lines in LINES for line in lines}, "nothing is made up"
    at = 0
    for lines, piece in zip(LINES, PIECES, strict=True):
        if at + len(piece) <= start or at >= end:
            assert set(lines) <= read, "what was not touched is there"
        at += len(piece)


@pytest.mark.parametrize("kept", [1, 9, len(PIECES[4]) - 1])
def test_a_file_that_ends_within_a_piece(kept):
    found = list(pieces_of(CONTENT[: len(CONTENT) - len(PIECES[4]) + kept]))
    assert [list(piece.lines) for piece in found[:4]] == LINES[:4]
    assert (found[4].cut, found[4].lines) == (True, ())


def test_a_piece_is_bounded():
    bomb = zlib.compressobj(level=9, wbits=31)
    made = bomb.compress(b"a" * (segments.MAX_PIECE_BYTES + 2)) + bomb.flush()
    [found, behind] = pieces_of(made + PIECES[0])
    assert "larger than" in found.fault
    assert list(behind.lines) == LINES[0]


def test_names_tell(tmp_path):
    path = segment_path(tmp_path, 1_795_341_600_123_456_789, "0a1b2c3d", 42)
    assert path.name == "20261122T100000123456Z-0a1b2c3d-42.open.jsonl.gz"
    segment = segment_of(path)
    assert segment is not None
    assert (segment.first_ns, segment.run, segment.first_number) == (1_795_341_600_123_456_000, "0a1b2c3d", 42)
    assert segment.state is State.OPEN
    for state in State:
        other = segment_of(segment.named(state))
        assert other is not None
        assert (other.state, other.first_ns, other.named(State.OPEN)) == (state, segment.first_ns, path)


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "20261399T100000123456Z-0a1b2c3d-42.jsonl.gz", "20261122T100000123456Z-0a1b2c3d-42.x.jsonl.gz"],
)
def test_foreign_files_are_left_alone(tmp_path, name):
    (tmp_path / name).touch()
    assert segments_of(tmp_path) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    file = SegmentFile(tmp_path, 1_795_341_600 * 10**9, "0a1b2c3d", 1)
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.append(PIECES[0])
    with pytest.raises(FileExistsError):
        SegmentFile(tmp_path, 1_795_341_600 * 10**9, "0a1b2c3d", 1)
    file.complete()
    [segment] = segments_of(tmp_path)
    assert segment.state is State.CLOSED
    assert segment.path.read_bytes() == PIECES[0]
    SegmentFile(tmp_path, 1, "0a1b2c3d", 1).complete()
    assert len(segments_of(tmp_path)) == 1, "an empty one is taken away"
