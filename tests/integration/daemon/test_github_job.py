"""GitHub's whole way of a job: test server, daemon, sandbox, gateway, the runner's program, its hook, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_public_key

import orchestrator.testing.github
from orchestrator.evidence.receipts.judging import judge
from orchestrator.evidence.receipts.signing import envelope_of, open_receipt
from orchestrator.evidence.signing_key import key_id
from orchestrator.model.events import EgressDecided, PlatformJobNamed, ReceiptSigned
from orchestrator.model.outcome import EndReason
from orchestrator.model.record import fold
from orchestrator.server.deps import Limits
from orchestrator.server.sources.webhooks import Webhooks
from orchestrator.testing.github.model import JobPlan, Step
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.github.webhooks import Hook
from orchestrator.testing.ports import free_port
from orchestrator.testing.receipts import wrong_receipts

pytestmark = pytest.mark.sandbox

HOST, CACHE = "github.test", "cache.test"
POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "not_main", "message": "only main of acme/shop runs here"}]}

decision := {"allow": true} if {
	input.caller.facts.repository == "acme/shop"
	input.caller.facts.ref == "refs/heads/main"
}

decision := {"allow": true} if input.job.source == "dispatch"
"""
POLICY_TEST = """package orchestrator_test

import data.orchestrator

test_allow if orchestrator.decision.allow == true with input as {"job": {"source": "dispatch"}}

test_deny if orchestrator.decision.allow == false with input as {"job": {"source": "acme"}}
"""
PACKAGE = Path(orchestrator.testing.github.__file__).parent
RUN_SH = f"""#!/bin/sh
exec python3 -I -S {PACKAGE / "runner.py"} "$@"
"""
STEPS = (
    'echo "step in $TRACEPARENT of $ORCHESTRATOR_JOB_ID"',
    "orchestrator-token --audience https://cache.example | cut -c1-3",
    "curl --silent --output /dev/null --write-out 'cache %{http_code}\\n' http://cache.test:PORT/healthz",
)


@pytest.fixture
async def github() -> AsyncIterator[GitHubServer]:
    port = free_port()
    async with GitHubServer(port=port, runner_url=f"http://{HOST}:{port}") as made:
        made.add_repository("acme/shop", branches={"main": True, "topic": False})
        yield made


@pytest.fixture
def demand() -> dict:
    """What runs the jobs: a scale set. Overridden by tests of webhooks."""
    return {"scale_sets": [{"name": "zt"}]}


