"""Verification summaries as policy sees them: our own word only, without exceptions, the newest of each environment."""

from __future__ import annotations

from orchestrator.evidence.attestations.signers import Signers
from orchestrator.evidence.summary import SUMMARY_TYPE
from tests.unit.evidence.attestations.conftest import OTHER


def summary(environment="prod", at="2027-01-15T08:00:00Z", result="PASSED", waivers=()):
    return {
        "verificationResult": result,
        "timeVerified": at,
        "policy": {"digest": {"sha256": "a" * 64}},
        "orchestrator_environment": environment,
        "orchestrator_decision": {"id": "0192"},
        "orchestrator_job": "dispatch.1.1",
        "orchestrator_waivers": [{"exception": one, "codes": ["scan_stale"]} for one in waivers],
    }


def passed(found) -> list[tuple[str, str]]:
    return [(one["environment"], one["verified_at"]) for one in found["summaries"]]


def test_the_newest_of_each_environment(proven, signed, our_key):
    found = proven(
        signed(SUMMARY_TYPE, summary(at="2027-01-15T08:00:00Z"), key=our_key),
        signed(SUMMARY_TYPE, summary(at="2027-01-15T08:05:00Z"), key=our_key),
        signed(SUMMARY_TYPE, summary("staging"), key=our_key),
    )
    assert passed(found) == [("prod", "2027-01-15T08:05:00Z"), ("staging", "2027-01-15T08:00:00Z")]
    newest = found["summaries"][0]
    assert (newest["policy"], newest["decision"], newest["job"]) == ("sha256:" + "a" * 64, "0192", "dispatch.1.1")
    assert newest["attestation"].startswith("sha256:")
    assert (found["signed"], found["sbom"], found["provenance"]) == (False, False, False)


def test_what_counts_for_nothing(proven, signed, our_key, signers):
    assert passed(proven(signed(SUMMARY_TYPE, summary()))) == [], "signed by somebody who is not the gate"
    assert passed(proven(signed(SUMMARY_TYPE, summary(), key=our_key), by=Signers([]))) == []
    assert passed(proven(signed(SUMMARY_TYPE, summary(), key=our_key, digest=OTHER))) == []
    assert passed(proven(signed(SUMMARY_TYPE, summary(result="FAILED"), key=our_key))) == []
    assert passed(proven(signed(SUMMARY_TYPE, summary(environment=""), key=our_key))) == []


def test_one_that_rests_on_an_exception_is_not_told(proven, signed, our_key):
    """An exception ends; what it let through does not outlive it under another name."""
    older = signed(SUMMARY_TYPE, summary(at="2027-01-15T08:00:00Z"), key=our_key)
    newer = signed(SUMMARY_TYPE, summary(at="2027-01-15T08:05:00Z", waivers=["sha256:" + "d" * 64]), key=our_key)
    assert passed(proven(newer)) == []
    assert passed(proven(older, newer)) == [("prod", "2027-01-15T08:00:00Z")]


def test_what_a_job_says_is_not_our_word(proven, signed, our_key):
    """No job can report a document of this type; were one to, it would still be the job's."""
    reporter = {
        "job": "dispatch.1.1", "builder": "https://ci.example/b", "caller": "c", "caller_issuer": "i", "pool": "p",
        "trust_tier": "standard", "reported_at": "2027-01-15T08:00:00Z",
    }  # fmt: skip
    assert passed(proven(signed(SUMMARY_TYPE, summary(), key=our_key, reporter=reporter))) == []
