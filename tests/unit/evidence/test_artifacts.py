"""From an envelope to facts for policy: three separate facts, all tied to one digest, all failing closed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evidence.artifacts import ArtifactEvidence, artifact_evidence
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, provenance, statement_bytes
from orchestrator.evidence.signing_key import generate_evidence_key

WHEEL = "sha256:" + "a" * 64
SBOM = "sha256:" + "b" * 64
BUILDERS = {"https://ci.example/builders/sandbox/bubblewrap/standard/v1"}


@pytest.fixture
def statement(story, wheel, sbom, pool, builder):
    return provenance(story(wheel, sbom), pool, builder)


@pytest.fixture
def judge(key):
    def judge(statement, digest=WHEEL, builders=BUILDERS, kind=IN_TOTO, signer=key) -> ArtifactEvidence:
        data = statement if isinstance(statement, bytes) else statement_bytes(statement)
        return artifact_evidence(digest, sign_envelope(data, kind, signer), {key.id: key.public}, builders)

    return judge


def test_a_proven_artifact(judge, statement, offer):
    facts = judge(statement).facts()
    assert facts["digest"] == WHEEL
    assert (facts["signed"], facts["sbom"], facts["provenance"]) == (True, True, True)
    assert facts["base"] == "host-toolchain"
    assert facts["built"]["job"] == "dispatch.build1.1"
    assert facts["built"]["repository"] == "acme/app"
    assert facts["built"]["builder"] in BUILDERS
    assert facts["built"]["caller"] == offer.caller.id
    assert facts["built"]["caller_issuer"] == offer.caller.issuer
    assert json.loads(json.dumps(facts)) == facts


def test_an_sbom_must_be_reported_by_the_same_job(judge, story, wheel, pool, builder):
    assert judge(provenance(story(wheel), pool, builder)).facts()["sbom"] is False


def test_an_sbom_is_not_its_own_sbom(judge, story, sbom, pool, builder):
    found = judge(provenance(story(sbom), pool, builder), digest=SBOM)
    assert (found.signed, found.sbom) == (True, False)


def refused(found: ArtifactEvidence, reason: str) -> None:
    assert found.reason == reason
    facts = found.facts()
    assert (facts["signed"], facts["sbom"], facts["provenance"], facts["base"]) == (False, False, False, "")
    assert facts["built"] == {}


def test_another_digest_is_not_covered(judge, statement):
    refused(judge(statement, digest="sha256:" + "e" * 64), "digest_not_covered")


@pytest.mark.parametrize("digest", ["", "a" * 64, "sha256:" + "A" * 64, WHEEL + "\n", "sha512:" + "a" * 128])
def test_a_malformed_digest(judge, statement, digest):
    refused(judge(statement, digest=digest), "digest_malformed")


def test_no_envelope(key):
    refused(artifact_evidence(WHEEL, "", {key.id: key.public}, BUILDERS), "provenance_missing")


def test_a_strangers_signature(judge, statement):
    refused(judge(statement, signer=generate_evidence_key()), "key_unknown")


def test_a_changed_statement(key, statement):
    envelope = json.loads(sign_envelope(statement_bytes(statement), IN_TOTO, key))
    other = json.loads(sign_envelope(b"{}", IN_TOTO, key))
    forged = json.dumps(envelope | {"signatures": other["signatures"]})
    refused(artifact_evidence(WHEEL, forged, {key.id: key.public}, BUILDERS), "signature_invalid")


def test_a_builder_that_the_key_may_not_speak_for(judge, statement):
    refused(judge(statement, builders={"https://ci.example/builders/sandbox/none/standard/v1"}), "builder_unknown")
    refused(judge(statement, builders=()), "builder_unknown")


@pytest.mark.parametrize(
    ("field", "value"),
    [("trust_tier", "protected"), ("isolation", "kata"), ("backend", "kubernetes"), ("trust_tier", "")],
)
def test_a_pool_that_is_not_the_builders(judge, statement, field, value):
    statement["predicate"]["buildDefinition"]["internalParameters"]["pool"][field] = value
    refused(judge(statement), "builder_contradicted")


@pytest.mark.parametrize(
    "change",
    [{"_type": "https://example.com/other"}, {"predicateType": "https://cyclonedx.org/bom"}],
)
def test_an_attestation_of_another_kind_is_not_provenance(judge, statement, change):
    refused(judge(statement | change), "statement_of_other_type")


def test_another_payload_type(judge, statement):
    refused(judge(statement, kind="application/json"), "envelope_malformed")


def without(path):
    def change(statement):
        target = statement
        *parents, last = path.split(".")
        for name in parents:
            target = target[name]
        del target[last]

    return change


@pytest.mark.parametrize(
    "path",
    [
        "subject",
        "predicate",
        "predicate.buildDefinition",
        "predicate.buildDefinition.externalParameters",
        "predicate.buildDefinition.internalParameters.pool",
        "predicate.runDetails.builder.id",
        "predicate.runDetails.metadata.invocationId",
    ],
)
def test_a_signed_statement_that_lacks_a_part(judge, statement, path):
    statement = json.loads(json.dumps(statement))
    without(path)(statement)
    refused(judge(statement), "statement_malformed")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_signed_payload_that_is_no_statement(judge, data):
    refused(judge(data), "statement_malformed")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEY = generate_evidence_key()


@given(subject=json_values, predicate=json_values)
def test_no_statement_makes_it_raise_or_sign(subject, predicate):
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": subject,
        "predicate": predicate,
    }
    envelope = sign_envelope(statement_bytes(statement), IN_TOTO, KEY)
    found = artifact_evidence(WHEEL, envelope, {KEY.id: KEY.public}, BUILDERS)
    assert not found.signed
    assert found.reason


def test_text_fields_must_be_text(judge, statement):
    changed = json.loads(json.dumps(statement))
    changed["predicate"]["buildDefinition"]["internalParameters"]["pool"]["base"] = {"name": "distroless"}
    refused(judge(changed), "statement_malformed")
    assert replace(judge(statement), sbom=False).facts()["sbom"] is False
