"""Keys, fingerprints and offers of the dispatch API."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import GiveUpError
from orchestrator.intake import dispatch
from orchestrator.model.job import Caller

CALLER = Caller("https://issuer.example", "alice")
VISIBLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (' "a b" ', "a b"),
        (r'"a\"b\\c"', 'a"b\\c'),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_key_is_a_quoted_string_or_a_bare_token(header, key):
    assert dispatch.idempotency_key(header) == key


@pytest.mark.parametrize(
    "header", ["", " ", '""', '"a', 'a"', '"a"b"', '"a", "b"', r'"a\n"', "a,b", "a b", "x" * 256, '"é"', '"\t"', "a\n"]
)
def test_anything_else_is_no_key(header):
    with pytest.raises(GiveUpError) as refused:
        dispatch.idempotency_key(header)
    assert refused.value.reason == "idempotency_key_invalid"


def test_no_header_has_its_own_reason():
    with pytest.raises(GiveUpError) as refused:
        dispatch.idempotency_key(None)
    assert refused.value.reason == "idempotency_key_missing"


@given(VISIBLE)
def test_every_visible_key_survives_quoting(key):
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert dispatch.idempotency_key(quoted) == key


@given(st.text(max_size=300))
def test_a_header_gives_a_bounded_key_or_a_refusal(header):
    try:
        key = dispatch.idempotency_key(header)
    except GiveUpError:
        return
    assert 1 <= len(key) <= 255
    assert all(" " <= char <= "~" for char in key)


@given(VISIBLE, VISIBLE, st.sampled_from(["alice", "bob"]), st.sampled_from(["alice", "bob"]))
def test_two_jobs_are_one_only_for_one_caller_and_one_key(first, second, one, other):
    a = dispatch.job_key(Caller("i", one), first)
    b = dispatch.job_key(Caller("i", other), second)
    assert (a == b) is ((one, first) == (other, second))
    assert len(a.platform_id) == 32


VALUES = st.recursive(
    st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=5), st.randoms())
def test_the_fingerprint_ignores_order_and_nothing_else(body, random):
    names = list(body)
    random.shuffle(names)
    assert dispatch.fingerprint({name: body[name] for name in names}) == dispatch.fingerprint(body)
    assert dispatch.fingerprint(body | {"\0extra": "x"}) != dispatch.fingerprint(body)
    assert dispatch.fingerprint(json.loads(json.dumps(body))) == dispatch.fingerprint(body)


def test_the_offer_carries_everything_and_the_trace_parent_is_no_part_of_its_fingerprint():
    request = dispatch.DispatchRequest(
        name="n", pool="p", script="s", environment={"A": "1"}, timeout_seconds=5, deployment_environment="prod",
        artifact_digest="sha256:0", pipeline="pl", claimed={"c": "d"}, stated={"name": "n"},
    )  # fmt: skip
    one = dispatch.offer(request, "k", CALLER, traceparent="00-a")
    other = dispatch.offer(request, "k", CALLER)
    assert (one.key, one.fingerprint) == (other.key, other.fingerprint)
    assert one.key.id.startswith("dispatch.")
    assert one.caller is CALLER
    spec = one.spec
    assert (spec.name, spec.pool, spec.script, spec.environment) == ("n", "p", "s", {"A": "1"})
    assert (spec.timeout_seconds, spec.deployment_environment, spec.artifact_digest) == (5, "prod", "sha256:0")
    assert (spec.pipeline, spec.claimed, spec.parent_traceparent) == ("pl", {"c": "d"}, "00-a")
