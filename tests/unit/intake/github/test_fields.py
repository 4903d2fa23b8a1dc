"""Reading a stranger's JSON: types, bounds, times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.fields import Fields, read_json, read_object, time_ns


def test_a_byte_order_mark_is_taken_off():
    assert read_json(b'\xef\xbb\xbf{"a":1}') == {"a": 1}
    assert read_json('\ufeff{"a":1}') == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json(body):
    with pytest.raises(UnreadableAnswerError):
        read_json(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"x"'])
def test_what_is_no_object(body):
    with pytest.raises(UnreadableAnswerError):
        read_object(body)


def test_absent_and_null_are_defaults():
    data = Fields({"a": None}, "")
    for name in ("a", "b"):
        assert (data.text(name), data.number(name), data.flag(name)) == ("", 0, False)
        assert (data.time_ns(name), data.texts(name), data.object(name)) == (None, (), None)
        assert name not in data


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("text", 3),
        ("text", "x" * 3000),
        ("text", ["x"]),
        ("number", "x"),
        ("number", True),
        ("number", 1.5),
        ("number", 1 << 64),
        ("number", "١"),
        ("flag", "true"),
        ("time_ns", "yesterday"),
        ("time_ns", {}),
        ("time_ns", "2026-13-01T00:00:00Z"),
        ("texts", "x"),
        ("texts", [3]),
        ("texts", [{"name": 3}]),
        ("items", {}),
        ("object", []),
        ("objects", [3]),
    ],
)
def test_another_type_is_an_error_that_names_the_field_only(method, value):
    with pytest.raises(UnreadableAnswerError) as caught:
        getattr(Fields({"secret_field": value}, "outer"), method)("secret_field")
    assert "outer.secret_field" in str(caught.value)
    assert "yesterday" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_numbers_may_be_written_as_text():
    assert Fields({"id": "9223372036854775807"}, "").number("id") == 9223372036854775807


def test_labels_come_as_text_and_as_objects():
    assert Fields({"labels": ["a", {"id": 1, "name": "b"}]}, "").texts("labels") == ("a", "b")


def test_shown_text_is_cut_and_never_an_error():
    data = Fields({"a": "x" * 999, "b": 3}, "")
    assert (len(data.shown("a")), data.shown("b")) == (256, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.1234567Z", 123_456_700),
        ("2026-01-01T10:00:00.123456789Z", 1_767_261_600_123_456_789),
        ("2026-01-01T11:30:00+01:30", 1_767_261_600_000_000_000),
        ("2026-01-01T08:00:00-02:00", 1_767_261_600_000_000_000),
        ("2026-02-30T00:00:00Z", None),
        ("2026-01-01 10:00:00Z", None),
        ("2026-01-01T10:00:00", None),
    ],
)
def test_times_are_exact(text, expected):
    assert time_ns(text) == expected


def test_the_zero_time_is_unset():
    assert time_ns("0001-01-01T00:00:00Z") < 0
    assert Fields({"t": "0001-01-01T00:00:00Z"}, "").time_ns("t") is None


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_agree_with_the_standard_library(moment):
    text = moment.isoformat()
    expected = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert time_ns(text) == (expected.days * 86_400 + expected.seconds) * 10**9 + expected.microseconds * 1000


@pytest.mark.parametrize("value", ["a\ud800", ["a\udfff"], [{"name": "\udc00"}]])
def test_text_that_no_later_stage_could_encode_is_wrong(value):
    data = Fields({"t": value}, "")
    with pytest.raises(UnreadableAnswerError):
        data.text("t") if isinstance(value, str) else data.texts("t")


def test_shown_text_can_be_encoded():
    assert Fields({"t": "a\ud800\xe4"}, "").shown("t") == "a?\xe4"
