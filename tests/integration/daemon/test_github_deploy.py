"""GitHub's jobs through the promotion gate, by the shipped rules: one builds, another one says what it deploys."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

import orchestrator.testing.github
from orchestrator.evidence.receipts.signing import envelope_of, open_receipt
from orchestrator.evidence.signing_key import key_id
from orchestrator.model import events
from orchestrator.model.decision import Stage
from orchestrator.model.record import fold
from orchestrator.testing.github.model import Job, JobPlan
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.ports import free_port

pytestmark = pytest.mark.sandbox

HOST = "github.test"
AUDIENCE = "https://staging.deploy.example"
PACKAGE = Path(orchestrator.testing.github.__file__).parent
BUILD = """
echo "$ORCHESTRATOR_JOB_ID" > app.whl
echo '{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"a"}]}' > bom.json
orchestrator-artifact app.whl --sbom bom.json
"""
OTHER = "sha256:" + "2" * 64


@pytest.fixture
async def github() -> AsyncIterator[GitHubServer]:
    port = free_port()
    async with GitHubServer(port=port, runner_url=f"http://{HOST}:{port}") as made:
        made.add_repository("acme/shop", branches={"main": True})
        yield made


@pytest.fixture
async def world(github, open_world, tmp_path):
    tools = tmp_path / "runner"
    tools.mkdir()
    (tools / "run.sh").write_text(f'#!/bin/sh\nexec python3 -I -S {PACKAGE / "runner.py"} "$@"\n')
    (tools / "run.sh").chmod(0o755)
    secret = tmp_path / "github-token"
    secret.write_text(github.personal_token)
    secret.chmod(0o600)
    host = {"host": HOST, "port": github.port, "protocol": "http"}
    demand = {"name": "zt", "pool": "default", "runner_command": [str(tools / "run.sh")]}
    settings = {
        "policy": {},  # the rules that are shipped
        "identity": {"audiences": {AUDIENCE: {}}},
        "pools": [{"name": "default", "egress": [host], "sandbox": {"toolchain": [str(tools), str(PACKAGE)]}}],
        "egress": {"names": {HOST: "127.0.0.1"}},
        "github": [
            {"name": "acme", "url": github.config_url("acme"), "token_file": str(secret), "hosts": [host],
             "scale_sets": [demand]},
        ],
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(open_world(**settings))
        await made.rooms.platforms.start(stack)
        yield made


async def run(world, github: GitHubServer, plan: JobPlan) -> tuple[Job, list[events.Event], Sequence[events.Fact]]:
    """GitHub's job, and the facts of the record that it became, once that is finished."""
    named: list[str] = []
    stop = world.rooms.journal.subscribe(
        lambda facts: named.extend(fact.job_id for fact in facts if isinstance(fact.event, events.PlatformJobNamed))
    )
    going = github.dispatch_workflow("acme/shop", [plan])
    await github.until(lambda: going.jobs[0].done)
    stop()
    (job_id,) = set(named)
    await world.finished(job_id)
    facts = await world.rooms.journal.facts_of(job_id)
    assert fold(facts).offer.spec.deployment_environment == plan.environment
    return going.jobs[0], [fact.event for fact in facts], facts


def deploy(*steps: str) -> JobPlan:
    return JobPlan("deploy", steps=steps, environment="staging", id_token=True)


def claims_of(token: str) -> dict:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


async def test_a_job_says_what_it_deploys_and_its_token_is_bound_to_it(world, github):
    job, told, _ = await run(world, github, JobPlan("build", steps=(BUILD,), id_token=True))
    assert job.conclusion == "success", job.log
    digest = next(event.digest for event in told if isinstance(event, events.ArtifactReported))

    asks = f"orchestrator-token --audience {AUDIENCE}"
    job, told, facts = await run(
        world,
        github,
        deploy(
            f"{asks} || echo early $?",
            f"{asks} --artifact {digest} > token && cut -d. -f2 token",
            f"orchestrator-token artifact {OTHER} || echo other $?",
            f"orchestrator-token artifact {digest}",
        ),
    )
    assert job.conclusion == "success", job.log
    # Admitted without an artifact; refused a token without one, by name; and bound to the one it named.
    decisions = [event.decision for event in told if isinstance(event, events.ExchangeDecided)]
    (named,) = [event for event in told if isinstance(event, events.PlatformJobNamed)]
    assert named.decision.allowed
    assert named.decision.stage is Stage.ADMISSION
    assert [decision.allowed for decision in decisions] == [False, True]
    assert "artifact_unknown" in {reason.code for reason in decisions[0].reasons}
    assert "early 1" in job.log
    assert "artifact_already_named" in job.log
    assert "other 1" in job.log
    assert [event.digest for event in told if isinstance(event, events.ArtifactNamed)] == [digest]
    (signed,) = [event for event in told if isinstance(event, events.SummarySigned)]
    assert (signed.artifact_digest, signed.environment) == (digest, "staging")
    (line,) = [line for line in job.log.splitlines() if len(line) > 200 and line.startswith("ey")]
    claims = claims_of(f".{line}.")
    assert (claims["artifact_digest"], claims["environment"]) == (digest, "staging")
    assert claims["verification_summary"] == signed.digest
    assert fold(facts).offer.spec.artifact_digest == digest
    public = load_pem_public_key(world.rooms.receipts.public_pem.encode())
    (sealed,) = [event for event in told if isinstance(event, events.ReceiptSigned)]
    receipt, _ = open_receipt(envelope_of(sealed), {key_id(public): public})
    assert [(one.artifact, one.digest) for one in receipt.summaries] == [(digest, signed.digest)]


async def test_a_digest_that_nobody_here_built_is_refused_by_name(world, github):
    job, told, _ = await run(
        world, github, deploy(f"orchestrator-token --audience {AUDIENCE} --artifact {OTHER} || echo refused $?")
    )
    assert "refused 1" in job.log
    assert OTHER in job.log
    (decided,) = [event.decision for event in told if isinstance(event, events.ExchangeDecided)]
    assert "artifact_unknown" in {reason.code for reason in decided.reasons}
    assert not [event for event in told if isinstance(event, events.TokenIssued | events.SummarySigned)]
