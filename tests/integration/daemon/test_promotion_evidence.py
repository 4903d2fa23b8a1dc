"""From what jobs report to what policy is told, and to the summary that a deploy job's token is bound to."""

from __future__ import annotations

import base64
import json

import pytest

from orchestrator.model import events

pytestmark = pytest.mark.sandbox

AUDIENCE = "https://staging.deploy.example"
SETTINGS = {
    "pools": [{"name": "default"}, {"name": "scanners"}],
    "identity": {"audiences": {AUDIENCE: {}}},
    "promotion": {"scanners": {"trivy": {"pools": ["scanners"]}}},
}
CONFIGURED = pytest.mark.parametrize("world", [pytest.param(SETTINGS, id="scanners")], indirect=True)
BOM = '{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"a"},{"name":"b"}]}'
TRIVY = json.dumps(
    {
        "SchemaVersion": 2,
        "Results": [{"Vulnerabilities": [{"VulnerabilityID": "CVE-1", "Severity": "HIGH", "FixedVersion": "2"}]}],
    }
)
BUILD = f"""
echo "$0 $ORCHESTRATOR_JOB_ID" > app.whl
cat > bom.json <<'END'
{BOM}
END
orchestrator-artifact app.whl --sbom bom.json
"""
DEPLOY = f"""
orchestrator-token --audience {AUDIENCE} > one
orchestrator-token --audience {AUDIENCE} > two
"""


def scan(digest: str, then: str = "") -> str:
    return f"""
cat > report.json <<'END'
{TRIVY}
END
orchestrator-artifact attest {digest} --scan report.json --scanner trivy
{then}
"""


async def job(world, key, script, **spec) -> tuple[str, list]:
    job_id = await world.offer(key, script, **spec)
    await world.finished(job_id)
    return job_id, [fact.event for fact in await world.rooms.journal.facts_of(job_id)]


async def build(world) -> tuple[str, str]:
    """The job, and the digest of what it built."""
    job_id, facts = await job(world, "build", BUILD)
    return job_id, next(event.digest for event in facts if isinstance(event, events.ArtifactReported))


def statement_of(envelope: str) -> dict:
    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))


@CONFIGURED
async def test_what_jobs_report_is_signed_at_their_end_and_counts_as_theirs(world):
    built, digest = await build(world)
    facts = await world.rooms.promotion.artifact(digest)
    assert (facts["signed"], facts["sbom"], facts["provenance"]) == (True, True, True)
    (sbom,) = facts["sboms"]
    assert (sbom["signer"], sbom["components"], sbom["reporter"]["job"]) == ("control-plane", 2, built)
    assert facts["scans"] == []
    await job(world, "own-scan", scan(digest))
    assert (await world.rooms.promotion.artifact(digest))["scans"] == []
    scanned, _ = await job(world, "scan", scan(digest, "exit 3"), pool="scanners")
    (found,) = (await world.rooms.promotion.artifact(digest))["scans"]
    assert (found["scanner"], found["counts"]["high"], found["reporter"]["job"]) == ("trivy", 1, scanned)
    assert list(world.state.joinpath("evidence", "reported").iterdir()) == []


@CONFIGURED
async def test_a_deploy_jobs_token_is_bound_to_the_digest_and_to_one_signed_summary(world):
    _, digest = await build(world)
    _, facts = await job(world, "deploy", DEPLOY, deployment_environment="staging", artifact_digest=digest)
    kinds = [type(event) for event in facts]
    first = kinds.index(events.ExchangeDecided)
    assert kinds[first : first + 3] == [events.ExchangeDecided, events.SummarySigned, events.TokenIssued]
    assert kinds.count(events.SummarySigned) == 1
    assert kinds.count(events.TokenIssued) == 2
    signed = next(event for event in facts if isinstance(event, events.SummarySigned))
    predicate = statement_of(signed.envelope)["predicate"]
    told = await world.rooms.promotion.artifact(digest)
    inputs = {f"sha256:{one['digest']['sha256']}" for one in predicate["inputAttestations"]}
    assert {told["signatures"][0]["attestation"], told["sboms"][0]["attestation"]} <= inputs
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_2"]
    assert signed.envelope in [one.text for one in world.rooms.promotion.kept.attestations.of(digest)]


@CONFIGURED
async def test_a_document_with_a_secret_of_the_job_is_refused_and_not_kept(world):
    script = """
printf '{"bomFormat":"CycloneDX","note":"%s"}' "$(cat "$ORCHESTRATOR_TOKEN_FILE")" > bom.json
echo built > app.whl
orchestrator-artifact app.whl --sbom bom.json || echo "exit $?"
"""
    job_id, facts = await job(world, "leak", script)
    assert not [event for event in facts if isinstance(event, events.ArtifactAttested)]
    assert "document_holds_secret" in await world.log(job_id)
