"""What is signed can be read in one way only, and makes sense."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evidence.approvals.envelopes import Envelope, read_envelope
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import (
    APPROVAL,
    Endorsement,
    moment_ns,
    object_id,
    read_statement,
    statement_bytes,
)
from orchestrator.evidence.provenance import STATEMENT_TYPE
from orchestrator.testing.approvals import (
    COMMIT,
    DIGEST,
    GITHUB,
    KEYS,
    approval,
    exception,
    id_of,
    public,
    revocation,
    signed,
)


def refused(payload: bytes) -> str:
    with pytest.raises(ApprovalRefusedError) as error:
        read_statement(payload)
    assert error.value.reason == "approval_malformed"
    return str(error.value)


def test_what_is_written_is_read():
    for predicate in (approval(), exception(), exception("override", job="dispatch.1.1"), revocation(approval())):
        assert read_statement(statement_bytes(predicate)) == predicate


def test_a_statement_is_an_in_toto_statement_about_its_artifact():
    document = json.loads(statement_bytes(approval()))
    assert document["_type"] == STATEMENT_TYPE
    assert document["predicateType"] == APPROVAL
    assert document["subject"] == [{"name": "prod", "digest": {"sha256": "a" * 64}}]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (lambda text: text.replace('"prod"', '"prod" ', 1), "two ways"),
        (lambda text: text.replace('{"_type"', '{"_type":"x","_type"', 1), "two ways"),
        (lambda text: text.replace('"kind":"security"', '"kind":"security","kind":"security"'), "two ways"),
        (lambda text: text.replace("a" * 64, "b" * 64, 1), "two ways"),  # a subject that is not the predicate's
        (lambda text: text.replace('"kind":"security"', '"more":1,"kind":"security"'), "more"),
        (lambda text: text.replace('"kind":"security",', ""), "kind"),
        (lambda text: text.replace(APPROVAL, "urn:orchestrator:other:v1"), "predicateType"),
        (lambda text: text[:-1], "no JSON"),
        (lambda text: f"[{text}]", "predicate"),
    ],
)
def test_anything_else_is_refused(changed: Any, word: str):
    text = statement_bytes(approval()).decode()
    assert changed(text) != text
    assert word in refused(changed(text).encode())


@pytest.mark.parametrize(
    ("predicate", "word"),
    [
        (approval(artifact_digest=""), "artifact_digest"),
        (approval(artifact_digest="", repository_id="42", issuer=GITHUB), "go together"),
        (approval(repository_id="42", commit=COMMIT), "issuer"),
        (approval(expires_at="2027-01-15T08:00:00Z"), "later"),
        (approval(starts_at="2027-02-30T00:00:00Z", expires_at="2027-03-01T00:00:00Z"), "calendar"),
        (approval(expires_at="2027-01-15 09:00:00Z"), "expires_at"),
        (approval(kind="Security"), "kind"),
        (approval(environment=""), "environment"),
        (approval(reason=""), "reason"),
        (approval(reason="two\nlines"), "reason"),
        (exception(artifact_digest=""), "never for everybody"),
        (exception(waives=()), "waives"),
        (exception(waives=("a", "a")), "twice"),
        (exception(max_uses=0), "max_uses"),
        (exception(requested_by=""), "requested_by"),
        (exception(repository_id="42"), "issuer"),
        (exception("override", waives=("a", "b")), "one rule"),
        (exception("override", artifact_digest="", repository_id="42", issuer=GITHUB), "one rule"),
        (exception("other"), "kind"),
    ],
)
def test_what_makes_no_sense_is_refused(predicate: Any, word: str):
    assert word in refused(statement_bytes(predicate))


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes):
    refused(noise)


def test_times_are_whole_seconds_in_utc():
    assert moment_ns("2027-01-15T08:00:00Z") == 1_800_000_000 * 10**9


def test_an_envelope_comes_back_as_it_was():
    envelope = signed(approval(), "alice", "bob")
    assert read_envelope(envelope.text()) == envelope
    assert envelope.signers(public("alice") | public("bob") | public("dave")) == {*public("alice"), *public("bob")}


def test_the_id_is_of_the_statement_and_not_of_its_signatures():
    """An ECDSA signature has many forms: the same statement under another one is the same object."""
    one, other = signed(approval(), "alice"), signed(approval(), "alice")
    assert one.signatures != other.signatures
    assert object_id(one.payload) == object_id(other.payload) == id_of(approval())


def test_a_changed_statement_is_a_forgery():
    envelope = signed(approval(), "alice")
    forged = Envelope(statement_bytes(approval(artifact_digest="sha256:" + "b" * 64)), envelope.signatures)
    with pytest.raises(ApprovalRefusedError) as error:
        forged.signers(public("alice"))
    assert error.value.reason == "approval_forged"


def test_one_false_signature_makes_all_of_it_a_forgery():
    envelope = signed(approval(), "bob").with_signature(next(iter(public("alice"))), b"no signature")
    with pytest.raises(ApprovalRefusedError, match="does not hold"):
        envelope.signers(public("alice") | public("bob"))


def test_a_signature_of_another_type_of_payload_does_not_hold():
    key = KEYS["bob"]
    payload = statement_bytes(approval())
    with pytest.raises(ApprovalRefusedError):
        Envelope(payload, {next(iter(public("bob"))): key.sign(payload)}).signers(public("bob"))


def test_signatures_by_nobody_prove_nothing():
    assert signed(approval(), "mallory").signers(public("alice")) == frozenset()


@pytest.mark.parametrize(
    "changed",
    [
        {"payloadType": "text/plain"},
        {"payload": "not base64!"},
        {"payload": 1},
        {"signatures": {}},
        {"signatures": [{"keyid": "a", "sig": "QQ=="}] * 17},
        {"signatures": [{"keyid": "a", "sig": "QQ=="}] * 2},
        {"signatures": [{"keyid": "", "sig": "QQ=="}]},
        {"signatures": [{"keyid": "a", "sig": ""}]},
        {"signatures": [{"sig": "QQ=="}]},
        {"signatures": ["a"]},
    ],
)
def test_an_envelope_that_is_none(changed: dict[str, Any]):
    document = json.loads(signed(approval(), "alice").text()) | changed
    with pytest.raises(ApprovalRefusedError) as error:
        read_envelope(json.dumps(document))
    assert error.value.reason == "approval_malformed"


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "x" * 100_000, "[" * 50_000])
def test_text_that_is_no_envelope(text: str):
    with pytest.raises(ApprovalRefusedError):
        read_envelope(text)


def test_an_endorsement_reads_back():
    said = Endorsement(object=DIGEST, issuer="i", subject="s", token=DIGEST, at="2027-01-15T08:00:00Z")
    assert read_statement(statement_bytes(said)) == said
    assert base64.b64decode(json.loads(Envelope(statement_bytes(said), {}).text())["payload"]) == statement_bytes(said)
