"""Strict JSON: whatever gets through means one thing to every reader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.server.entrance.body import strict_json, validated
from orchestrator.server.entrance.problems import ProblemError
from orchestrator.server.schemas import CancelQuery, JobRequest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_ordinary_json_is_read_as_it_is(value):
    assert strict_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_one_reason(data):
    try:
        strict_json(data)
    except ProblemError as refused:
        assert refused.reason == "json_malformed"  # noqa: PT017


@given(TEXT, JSON, JSON)
def test_a_name_given_twice_is_refused_at_any_depth(name, first, second):
    pair = json.dumps(name)
    text = f'[{{"a": {{{pair}: {json.dumps(first)}, {pair}: {json.dumps(second)}}}}}]'
    with pytest.raises(ProblemError):
        strict_json(text.encode())


@pytest.mark.parametrize(("text", "value"), [("60.0", 60), ("6e1", 60), ("1.5", 1.5), ("-0.0", 0)])
def test_a_whole_number_is_an_integer_however_it_is_written(text, value):
    parsed = strict_json(text.encode())
    assert parsed == value
    assert isinstance(parsed, type(value))


CANARY = "c4n4ry-Zx81"


@given(
    st.dictionaries(
        st.sampled_from(["name", "pool", "script", "environment", "timeout_seconds", "claimed", "other"]),
        st.one_of(st.none(), st.integers(), st.just(f"\0{CANARY}"), st.just({f" {CANARY}": CANARY}), st.just([CANARY])),
        min_size=1,
    )
)
def test_what_is_refused_is_never_repeated(body):
    with pytest.raises(ProblemError) as refused:
        validated(JobRequest, body)
    told = str(refused.value) + "".join(f"{fault.pointer} {fault.detail}" for fault in refused.value.faults)
    assert CANARY not in told
    assert refused.value.faults


def test_the_least_request_has_documented_defaults():
    request = validated(JobRequest, {"name": "n", "script": "s"})
    assert request.model_dump(exclude_defaults=True) == {"name": "n", "script": "s"}
    assert (request.pool, request.environment, request.timeout_seconds) == ("default", {}, 0)


def test_a_reason_that_is_too_long_is_told_how_long_it_may_be():
    with pytest.raises(ProblemError) as refused:
        validated(CancelQuery, {"reason": "x" * 201})
    assert (
        refused.value.faults[0].detail == "may hold only one line of at most 200 characters, without control characters"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Prüfung"}, "may hold only letters (A to Z), digits, spaces"),
        ({"pool": "Default"}, "may hold only small letters"),
        ({"artifact_digest": "sha256:abc"}, "may hold only sha256: and 64 hexadecimal digits"),
        ({"ticket": "a b"}, "digits and ._/#-"),
        ({"shcript": "s"}, "there is no such key"),
        ({"environment": {"1A": "x"}}, "holds a name that is not allowed: letters"),
    ],
)
def test_what_may_stand_there_is_said_in_words(change, words):
    with pytest.raises(ProblemError) as refused:
        validated(JobRequest, {"name": "n", "script": "s"} | change)
    (fault,) = refused.value.faults
    assert fault.detail.startswith(words) or words in fault.detail
    assert "^" not in fault.detail, "a regular expression explains nothing"
    assert "Value error" not in fault.detail
