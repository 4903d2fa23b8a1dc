"""Verification summaries: what they say, and when two say the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO
from orchestrator.evidence.summary import (
    SUMMARY_TYPE,
    Verifier,
    statement_in,
    substance,
    summary_bytes,
    summary_statement,
)
from orchestrator.model.decision import Decision, Stage, Verdict, Waiver
from orchestrator.model.job import PoolName
from orchestrator.model.record import Record

ARTIFACT = "sha256:" + "a" * 64
ONE, TWO, THREE = ("sha256:" + digit * 64 for digit in "123")
FACTS = {
    "built": {"name": "app.whl"},
    "signatures": [{"attestation": ONE}],
    "sboms": [],
    "provenances": [{"attestation": TWO, "level": 3}, {"attestation": ONE, "level": 1}],
    "scans": [],
}
NOW = 1_800_000_000_000_000_000
VERIFIER = Verifier("https://ci.example", "0.1.0")


@pytest.fixture
def record(offer) -> Record:
    spec = replace(offer.spec, pool=PoolName("default"), deployment_environment="prod", artifact_digest=ARTIFACT)
    return Record(replace(offer, spec=spec), NOW)


@pytest.fixture
def decision() -> Decision:
    return Decision("d1", Stage.EXCHANGE, Verdict.ALLOW, input_digest="sha256:i", bundle_digest="sha256:b0b0")


def test_the_summary_names_artifact_environment_policy_and_every_input(record, decision):
    statement = summary_statement(record, decision, FACTS, [THREE], VERIFIER, NOW)
    predicate = statement["predicate"]
    assert statement["predicateType"] == SUMMARY_TYPE
    assert statement["subject"] == [{"name": "app.whl", "digest": {"sha256": "a" * 64}}]
    assert predicate["verifier"]["id"] == "https://ci.example/gate/v1"
    assert predicate["timeVerified"] == "2027-01-15T08:00:00Z"
    assert predicate["resourceUri"] == "https://ci.example/environments/prod"
    assert predicate["policy"]["digest"] == {"sha256": "b0b0"}
    assert [one["digest"]["sha256"][0] for one in predicate["inputAttestations"]] == ["1", "2", "3"]
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_3"]
    assert predicate["orchestrator_decision"] == {"id": "d1", "input": "sha256:i"}


def test_without_evidence_the_level_is_0_and_there_are_no_inputs(record, decision):
    for facts in (None, {}, {"provenances": [{"level": "3"}, "nonsense"], "sboms": [{}]}):
        predicate = summary_statement(record, decision, facts, [], VERIFIER, NOW)["predicate"]
        assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_0"]
        assert predicate["inputAttestations"] == []


def test_two_summaries_say_the_same_unless_an_input_changed(record, decision):
    def said(record=record, decision=decision, facts=FACTS, consents=(), now=NOW) -> str:
        return substance(summary_statement(record, decision, facts, consents, VERIFIER, now))

    same = said()
    later = replace(decision, id="d2", input_digest="sha256:j")
    assert said(decision=later, now=NOW + 10**9) == same
    waiver = Waiver(THREE, ("scan_stale",))
    changes = [
        said(decision=replace(decision, bundle_digest="sha256:other")),
        said(decision=replace(decision, waivers=(waiver,))),
        said(facts=FACTS | {"scans": [{"attestation": THREE}]}),
        said(facts=FACTS | {"provenances": []}),
        said(consents=[THREE]),
        said(record=replace(record, offer=replace(record.offer, spec=replace(record.offer.spec, artifact_digest=ONE)))),
    ]
    assert same not in changes


def test_a_summary_is_found_again_in_its_envelope_and_nothing_else_is(record, decision, key):
    statement = summary_statement(record, decision, FACTS, [], VERIFIER, NOW)
    assert statement_in(sign_envelope(summary_bytes(statement), IN_TOTO, key)) == statement
    for text in ("", "[]", "{}", '{"payload": 1}', '{"payload": "e30="}', sign_envelope(b"[]", IN_TOTO, key)):
        assert statement_in(text) is None
