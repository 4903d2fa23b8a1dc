"""Verification with named keys: our own word answers all four questions, summaries included."""

from __future__ import annotations

import pytest

from orchestrator.evidence.attestations.verifying import Demands, signers_of_keys, verify
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, provenance, statement_bytes
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.evidence.summary import SUMMARY_TYPE
from orchestrator.model import events
from tests.unit.evidence.attestations.conftest import DIGEST, NOW, OTHER, OUR_BUILDER
from tests.unit.evidence.attestations.documents import CYCLONEDX, FINISHED, SIGN, VULN, bom, scan, trivy

REPORTER = {"job": "dispatch.build1.1", "builder": OUR_BUILDER, "caller": "c", "pool": "default", "trust_tier": "t"}


def summary(environment="prod", at=FINISHED, result="PASSED"):
    return {
        "verifier": {"id": "https://ci.example/gate/v1"},
        "timeVerified": at,
        "policy": {"digest": {"sha256": "f" * 64}},
        "verificationResult": result,
        "verifiedLevels": ["SLSA_BUILD_LEVEL_2"],
        "orchestrator_environment": environment,
        "orchestrator_decision": {"id": "decision-7"},
        "orchestrator_waivers": [{"exception": "sha256:e1", "codes": ["scan_stale"]}],
    }


@pytest.fixture
def dressed(story, pool, builder, signed, our_key):
    told = provenance(story(events.ArtifactReported("app.whl", DIGEST, "application/zip", 1)), pool, builder)
    return [
        sign_envelope(statement_bytes(told), IN_TOTO, our_key),
        signed(SIGN, {}, key=our_key, reporter=REPORTER),
        signed(CYCLONEDX, bom("a"), key=our_key, reporter=REPORTER),
        signed(VULN, scan(trivy()), key=our_key, reporter=REPORTER),
    ]


@pytest.fixture
def judged(our_key, outside_key):
    def judged(attestations, demands=None, digest=DIGEST):
        builders = demands.builders if demands else {}
        signers = signers_of_keys([our_key.public], {"outside": [outside_key.public]}, builders)
        return verify(digest, attestations, signers, demands or Demands(), NOW)

    return judged


def test_our_word_answers_three_questions(judged, dressed):
    found = judged(dressed, Demands(builders={OUR_BUILDER: 2}, level=2))
    assert found.missing == ()
    assert found.answers["what"] == {"digest": DIGEST, "name": "app.whl", "finished_at": "2027-01-15T08:00:06Z"}
    assert found.answers["source"] == {"repository": "acme/app", "commit": "c" * 40, "ref": "refs/heads/main"}
    assert found.answers["system"]["builder"] == OUR_BUILDER
    assert found.answers["system"]["level"] == 2
    assert found.answers["policy"] == {"admitted_under": "sha256:2", "decision": "d1"}
    assert found.facts["scans"][0]["reporter"]["job"] == REPORTER["job"]


def test_a_summary_answers_the_fourth(judged, dressed, signed, our_key):
    for demands in (Demands(environment="prod"), Demands(kinds=("summary",))):
        found = judged([*dressed, signed(SUMMARY_TYPE, summary(), key=our_key)], demands)
        assert found.missing == ()
        assert found.answers["policy"] == {
            "admitted_under": "sha256:2",
            "decision": "d1",
            "deployed_under": "sha256:" + "f" * 64,
            "deployed_to": "prod",
            "deployment_decision": "decision-7",
            "waivers": ["sha256:e1"],
        }


def test_the_latest_summary_is_told(judged, signed, our_key):
    found = judged(
        [
            signed(SUMMARY_TYPE, summary("prod", "2027-01-15T08:05:00Z"), key=our_key),
            signed(SUMMARY_TYPE, summary("staging", "2027-01-15T07:05:00Z"), key=our_key),
        ]
    )
    assert found.answers["policy"]["deployed_to"] == "prod"


def test_summaries_that_say_nothing(judged, signed, our_key, outside_key):
    """Of another artifact, of another's making, that failed, or for somewhere else."""
    none = [
        signed(SUMMARY_TYPE, summary(), key=our_key, digest=OTHER),
        signed(SUMMARY_TYPE, summary(), key=outside_key),
        signed(SUMMARY_TYPE, summary(), key=generate_evidence_key()),
        signed(SUMMARY_TYPE, summary(result="FAILED"), key=our_key),
        signed(SUMMARY_TYPE, summary("staging"), key=our_key),
    ]
    found = judged(none, Demands(environment="prod"))
    assert list(found.summaries) == []
    assert any("no summary of this digest for prod" in one for one in found.missing)


def test_an_outside_signer_never_speaks_as_the_control_plane(judged, story, pool, builder, outside_key):
    told = provenance(story(events.ArtifactReported("app", DIGEST, "", 1)), pool, builder)
    found = judged([sign_envelope(statement_bytes(told), IN_TOTO, outside_key)])
    assert found.facts["built"] == {}
    assert found.answers["policy"] == {}
    assert found.answers["system"]["signer"] == "outside"


def test_as_json(judged, dressed):
    told = judged(dressed).as_json()
    assert told["verified"] is True
    assert list(told) == [
        "digest", "verified", "missing", "what", "source", "system", "policy", "summaries", "facts",
    ]  # fmt: skip
