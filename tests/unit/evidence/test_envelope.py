"""DSSE: what is signed, by whom, and that nothing else passes."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evidence.envelope import (
    MAX_ENVELOPE_CHARS,
    EnvelopeRefusedError,
    open_envelope,
    pre_authentication_encoding,
    sign_envelope,
)
from orchestrator.evidence.provenance import IN_TOTO
from orchestrator.evidence.signing_key import generate_evidence_key

KEY = generate_evidence_key()
OTHER = generate_evidence_key()
KEYS = {KEY.id: KEY.public}


def reason(text, kind=IN_TOTO, keys=KEYS) -> str:
    with pytest.raises(EnvelopeRefusedError) as caught:
        open_envelope(text, kind, keys)
    return caught.value.reason


def test_the_encoding_of_the_protocols_own_example():
    found = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(st.binary(max_size=500), st.text(max_size=60).filter(lambda t: t.isprintable()))
def test_what_is_signed_comes_back(payload, kind):
    assert open_envelope(sign_envelope(payload, kind, KEY), kind, KEYS) == payload


@given(st.tuples(st.text(max_size=8), st.binary(max_size=8)), st.tuples(st.text(max_size=8), st.binary(max_size=8)))
def test_two_contents_never_share_an_encoding(one, two):
    try:
        same = pre_authentication_encoding(*one) == pre_authentication_encoding(*two)
    except UnicodeEncodeError:
        return
    assert same == (one == two)


def test_a_plain_ecdsa_verifier_agrees():
    envelope = json.loads(sign_envelope(b"{}", IN_TOTO, KEY))
    public = load_pem_public_key(KEY.public_pem.encode())
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
    public.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(signature, signed + b" ", ec.ECDSA(hashes.SHA256()))


def changed(**changes) -> str:
    return json.dumps(json.loads(sign_envelope(b"{}", IN_TOTO, KEY)) | changes)


def test_another_key_is_unknown_and_cannot_take_our_name():
    forged = json.loads(sign_envelope(b"{}", IN_TOTO, OTHER))
    assert reason(json.dumps(forged)) == "key_unknown"
    forged["signatures"][0]["keyid"] = KEY.id
    assert reason(json.dumps(forged)) == "signature_invalid"


def test_payload_and_type_are_both_signed():
    assert reason(changed(payload=base64.b64encode(b"[]").decode())) == "signature_invalid"
    assert reason(changed(payloadType="text/plain")) == "envelope_malformed"
    assert reason(changed(payloadType="text/plain"), kind="text/plain") == "signature_invalid"


def test_one_good_signature_among_others_is_enough_and_none_is_not():
    good = json.loads(sign_envelope(b"{}", IN_TOTO, KEY))["signatures"]
    stranger = json.loads(sign_envelope(b"{}", IN_TOTO, OTHER))["signatures"]
    assert open_envelope(changed(signatures=stranger + good), IN_TOTO, KEYS) == b"{}"
    assert reason(changed(signatures=stranger)) == "key_unknown"
    assert reason(changed(signatures=[])) == "envelope_malformed"
    assert reason(changed(signatures=good * 17)) == "envelope_malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        "x" * (MAX_ENVELOPE_CHARS + 1),
        changed(payload=None),
        changed(payload="not base64!"),
        changed(payload="ä"),
        changed(signatures=None),
        changed(signatures="sig"),
        changed(signatures=[1]),
        changed(signatures=[{"keyid": KEY.id}]),
        changed(signatures=[{"keyid": KEY.id, "sig": 5}]),
    ],
)
def test_what_is_no_envelope(text):
    assert reason(text) == "envelope_malformed"


@pytest.mark.parametrize("sig", ["", "AAAA", base64.b64encode(b"\0" * 64).decode()])
def test_what_is_no_signature(sig):
    assert reason(changed(signatures=[{"keyid": KEY.id, "sig": sig}])) == "signature_invalid"


@pytest.mark.parametrize("keyid", [None, 7, [KEY.id], "", "sha256:"])
def test_a_signature_must_name_its_key(keyid):
    signature = json.loads(sign_envelope(b"{}", IN_TOTO, KEY))["signatures"][0]
    assert reason(changed(signatures=[signature | {"keyid": keyid}])) == "key_unknown"
