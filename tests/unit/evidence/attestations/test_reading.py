"""Envelopes and bundles, whole, wrapped, bent and broken."""

from __future__ import annotations

import base64
import json

import pytest

from orchestrator.evidence.attestations.making import bundle_text, statement
from orchestrator.evidence.attestations.reading import (
    MAX_ATTESTATION_BYTES,
    Attestation,
    AttestationRefusedError,
    read_attestation,
    read_statement,
)
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO
from tests.unit.evidence.attestations.conftest import CONTENT, DIGEST, OTHER, blob_bundle
from tests.unit.evidence.attestations.documents import SIGN

PAYLOAD = b'{"a": "\xfb\xff"}'  # its base64 has a letter of each alphabet
V03 = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.fixture
def envelope(outside_key):
    return json.loads(sign_envelope(PAYLOAD, IN_TOTO, outside_key))


def reason(text) -> str:
    with pytest.raises(AttestationRefusedError) as caught:
        read_attestation(text)
    return caught.value.reason


@pytest.mark.parametrize(
    "media_type",
    [
        V03,
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "application/vnd.dev.sigstore.bundle+json;version=0.3",
    ],
)
def test_wrapped_or_bare_it_is_the_same(envelope, outside_key, media_type):
    bare = read_attestation(json.dumps(envelope))
    assert (bare.payload, bare.payload_type) == (PAYLOAD, IN_TOTO)
    assert bare.signatures[0].key == outside_key.id
    del envelope["signatures"][0]["keyid"]
    wrapped = {"mediaType": media_type, "verificationMaterial": {}, "dsseEnvelope": envelope}
    assert read_attestation(json.dumps(wrapped)).id == bare.id
    assert read_attestation(bundle_text(bare, None)).id == bare.id


def test_a_bundles_hint_names_the_key(envelope, outside_key):
    bare = read_attestation(json.dumps(envelope))
    wrapped = read_attestation(bundle_text(bare, outside_key.public))
    assert base64.b64decode(wrapped.signatures[0].key).hex() == outside_key.id.removeprefix("sha256:")


def test_both_alphabets_of_base64(envelope):
    other = envelope | {"payload": envelope["payload"].replace("+", "-").replace("/", "_")}
    assert other != envelope
    assert read_attestation(json.dumps(other)) == read_attestation(json.dumps(envelope))


def test_a_signature_over_bytes(outside_key):
    found = read_attestation(blob_bundle(CONTENT, outside_key))
    assert f"sha256:{found.artifact.hex()}" == DIGEST
    assert read_attestation(bundle_text(found, outside_key.public)).id == found.id


@pytest.mark.parametrize("text", ["", "x", "[]", "null", "{", "7", "[" * 100_000, '"' + "\ud800" + '"'])
def test_no_object(text):
    assert reason(text.encode("utf-8", "surrogatepass")) == "envelope_malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"payload": None},
        {"payload": "not base64!"},
        {"payload": "YQ"},
        {"payload": "é"},
        {"payloadType": ""},
        {"payloadType": "x" * 5000},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [{}]},
        {"signatures": [{"sig": 1}]},
        {"signatures": [{"sig": "YQ==", "keyid": 7}]},
        {"signatures": [{"sig": "YQ=="}] * 17},
    ],
)
def test_an_envelope_with_a_wrong_part(envelope, change):
    assert reason(json.dumps(envelope | change)) == "envelope_malformed"


@pytest.mark.parametrize(
    ("bundle", "why"),
    [
        ({"mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"}, "bundle_version_unknown"),
        ({"mediaType": 7}, "bundle_version_unknown"),
        ({"mediaType": V03}, "bundle_malformed"),
        ({"mediaType": V03, "messageSignature": {"signature": "YQ=="}}, "bundle_malformed"),
        ({"mediaType": V03, "messageSignature": "x"}, "bundle_malformed"),
        ({"mediaType": V03, "dsseEnvelope": {}}, "envelope_malformed"),
    ],
)
def test_a_bundle_with_a_wrong_part(bundle, why):
    assert reason(json.dumps(bundle)) == why


@pytest.mark.parametrize(
    "change", [{"algorithm": "SHA2_512"}, {"digest": "YQ=="}, {"digest": 1}, {"digest": "!"}, {"algorithm": None}]
)
def test_a_digest_that_is_none(outside_key, change):
    bundle = json.loads(blob_bundle(CONTENT, outside_key))
    bundle["messageSignature"]["messageDigest"] |= change
    assert reason(json.dumps(bundle)) == "bundle_malformed"


def test_it_is_not_read_when_it_is_too_large():
    assert reason("x" * (MAX_ATTESTATION_BYTES + 1)) == "attestation_too_large"


def read(told, payload_type=IN_TOTO):
    data = told if isinstance(told, bytes) else json.dumps(told).encode()
    return read_statement(Attestation("sha256:0", (), payload_type, data))


@pytest.mark.parametrize("kind", ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"])
def test_statements_of_both_versions(kind):
    found = read(statement([("a", OTHER), ("b", DIGEST)], SIGN, {}) | {"_type": kind})
    assert found.predicate_type == SIGN
    assert found.about(DIGEST)["name"] == "b"
    assert found.about("sha256:" + "1" * 64) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"_type": "https://in-toto.io/Statement/v2"}, "statement_of_other_type"),
        ({"_type": []}, "statement_of_other_type"),
        ({"subject": []}, "statement_malformed"),
        ({"subject": {}}, "statement_malformed"),
        ({"subject": [{"name": "a"}]}, "statement_malformed"),
        ({"subject": [{"digest": {"sha256": "A" * 64}}]}, "statement_malformed"),
        ({"subject": [{"digest": {"sha256": 7}}]}, "statement_malformed"),
        ({"subject": [{"digest": {}}] * 1025}, "statement_malformed"),
        ({"predicateType": ""}, "statement_malformed"),
        ({"predicate": None}, "statement_malformed"),
        ({"predicate": []}, "statement_malformed"),
    ],
)
def test_a_statement_with_a_wrong_part(change, why):
    with pytest.raises(AttestationRefusedError) as caught:
        read(statement([("a", DIGEST)], SIGN, {}) | change)
    assert caught.value.reason == why


def test_a_subject_by_another_digest_only_is_about_nothing_here():
    told = statement([("a", DIGEST)], SIGN, {}) | {"subject": [{"digest": {"sha512": "0" * 128}}]}
    assert read(told).about("sha256:" + "0" * 64) is None


def test_another_payload():
    with pytest.raises(AttestationRefusedError) as caught:
        read(statement([("a", DIGEST)], SIGN, {}), "application/json")
    assert caught.value.reason == "payload_of_other_type"