@pytest.fixture
async def world(github, open_world, demand, tmp_path):
    bundle, tools = tmp_path / "rules", tmp_path / "runner"
    for folder, files in ((bundle, {"decision.rego": POLICY, "decision_test.rego": POLICY_TEST}), (tools, {})):
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    (tools / "run.sh").write_text(RUN_SH)
    (tools / "run.sh").chmod(0o755)
    secret = tmp_path / "github-token"
    secret.write_text(github.personal_token)
    secret.chmod(0o600)
    for group in (demand.get("scale_sets", ()), demand.get("webhooks", {}).get("runners", ())):
        for one in group:
            one |= {"pool": "default", "runner_command": [str(tools / "run.sh")]}
    hosts = [{"host": host, "port": github.port, "protocol": "http"} for host in (HOST, CACHE)]
    settings = {
        "policy": {"bundle": str(bundle)},
        "pools": [
            {"name": "default", "egress": hosts, "sandbox": {"toolchain": [str(tools), str(PACKAGE)]}},
        ],
        "egress": {"names": {HOST: "127.0.0.1", CACHE: "127.0.0.1"}},
        "deadlines": {"refusal_seconds": 2},
        "github": [
            {
                "name": "acme", "url": github.config_url("acme"), "token_file": str(secret), "hosts": hosts[:1],
                **demand,
            }
        ],
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(open_world(**settings))
        made.seen = []
        stack.callback(made.rooms.journal.subscribe(made.seen.extend))
        await made.rooms.platforms.start(stack)
        yield made


async def named_job(world):
    """The one that was named, and all its facts, once it is finished."""
    (job_id,) = {fact.job_id for fact in world.seen if isinstance(fact.event, PlatformJobNamed)}
    await world.finished(job_id)
    return job_id, await world.rooms.journal.facts_of(job_id)


@pytest.mark.parametrize("id_token", [True, False], ids=["by its token", "by its message"])
async def test_a_job_of_githubs(world, github, id_token):
    steps = tuple(step.replace("PORT", str(github.port)) for step in STEPS)
    run = github.dispatch_workflow("acme/shop", [JobPlan("build", steps=steps, id_token=id_token)])
    await github.until(lambda: run.jobs[0].done)
    job = run.jobs[0]
    assert job.conclusion == "success", job.log
    job_id, facts = await named_job(world)
    record = fold(facts)
    assert record.outcome.reason is EndReason.COMPLETED
    assert f"of {job_id}" in job.log
    assert "\neyJ\n" in job.log
    assert "\ncache 404\n" in job.log, "its own hosts are reached: this one has no such page"
    (named,) = [fact.event for fact in facts if isinstance(fact.event, PlatformJobNamed)]
    assert named.job.proof == ("oidc" if id_token else "api")
    assert named.job.caller.facts["ref"] == "refs/heads/main"
    receipt = receipt_in(facts, world)
    assert receipt.job.platform_key == named.job.key
    assert [(one.what, one.how) for one in receipt.access] == [
        ("github_registration", "used_up"),
        ("runner_api_listener", "closed"),
        ("egress_gateway", "closed"),
    ]
    assert [token.audience for token in receipt.tokens] == ["https://cache.example"]


def receipt_in(facts, world):
    """The job's receipt, which agrees with its facts and breaks no promise."""
    public = load_pem_public_key(world.rooms.receipts.public_pem.encode())
    keys = {key_id(public): public}
    assert wrong_receipts({facts[0].job_id: facts}, keys) == []
    (signed,) = [fact.event for fact in facts if isinstance(fact.event, ReceiptSigned)]
    receipt, _ = open_receipt(envelope_of(signed), keys)
    assert all(found.holds for found in judge(receipt)), judge(receipt)
    return receipt


async def test_a_job_that_policy_does_not_want(world, github):
    reach = f"curl --silent --output /dev/null --write-out 'cache %{{http_code}}' http://cache.test:{github.port}/"
    steps = (*STEPS, Step(reach, condition="always"))  # a failed hook stops no such step
    run = github.dispatch_workflow("acme/shop", [JobPlan("build", steps=steps, id_token=True)], ref="refs/heads/topic")
    await github.until(lambda: run.jobs[0].done)
    job = run.jobs[0]
    assert job.conclusion == "failure"
    assert "::error title=denied by policy::only main of acme/shop runs here [not_main]" in job.log
    assert "step in" not in job.log
    assert "cache 403" in job.log
    _, facts = await named_job(world)
    assert fold(facts).outcome.reason is EndReason.POLICY_DENIED
    allowed = {fact.event.host for fact in facts if isinstance(fact.event, EgressDecided) and fact.event.allowed}
    assert allowed == {HOST}
    assert receipt_in(facts, world).tokens == []


class TestWebhooks:
    @pytest.fixture
    def demand(self, tmp_path) -> dict:
        secret = tmp_path / "hook-secret"
        secret.write_text("correct horse battery staple\n")
        secret.chmod(0o600)
        return {"webhooks": {"secret_files": [str(secret)], "runners": [{"labels": ["zt"]}]}}

    @pytest.fixture
    async def hook(self, world, github) -> AsyncIterator[Hook]:
        app = web.Application()
        receive = Webhooks(world.rooms.platforms.receivers, Limits()).receive
        app.router.add_post("/webhooks/github/{source}", receive)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/github/acme"
        yield github.webhooks.add(url, "correct horse battery staple", "acme")
        await runner.cleanup()

    @pytest.mark.parametrize("id_token", [True, False], ids=["by its token", "by the API"])
    async def test_a_job_that_a_webhook_told_of(self, world, github, hook, id_token):
        steps = tuple(step.replace("PORT", str(github.port)) for step in STEPS)
        run = github.dispatch_workflow("acme/shop", [JobPlan("build", steps=steps, id_token=id_token)])
        await github.until(lambda: run.jobs[0].done)
        job = run.jobs[0]
        assert job.conclusion == "success", job.log
        job_id, facts = await named_job(world)
        assert fold(facts).outcome.reason is EndReason.COMPLETED
        assert f"of {job_id}" in job.log
        (named,) = [fact.event for fact in facts if isinstance(fact.event, PlatformJobNamed)]
        assert named.job.caller.facts["ref"] == "refs/heads/main"
        assert receipt_in(facts, world).access[0].what == "github_registration"
        await github.webhooks.drained()
        assert {delivery.status for delivery in hook.deliveries} == {"OK"}
        assert not github.state.runners
