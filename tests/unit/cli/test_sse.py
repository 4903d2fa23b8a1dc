"""Server-sent events, in any cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.link import sse

STREAM = (
    b': beat\n\nid: 1\nevent: JobOffered\ndata: {"a":\ndata: 1}\n\n'
    b"retry: 5\ndata:\r\n\r\nid: 2\ndata: \xc3\xa9\n\ndata: unfinished"
)
EVENTS = [
    sse.ServerEvent("1", "JobOffered", '{"a":\n1}'),
    sse.ServerEvent("1", "message", ""),
    sse.ServerEvent("2", "message", "é"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_cut_does_not_matter(cuts):
    parser, found = sse.EventParser(), []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(edges):
        found += parser.feed(STREAM[start:end])
    assert found == EVENTS


@given(st.binary(max_size=300))
def test_no_bytes_break_it(noise):
    sse.EventParser().feed(noise)


@pytest.mark.parametrize("line", [b"x" * 1000, b"data: x\n" * 200])
def test_an_event_is_bounded(monkeypatch, line):
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 900)
    with pytest.raises(sse.EventTooLargeError):
        sse.EventParser().feed(line)
