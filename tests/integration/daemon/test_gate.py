"""One policy at three places: the same artifact before a pull request, in a job and at a cluster's gate."""

from __future__ import annotations

import json
import shutil
import ssl
from contextlib import AsyncExitStack

import pytest

from orchestrator.daemon.cluster.gate import deployment_gate, open_cluster_gate
from orchestrator.daemon.cluster.room import CA_FILE
from orchestrator.policy.bundle import default_bundle
from orchestrator.server.cluster.admission import REVIEW_PATH
from orchestrator.testing.ports import free_port
from tests.integration.daemon.test_deploy import AUDIENCE, POOLS, build, deploy
from tests.unit.server.test_admission_review import review

pytestmark = pytest.mark.sandbox

PERSON = "ada.lovelace@people.example"
UNKNOWN = "sha256:" + "0" * 64
OF_JOBS = {"source_mismatch", "trust_tier_too_low", "isolation_not_approved"}
"""Codes of rules about who asks and where a job runs, of which a cluster's question has neither."""


@pytest.fixture
def rules(tmp_path):
    """The shipped ones, told where images may come from."""
    folder = tmp_path / "rules"
    shutil.copytree(default_bundle(), folder)
    data = json.loads((folder / "data.json").read_text())
    for environment in data["environments"].values():
        environment["registries"] = ["registry.example/shop"]
    (folder / "data.json").write_text(json.dumps(data))
    return folder


@pytest.fixture
async def world(open_world, rules):
    port = free_port()
    webhook = {"host": "127.0.0.1", "port": port, "url": f"https://127.0.0.1:{port}"}
    namespaces = {"shop-staging": "staging", "shop-prod": "prod"}
    given = {"policy": {"bundle": str(rules)}, "deployment": {"namespaces": namespaces, "webhook": webhook}}
    audiences = {"audiences": {AUDIENCE: {}}}
    async with open_world(pools=POOLS, identity=audiences, **given) as made, AsyncExitStack() as stack:
        settings = made.rooms.settings
        assert await open_cluster_gate(settings, deployment_gate(made.rooms), stack) is not None
        made.gate = webhook["url"] + REVIEW_PATH
        yield made


async def ask(world, image: str, namespace: str, **more) -> dict:
    """What the cluster is told."""
    spec = {"containers": [{"name": "app", "image": image}]}
    tls = ssl.create_default_context(cafile=world.state / CA_FILE)
    document = review("Pod", spec, namespace=namespace, userInfo={"username": PERSON}, **more)
    async with world.client.post(world.gate, json=document, ssl=tls) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["response"]


def codes_in(response: dict) -> set[str]:
    if response["allowed"]:
        return set()
    lines = response["status"]["message"].splitlines()[1:]
    return {line.partition("[")[2].partition("]")[0] for line in lines}


async def check(world, digest: str, environment: str, pool: str) -> set[str]:
    body = {"environment": environment, "artifact_digest": digest, "pool": pool}
    async with world.client.post(f"{world.url}/v1/policy/check", json=body, headers=world.operator) as answer:
        assert answer.status == 200, await answer.text()
        told = await answer.json()
    assert told["allowed"] is (not told["reasons"])
    return {reason["code"] for reason in told["reasons"]}


async def test_the_three_places_agree_and_the_cluster_says_what_only_it_knows(world):
    digest = await build(world, "build")
    await _cluster_alone(world, digest)
    await _all_three(world, digest)
    assert world.rooms.engine.live_ids() == []


async def _all_three(world, digest):
    for number, (artifact, environment, pool) in enumerate(
        [
            (digest, "staging", "default"),
            (UNKNOWN, "staging", "default"),
            (digest, "prod", "closed"),
            (UNKNOWN, "prod", "closed"),
        ]
    ):
        of_job = await deploy(world, f"deploy-{number}", artifact, environment=environment, pool=pool)
        assert await check(world, artifact, environment, pool) == of_job
        told = codes_in(await ask(world, f"registry.example/shop/app@{artifact}", f"shop-{environment}"))
        assert told - OF_JOBS == of_job - OF_JOBS
        assert bool(told) is bool(of_job)


async def _cluster_alone(world, digest):
    good = f"registry.example/shop/app@{digest}"
    assert codes_in(await ask(world, good, "shop-staging")) == set()
    assert codes_in(await ask(world, f"evil.example/shop@{digest}", "shop-staging")) == {"registry_not_approved"}
    alike = f"registry.example/shopping@{digest}"
    assert codes_in(await ask(world, alike, "shop-staging")) == {"registry_not_approved"}
    assert codes_in(await ask(world, "registry.example/shop/app:1", "shop-staging")) == {"image_not_pinned"}
    assert codes_in(await ask(world, good, "elsewhere")) == {"namespace_not_guarded"}
    spec = {"hostNetwork": True, "containers": [{"name": "app", "image": good}]}
    pod = {"metadata": {"name": "shop"}, "spec": spec}
    assert codes_in(await ask(world, good, "shop-staging", object=pod)) == {"privileged"}
    metrics = await world.get("/metrics")
    assert "orchestrator_deployment_allowed_total 1.0" in metrics
    assert "orchestrator_deployment_denied_total 5.0" in metrics
    records = [line for path in (world.state / "audit").glob("*.jsonl") for line in path.read_text().splitlines()]
    judged = [one for one in map(json.loads, records) if one.get("kind") == "deployment.judged"]
    assert len(judged) == 6
    assert all(one["actor"].startswith("hmac-sha256:") for one in judged)
    assert PERSON not in "".join(records)
