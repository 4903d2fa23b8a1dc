"""From build to deployment under the shipped policy: who may deploy what."""

from __future__ import annotations

import json
import shutil

import pytest

from orchestrator.model.job import Caller
from orchestrator.policy.bundle import default_bundle

pytestmark = pytest.mark.sandbox

POOLS = [
    {"name": "default"},
    {"name": "open", "trust_tier": "untrusted"},
    {"name": "closed", "trust_tier": "protected"},
]
AUDIENCE = "https://staging.deploy.example"
SETTINGS = {"policy": {}, "pools": POOLS, "identity": {"audiences": {AUDIENCE: {}}}}
SHIPPED = pytest.mark.parametrize("world", [pytest.param(SETTINGS, id="shipped-policy")], indirect=True)
BUILD = """
echo "$0 $ORCHESTRATOR_JOB_ID" > app.whl
printf '{"bomFormat":"CycloneDX","serialNumber":"%s"}' "$ORCHESTRATOR_JOB_ID" > bom.json
orchestrator-artifact app.whl
orchestrator-artifact --media-type application/vnd.cyclonedx+json bom.json
"""
DEPLOY = f"orchestrator-token --audience {AUDIENCE} > /dev/null"


async def build(world, key, caller=None, pool="default") -> str:
    """The digest of what was built."""
    job_id = await world.offer(key, BUILD, caller, pool=pool)
    await world.finished(job_id)
    artifacts = json.loads(await world.get(f"/v1/jobs/{job_id}"))["artifacts"]
    return next(one["digest"] for one in artifacts if one["name"] == "app.whl")


async def deploy(world, key, digest, caller=None, environment="staging", pool="default") -> set[str]:
    """Codes of the denial; empty when the job was admitted and succeeded."""
    spec = {"deployment_environment": environment, "artifact_digest": digest, "pool": pool}
    job_id = await world.offer(key, DEPLOY, caller, **spec)
    await world.finished(job_id)
    job = json.loads(await world.get(f"/v1/jobs/{job_id}"))
    if job["result"] == "success":
        return set()
    assert job["result"] == "denied", job
    return {reason["code"] for reason in job["decisions"][0]["reasons"]}


@SHIPPED
async def test_the_local_caller_goes_to_staging_with_its_own_builds_and_not_to_prod(world):
    digest = await build(world, "build")
    assert await deploy(world, "staging", digest) == set()
    assert await deploy(world, "prod", digest, environment="prod", pool="closed") == {
        "base_not_approved",
        "build_trust_tier_too_low",
        "commit_not_on_protected_branch",
        "sbom_unfit",
        "scan_missing",
        "security_approval_missing",
        "source_unverified",
        "ticket_missing",
    }
    assert await deploy(world, "unknown", "sha256:" + "0" * 64) >= {"artifact_unknown"}
    low = await build(world, "low", pool="open")
    assert await deploy(world, "low-staging", low) == {"build_trust_tier_too_low"}


@SHIPPED
async def test_a_repository_deploys_what_was_built_from_it_and_nothing_else(world):
    forge = "https://forge.example"
    shop = Caller(forge, "repo:acme/shop:ref:main", {"repository": "acme/shop", "repository_id": "1"})
    tag = Caller(forge, "repo:acme/shop:ref:v1", {"repository": "acme/shop", "repository_id": "1"})
    again = Caller(forge, "repo:acme/shop:ref:main", {"repository": "acme/shop", "repository_id": "2"})
    other = Caller(forge, "repo:acme/other", {"repository": "acme/other", "repository_id": "3"})
    elsewhere = Caller("https://other-forge.example", shop.subject, shop.facts)
    ours, mine = await build(world, "shop", shop), await build(world, "mine")
    assert await deploy(world, "same", ours, tag) == set()
    for number, (caller, digest) in enumerate(
        [(again, ours), (other, ours), (elsewhere, ours), (world.local, ours), (shop, mine)]
    ):
        assert await deploy(world, f"foreign{number}", digest, caller) == {"source_mismatch"}, caller


async def test_rules_that_are_only_watched_refuse_nothing_and_are_told_everywhere(open_world, tmp_path):
    """Before a team has its first SBOM: staging goes on, and who would have been refused is known by name."""
    bundle = tmp_path / "watching"
    shutil.copytree(default_bundle(), bundle)
    data = json.loads((bundle / "data.json").read_text())
    data["environments"]["staging"]["modes"] = {"sbom_missing": "observe"}
    (bundle / "data.json").write_text(json.dumps(data))
    settings = SETTINGS | {"policy": {"bundle": str(bundle)}}
    async with open_world(**settings) as world:
        job_id = await world.offer("build", 'echo "$ORCHESTRATOR_JOB_ID" > app.whl\norchestrator-artifact app.whl\n')
        await world.finished(job_id)
        digest = json.loads(await world.get(f"/v1/jobs/{job_id}"))["artifacts"][0]["digest"]
        assert await deploy(world, "staging", digest) == set()
        assert await deploy(world, "unknown", "sha256:" + "0" * 64) == {
            "artifact_unknown",
            "artifact_unsigned",
            "base_not_approved",
        }
        jobs = json.loads(await world.get("/v1/jobs"))["jobs"]
        views = [json.loads(await world.get(f"/v1/jobs/{job['id']}")) for job in jobs]
        allowed = next(view for view in views if view["artifact_digest"] == digest)
        for decision in allowed["decisions"]:
            assert decision["verdict"] == "allow"
            (reason,) = decision["observed"]
            assert reason["code"] == "sbom_missing"
            assert reason["message"].startswith("input.artifact.sbom is false, expected true: ")
        assert len(allowed["decisions"]) == 2
        figures = world.rooms.metrics.render()[1].decode()
        assert 'orchestrator_policy_observed_total{code="sbom_missing",stage="admission"} 2.0' in figures
        assert 'orchestrator_policy_observed_total{code="sbom_missing",stage="exchange"} 1.0' in figures
