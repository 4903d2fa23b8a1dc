"""A receipt verifies with its key and as itself only."""

from __future__ import annotations

import base64
import json

import pytest
from told_job import token, told

from orchestrator.errors import GiveUpError
from orchestrator.evidence.envelope import EnvelopeRefusedError, sign_envelope
from orchestrator.evidence.provenance import IN_TOTO
from orchestrator.evidence.receipts.document import PREDICATE_TYPE
from orchestrator.evidence.receipts.signing import digest_of, envelope_of, open_receipt, sign_receipt, statement_of
from orchestrator.evidence.signing_key import generate_evidence_key, read_public_keys


def refused(envelope, keys) -> str:
    with pytest.raises(EnvelopeRefusedError) as caught:
        open_receipt(envelope, keys)
    return caught.value.reason


def test_what_was_signed_comes_back(key):
    receipt = told(token())
    fact = sign_receipt(receipt, key)
    assert open_receipt(envelope_of(fact), {key.id: key.public}) == (receipt, fact.digest)
    payload = base64.b64decode(json.loads(envelope_of(fact))["payload"])
    assert digest_of(payload) == fact.digest
    statement = json.loads(payload)
    assert (statement["_type"], statement["predicateType"]) == ("https://in-toto.io/Statement/v1", PREDICATE_TYPE)
    assert statement["subject"][0]["name"] == receipt.job.id


def test_another_key_or_a_changed_byte_proves_nothing(key):
    other = generate_evidence_key()
    fact = sign_receipt(told(), key)
    assert refused(envelope_of(fact), {other.id: other.public}) == "key_unknown"
    assert refused(envelope_of(fact), {key.id: other.public}) == "signature_invalid"
    envelope = json.loads(envelope_of(fact))
    payload = bytearray(base64.b64decode(envelope["payload"]))
    for place in range(0, len(payload), 97):
        changed = bytes(payload[:place]) + bytes([payload[place] ^ 1]) + bytes(payload[place + 1 :])
        text = json.dumps(envelope | {"payload": base64.b64encode(changed).decode()})
        assert refused(text, {key.id: key.public}) == "signature_invalid"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "\ud800", '{"payload":1}'])
def test_no_envelope_is_no_receipt(key, text):
    assert refused(text, {key.id: key.public}) == "envelope_malformed"


@pytest.mark.parametrize(
    "change",
    [
        lambda statement: statement | {"predicateType": "https://slsa.dev/provenance/v1"},
        lambda statement: statement | {"_type": "https://in-toto.io/Statement/v0.1"},
        lambda statement: statement | {"subject": []},
        lambda statement: statement | {"subject": [{"name": "dispatch.other.1", "digest": {"sha256": "0" * 64}}]},
        lambda statement: statement | {"subject": statement["subject"] * 2},
        lambda statement: statement | {"predicate": {}},
        lambda statement: statement | {"predicate": statement["predicate"] | {"tokens": "none"}},
        lambda statement: [statement],
    ],
)
def test_what_we_signed_for_another_purpose_is_no_receipt(key, change):
    """Provenance has the same key: a statement of another type, or about another job, must not pass for a receipt."""
    statement = change(json.loads(statement_of(told())))
    envelope = sign_envelope(json.dumps(statement).encode(), IN_TOTO, key)
    assert refused(envelope, {key.id: key.public}) == "receipt_malformed"


def test_a_field_of_a_later_version_is_no_hindrance(key):
    statement = json.loads(statement_of(told()))
    statement["predicate"]["later"] = {"more": 1}
    envelope = sign_envelope(json.dumps(statement).encode(), IN_TOTO, key)
    assert open_receipt(envelope, {key.id: key.public})[0] == told()


def test_what_json_cannot_carry_and_what_is_too_large_is_given_up():
    with pytest.raises(GiveUpError) as caught:
        statement_of(told(token("\ud800")))
    assert caught.value.reason == "receipt_unencodable"
    assert caught.value.__cause__ is None
    with pytest.raises(GiveUpError) as caught:
        statement_of(told(*[token(f"{n}", "a" * 20_000) for n in range(200)]))
    assert caught.value.reason == "receipt_too_large"


def test_public_keys_in_pem_todays_and_kept_ones(key):
    other = generate_evidence_key()
    both = read_public_keys(f"kept in 2026:\n{other.public_pem}\n{key.public_pem}")
    assert both == {key.id: key.public, other.id: other.public}
    fact = sign_receipt(told(), key)
    assert open_receipt(envelope_of(fact), both)[0] == told()


@pytest.mark.parametrize(
    "pem", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----"]
)
def test_what_is_no_key(pem):
    assert read_public_keys(pem) == {}


def test_keys_of_another_kind_are_none_of_ours(key):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    for private in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        pem = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert read_public_keys(pem.decode() + key.public_pem) == {}
