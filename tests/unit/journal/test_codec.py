from __future__ import annotations

import contextlib
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import GiveUpError
from orchestrator.journal import codec
from orchestrator.model import events
from orchestrator.model.job import Caller, JobKey, JobOffer
from orchestrator.model.platform import MAX_KEY, PlatformJob
from orchestrator.model.record import fold

COMPONENT = st.from_regex(r"[A-Za-z0-9_-]{1,96}", fullmatch=True)
st.register_type_strategy(JobKey, st.builds(JobKey, COMPONENT, COMPONENT, st.integers(1, 1_000_000)))
st.register_type_strategy(
    PlatformJob, st.builds(PlatformJob, st.text(min_size=1, max_size=MAX_KEY), st.text(), st.builds(Caller))
)
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
EVERY_EVENT = st.one_of([st.builds(kind) for kind in get_args(events.Event)])


@given(EVERY_EVENT)
@settings(max_examples=300, deadline=None)
def test_every_event_comes_back_as_it_was(event: events.Event) -> None:
    data = codec.encode(event)
    assert b"\n" not in data
    assert codec.decode(codec.kind_of(event), data) == event


def test_every_kind_of_event_has_a_name_of_its_own() -> None:
    assert set(codec.EVENT_KINDS.values()) == set(get_args(events.Event))
    assert codec.EVENT_KINDS["RunnerBound"] is events.RunnerBound


def test_rows_of_before_a_field_existed_take_its_default() -> None:
    event = codec.decode(
        "JobCompacted",
        b'{"name":"n","pool":"p","outcome":{"result":"success","reason":"completed","message":"m"},'
        b'"offered_at_ns":1,"finished_at_ns":2}',
    )
    assert isinstance(event, events.JobCompacted)
    assert (event.fingerprint, event.pipeline, event.outcome.exit_code) == ("", "", None)
    offer = codec.decode(
        "JobOffered",
        b'{"offer":{"key":{"source":"dispatch","platform_id":"a"},"spec":{"name":"n","pool":"p","script":"s"},'
        b'"caller":{"issuer":"i","subject":"s"}}}',
    )
    assert fold([events.Fact(events.JobId("dispatch.a.1"), 1, offer, 1)]).offer.spec.environment == {}


def test_fields_of_a_newer_program_are_ignored() -> None:
    event = codec.decode("RunnerDeleted", b'{"runner":"runner-a","colour":"red"}')
    assert event == events.RunnerDeleted(events.RunnerName("runner-a"))


def test_kinds_of_a_newer_program_are_refused() -> None:
    with pytest.raises(GiveUpError) as refused:
        codec.decode("JobTeleported", b"{}")
    assert refused.value.reason == "journal_newer"
    assert "JobTeleported" in str(refused.value)
    assert "orchestrator restore --aside FILE" in str(refused.value.fix)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("RunnerDeleted", b"{}"),
        ("RunnerDeleted", b""),
        ("RunnerDeleted", b'{"runner":1}'),
        ("RunnerDeleted", b'{"runner":"a"'),
        ("RunnerDeleted", b'{"runner":"\xff"}'),
        ("JobWaited", b'{"reason":"bored"}'),
        ("LogClosed", b'{"bytes_kept":"1","bytes_dropped":0,"secrets_masked":0}'),
        ("JobOffered", b'{"offer":{"key":{"source":"a/b","platform_id":"a"}}}'),
    ],
)
def test_damaged_rows_are_told_apart_from_newer_ones(kind: str, data: bytes) -> None:
    with pytest.raises(GiveUpError) as refused:
        codec.decode(kind, data)
    assert refused.value.reason == "journal_corrupt"


@given(kind=st.sampled_from(sorted(codec.EVENT_KINDS)), data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_another_error(kind: str, data: bytes) -> None:
    with contextlib.suppress(GiveUpError):
        assert type(codec.decode(kind, data)).__name__ == kind


def test_text_that_is_no_unicode_is_refused_without_quoting_it() -> None:
    with pytest.raises(GiveUpError) as refused:
        codec.encode(events.JobCancelRequested("hunter2\ud800"))
    assert refused.value.reason == "fact_unencodable"
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_fact_has_a_largest_size() -> None:
    with pytest.raises(GiveUpError) as refused:
        codec.encode(events.ProvenanceSigned("x" * (codec.MAX_FACT_BYTES + 1), ()))
    assert refused.value.reason == "fact_too_large"


@given(st.builds(JobOffer))
@settings(max_examples=50, deadline=None)
def test_the_text_is_plain_json(offer: JobOffer) -> None:
    fields = msgspec.json.decode(codec.encode(events.JobOffered(offer)))
    assert fields["offer"]["spec"]["script"] == offer.spec.script
