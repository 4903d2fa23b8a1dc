"""Reading a job's output: whatever way the stream is cut into pieces and resumed, each line comes once, in order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends.kubernetes.pod_log import CHUNK, SECOND, LineFilter, Position

BASE = 1_790_000_000 * SECOND


def stamp(at_ns: int) -> bytes:
    """As the kubelet writes it: RFC 3339 with nanoseconds, trailing zeros cut."""
    whole, rest = divmod(at_ns, SECOND)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return (datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z ").encode()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"2026-11-25T21:00:00Z a\n", b"a\n"),
        (b"2026-11-25T21:00:00.1Z \n", b"\n"),
        (b"2026-11-25T21:00:00.123456789+02:00 a b\n", b"a b\n"),
        (b"2026-11-25T21:00:00Z no end", b"no end"),
        (b"2026-11-25T21:00:00Z a\nnot stamped\n2026-11-25T21:00:01Z b\n", b"a\nb\n"),
        (b"2026-11-25T21:00:00Z a\nrpc error: code = NotFound desc = an error occurred: no such container", b"a\n"),
        (b"2026-11-25T21:00:00Z a\nnot found", b"a\n"),
        (b"unable to retrieve container logs for containerd://0123456789abcdef", b""),
        (b"2026-11-25T21:00:00Z 2026-11-25T21:00:00Z own stamp\n", b"2026-11-25T21:00:00Z own stamp\n"),
        (b"", b""),
    ],
)
def test_stamps_are_taken_off(text, wanted):
    lines = LineFilter(Position())
    assert lines.feed(text) + lines.end() == wanted


line = st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"."))


@given(
    steps=st.lists(st.tuples(st.sampled_from([0, 0, 1, 10**8, 999_999_999, SECOND, 3 * SECOND]), line), max_size=12),
    cuts=st.lists(st.integers(0, 600), max_size=4),
    size=st.integers(1, 50),
)
def test_each_line_comes_once_through_any_cuts(steps, cuts, size):
    at, stamped = BASE, []
    for step, text in steps:
        at += step
        stamped.append((at, stamp(at) + text + b"\n", text + b"\n"))
    position, got = Position(), b""
    for cut in [*sorted(cuts), None]:
        since = position.at_ns // SECOND * SECOND  # what the API server makes of sinceTime
        stream = b"".join(full for when, full, _ in stamped if when >= since)
        if cut is not None:
            stream = stream[:cut]
        lines = LineFilter(position)
        for start in range(0, len(stream), size):
            got += lines.feed(stream[start : start + size])
        if cut is None:  # a cut in the middle of a stamp leaves nothing to say
            got += lines.end()
        position = lines.position
    assert got == b"".join(text for _, _, text in stamped)


def test_a_line_that_was_cut_goes_on_where_it_was():
    lines = LineFilter(Position())
    assert lines.feed(stamp(BASE) + b"half of a li") == b"half of a li"
    again = LineFilter(Position.read(lines.position.text()))
    text = stamp(BASE) + b"half of a line\n" + stamp(BASE + 1) + b"next\n"
    assert again.feed(text) == b"ne\nnext\n"


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 50_000])
@pytest.mark.parametrize("each_piece", [True, False])
def test_stamps_inside_of_long_lines_are_taken_off(size, length, each_piece):
    """Old kubelets stamp each piece of a long line, new ones only its beginning."""
    text = (b"0123456789" * (length // 10 + 1))[:length]
    pieces = [text[at : at + CHUNK] for at in range(0, length, CHUNK)]
    line = b"".join(stamp(BASE + number) + piece for number, piece in enumerate(pieces))
    stream = (line if each_piece else stamp(BASE) + text) + b"\n" + stamp(BASE + 99) + b"next\n"
    lines = LineFilter(Position())
    got = b"".join(lines.feed(stream[at : at + size]) for at in range(0, len(stream), size)) + lines.end()
    assert got == text + b"\nnext\n"


@pytest.mark.parametrize("text", ["", "x", "1", "1 2", "1 2 3 4", "-1 2 3", "1 x 3", "\x00"])
def test_what_is_no_position_is_the_beginning(text):
    assert Position.read(text) == Position()


def test_positions_are_kept_as_text():
    assert Position.read(Position(BASE + 7, 3, 9).text()) == Position(BASE + 7, 3, 9)
