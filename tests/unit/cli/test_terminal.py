"""A job's output cannot steer the terminal it is shown on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.jobs.terminal import TerminalFilter

SAFE = re.compile(r"(?:\x1b\[[0-9;:]*m|[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f])*")


def filtered(*chunks: bytes) -> str:
    sieve = TerminalFilter()
    return "".join(sieve.feed(chunk) for chunk in chunks) + sieve.close()


@pytest.mark.parametrize(
    ("given_bytes", "shown"),
    [
        (b"plain\ttext\r\n", "plain\ttext\r\n"),
        (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        (b"a\x1b[2Jb\x1b[1;1Hc", "abc"),
        (b"a\x1b]0;title\x07b", "ab"),
        (b"a\x1b]52;c;c2VjcmV0\x1b\\b", "ab"),
        (b"a\x1bPq#0\x1b\\b", "ab"),
        (b"a\x1b(0b\x1bc", "ab"),
        (b"a\x08\x07\x00b", "ab"),
        ("a\u202eb\x9b2Jc".encode(), "ab2Jc"),
        ("grüße €".encode(), "grüße €"),
        (b"a\xffb", "a\ufffdb"),
        (b"end\x1b[", "end["),
    ],
)
def test_what_is_shown(given_bytes, shown):
    assert filtered(given_bytes) == shown
    assert filtered(*[given_bytes[i : i + 1] for i in range(len(given_bytes))]) == shown


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_nothing_but_colours_comes_through(chunks):
    assert SAFE.fullmatch(filtered(*chunks))


@given(st.text(st.sampled_from("\x1b[]m0;2J\x07\\P(ab\n"), max_size=60), st.integers(0, 60))
def test_sequences_are_found_over_a_cut(text, cut):
    data = text.encode()
    assert SAFE.fullmatch(filtered(data[:cut], data[cut:]))


def test_what_is_held_back_is_bounded():
    sieve = TerminalFilter()
    shown = "".join(sieve.feed(b"\x1b]" + b"x" * 1000) for _ in range(20))
    assert len(shown) > 10_000
