"""A record: its one form, its hash, what it refuses, and that no change of a byte goes unnoticed."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evidence.audit.record import (
    FIRST_PREV,
    MAX_RECORD_BYTES,
    MAX_TEXT_CHARS,
    AuditEvent,
    RecordDamagedError,
    RecordRefusedError,
    data_of,
    prepare,
    read_line,
)

from .conftest import event

text = st.text(st.characters(codec="utf-8"), max_size=40)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)


def line_of(told: AuditEvent, seq: int = 1, prev: str = FIRST_PREV) -> bytes:
    return prepare(told).line(seq, prev)[0]


@given(
    st.dictionaries(text, json_value, max_size=5),
    text,
    text,
    st.integers(1, 2**62),
    st.binary(min_size=32, max_size=32),
)
def test_any_program_can_make_the_line_and_its_hash_again(data, actor, workflow, seq, prev):
    told = event(actor=actor, workflow=workflow, data=data)
    line, own = prepare(told).line(seq, prev.hex())
    document = json.loads(line)
    assert json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == line
    assert document.pop("hash") == own
    rest = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert sha256(rest).hexdigest() == own
    record = read_line(line)
    assert (record.seq, record.prev, record.hash) == (seq, prev.hex(), own)
    assert data_of(record) == data
    for name in ("kind", "at_ns", "actor", "workflow", "commit", "environment", "outcome", "job_id", "trace_id"):
        assert getattr(record, name) == getattr(told, name)


@pytest.mark.parametrize("name", ["workflow", "commit", "environment", "outcome"])
def test_an_event_without_one_of_the_four_cannot_be_made(name):
    given_ = {field.name: getattr(event(), field.name) for field in dataclasses.fields(AuditEvent)}
    del given_[name]
    with pytest.raises(TypeError, match=name):
        AuditEvent(**given_)
    line = json.loads(line_of(event(**{name: ""})))
    assert line[name] == ""


def test_every_flipped_bit_is_noticed():
    line = line_of(event())
    for place in range(len(line)):
        for bit in range(8):
            broken = bytearray(line)
            broken[place] ^= 1 << bit
            with pytest.raises(RecordDamagedError):
                read_line(bytes(broken))


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'","at_ns"', b'", "at_ns"'),
        lambda line: line.replace(b'{"actor"', b'{"seq":9,"actor"'),
        lambda line: line.replace(b'"seq":1,', b'"seq":1,"surplus":1,'),
        lambda line: line.replace(b'"seq":1', b'"seq":1.0'),
        lambda line: line[:-1],
        lambda line: line + line,
        lambda line: b"[]",
        lambda line: b"",
        lambda line: b'{"data":' + b"[" * 5000,
        lambda line: b" " * (MAX_RECORD_BYTES + 1),
    ],
)
def test_lines_of_another_form_are_no_records(change):
    line = line_of(event())
    assert change(line) != line
    with pytest.raises(RecordDamagedError):
        read_line(change(line))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "Token Issued"}, "kind"),
        ({"kind": "token"}, "kind"),
        ({"kind": "a." + "b" * 80}, "kind"),
        ({"actor": "x" * (MAX_TEXT_CHARS + 1)}, "actor"),
        ({"outcome": None}, "outcome"),
        ({"at_ns": -1}, "at_ns"),
        ({"at_ns": True}, "at_ns"),
        ({"journal_seq": 2**63}, "journal_seq"),
        ({"data": []}, "data"),
        ({"data": {"a": 1.5}}, "float"),
        ({"data": {"a": b"x"}}, "bytes"),
        ({"data": {1: "x"}}, "key"),
        ({"data": {"a": 2**63}}, "63 bits"),
        ({"data": {"a": [[[[[[[[[1]]]]]]]]]}}, "deep"),
        ({"data": {"a": "\ud800"}}, "Unicode"),
        ({"workflow": "\udfff"}, "Unicode"),
    ],
)
def test_what_has_no_one_form_is_refused_without_repeating_it(change, told):
    with pytest.raises(RecordRefusedError, match=told) as caught:
        prepare(event(**change))
    assert caught.value.reason == "audit_record_invalid"
    assert "x" * 50 not in str(caught.value)


def test_kinds_of_text_and_mapping_are_written_as_what_they_are():
    class Word(StrEnum):
        ALLOW = "allow"

    class Name(str):
        __slots__ = ()

    data = MappingProxyType({Word.ALLOW: Name("n"), "deep": [MappingProxyType({Name("k"): (Word.ALLOW,)})]})
    record = read_line(line_of(event(outcome=Word.ALLOW, data=data)))
    assert record.outcome == "allow"
    assert data_of(record) == {"allow": "n", "deep": [{"k": ["allow"]}]}


def test_size_is_bounded_and_what_fits_can_be_read_again():
    room = MAX_RECORD_BYTES - 900
    line = line_of(event(data={"a": "x" * room}), 2**62)
    assert read_line(line).seq == 2**62
    with pytest.raises(RecordRefusedError) as caught:
        prepare(event(data={"a": "x" * MAX_RECORD_BYTES}))
    assert caught.value.reason == "audit_record_too_large"


def test_a_hash_within_data_is_not_taken_for_the_records_own():
    for data in ({"hash": "0" * 64}, {"z": {"hash": "1" * 64}}, {"a": '","hash":"' + "2" * 64 + '"'}):
        line = line_of(event(data=data, workflow='","hash":"' + "3" * 64))
        assert data_of(read_line(line)) == data
        with pytest.raises(RecordDamagedError):
            read_line(line.replace(b"0000", b"0001").replace(b"1111", b"1112").replace(b"2222", b"2223"))
