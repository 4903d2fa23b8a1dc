"""Globs: full match, no other magic, linear; and what is known of two of them."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.identity.trust import glob_sets
from orchestrator.identity.trust.glob_sets import covers, overlap
from orchestrator.identity.trust.globs import MAX_PATTERN_CHARS, MAX_TEXT_CHARS, Glob, GlobError


def as_regex(pattern: str) -> re.Pattern[str]:
    """The meaning, said again in another way."""
    parts = ({"**": ".*", "*": "[^/]*"}.get(token, re.escape(token)) for token in re.findall(r"\*\*|\*|[^*]", pattern))
    return re.compile("".join(parts), re.DOTALL)


patterns = st.text("ab/*\n.[", min_size=1, max_size=8).filter(lambda text: "*" in text and "***" not in text).map(Glob)
texts = st.text("ab/\n.[", max_size=10)


@given(patterns, texts)
def test_it_matches_what_the_same_regular_expression_matches_in_full(glob, text):
    assert glob.matches(text) == bool(as_regex(glob.pattern).fullmatch(text))


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("refs/heads/release/*", "refs/heads/release/1.2", True),
        ("refs/heads/release/*", "refs/heads/release/1/2", False),
        ("refs/heads/release/*", "refs/heads/release/", True),
        ("refs/heads/release/*", "refs/heads/release", False),
        ("refs/heads/release/*", "xrefs/heads/release/1", False),
        ("refs/heads/release/*", "refs/heads/Release/1", False),
        ("refs/heads/main*", "refs/heads/main\n", True),
        ("*/main", "refs/main\n", False),  # where `$` of a regular expression would match
        ("refs/heads/**", "refs/heads/a/b", True),
        ("refs/**/x", "refs/x", False),
        ("refs/**/x", "refs//x", True),
        ("**", "", True),
        ("a.c*", "abc", False),
        ("[ab]*", "a", False),
        ("a?*", "ab", False),
    ],
)
def test_examples(pattern, text, matched):
    assert Glob(pattern).matches(text) is matched


@pytest.mark.parametrize("pattern", ["", "refs/heads/main", "a***", "*" * 4, "a" * MAX_PATTERN_CHARS + "*"])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(GlobError):
        Glob(pattern)


@pytest.mark.parametrize("pattern", ["*a" * 100 + "*b", "**a" * 80 + "**b", "**/*a" * 50 + "b*c", "*a**b" * 40 + "*c"])
@pytest.mark.parametrize("text", ["a" * 100_000, "a" * MAX_TEXT_CHARS, "a/" * (MAX_TEXT_CHARS // 2), "/a" * 50_000])
def test_no_text_makes_it_slow(pattern, text):
    glob = Glob(pattern)
    durations = []
    for _ in range(3):
        began = time.process_time()
        assert not glob.matches(text)
        durations.append(time.process_time() - began)
    # Backtracking would take years; a quarter of this is what it takes.
    assert min(durations) < 0.005


def test_a_longer_text_than_the_bound_matches_nothing():
    assert Glob("**").matches("a" * MAX_TEXT_CHARS)
    assert not Glob("**").matches("a" * (MAX_TEXT_CHARS + 1))


WORDS = ["".join(letters) for size in range(7) for letters in itertools.product("ab/x", repeat=size)]
small_patterns = (
    st.text("ab/*", min_size=1, max_size=4).filter(lambda text: "*" in text and "***" not in text).map(Glob)
)


@given(small_patterns, small_patterns)
@settings(deadline=None)
def test_overlap_and_cover_are_what_trying_every_text_says(one, other):
    """Patterns of four characters have a short text in common if any, and a short one that only the first matches."""
    first, second = ({text for text in WORDS if glob.matches(text)} for glob in (one, other))
    assert overlap(one, other) == bool(first & second)
    assert covers(other, one) == (first <= second)


def test_beyond_the_bound_the_careful_answer_is_given(monkeypatch):
    one, other = Glob("x*/a*z"), Glob("x*z")
    assert not overlap(one, other)
    assert covers(Glob("**a**"), Glob("**a*b**a"))
    monkeypatch.setattr(glob_sets, "MAX_STATES", 2)
    assert overlap(one, other)
    assert not covers(Glob("**a**"), Glob("**a*b**a"))


def test_equal_patterns_are_equal():
    assert Glob("a*") == Glob("a*")
    assert len({Glob("a*"), Glob("a*"), Glob("b*")}) == 2
    assert repr(Glob("a*")) == "Glob('a*')"
