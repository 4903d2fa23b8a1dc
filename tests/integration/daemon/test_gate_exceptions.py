"""Break-glass at a cluster's gate: one use for an image in an environment, before the answer; none for a dry run."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import pytest

from orchestrator.daemon.cluster.gate import deployment_gate, open_cluster_gate
from orchestrator.errors import TryAgainError
from orchestrator.server.cluster.admission import REVIEW_PATH
from orchestrator.testing.approvals import DIGEST, OTHER_DIGEST, exception, id_of
from orchestrator.testing.ports import free_port
from tests.integration.daemon.test_approvals import MISSING, give_in, lasting, settings, shown, told
from tests.integration.daemon.test_gate import ask, codes_in


@pytest.fixture
async def world(open_world, tmp_path):
    port = free_port()
    webhook = {"host": "127.0.0.1", "port": port, "url": f"https://127.0.0.1:{port}"}
    deployment = {"namespaces": {"shop-prod": "prod"}, "webhook": webhook}
    async with open_world(**settings(tmp_path), deployment=deployment) as made, AsyncExitStack() as stack:
        assert await open_cluster_gate(made.rooms.settings, deployment_gate(made.rooms), stack) is not None
        made.gate = webhook["url"] + REVIEW_PATH
        yield made


def image(digest: str = DIGEST) -> str:
    return f"registry.example/shop@{digest}"


async def test_an_exception_is_one_use_for_all_replicas_of_an_image(world):
    assert codes_in(await ask(world, image(), "shop-prod")) == {MISSING}
    wanted = exception(**lasting())
    await give_in(world, wanted, "alice", "bob", "carol")

    assert codes_in(await ask(world, image(), "shop-prod", dryRun=True)) == set()
    assert (await shown(world, wanted))["uses"] == 0
    for _ in range(3):
        assert codes_in(await ask(world, image(), "shop-prod")) == set()
    view = await shown(world, wanted)
    assert [(use["stage"], use["number"]) for use in view["used"]] == [("deployment", 1)]
    assert codes_in(await ask(world, image(OTHER_DIGEST), "shop-prod")) == {MISSING}, "it is for one image"

    judged = [record["data"] for record in told(world, "deployment.judged")]
    assert [one["outcome"] for one in judged] == ["denied", "allowed", "allowed", "allowed", "denied"]
    assert judged[1]["decisions"][0]["waived"] == [id_of(wanted)]


async def test_a_use_that_cannot_be_stored_lets_nothing_start(world, monkeypatch):
    wanted = exception(**lasting())
    await give_in(world, wanted, "alice", "bob", "carol")

    def full(_self, _uses) -> None:
        raise TryAgainError("the disk is full", reason="approvals_unavailable", fix="make room")

    monkeypatch.setattr("orchestrator.evidence.approvals.store.ApprovalStore.use", full)
    assert codes_in(await ask(world, image(), "shop-prod")) == {"approvals_unavailable"}
    assert (await shown(world, wanted))["uses"] == 0


async def test_a_pull_request_is_told_of_an_exception_and_uses_none_up(world):
    wanted = exception(**lasting())
    await give_in(world, wanted, "alice", "bob", "carol")
    body = json.dumps({"environment": "prod", "artifact_digest": DIGEST})
    headers = world.operator | {"Content-Type": "application/json"}
    async with world.client.post(f"{world.url}/v1/policy/check", data=body, headers=headers) as answer:
        told_of = await answer.json()
    assert (told_of["allowed"], told_of["waivers"]) == (True, [{"exception": id_of(wanted), "codes": [MISSING]}])
    assert (await shown(world, wanted))["uses"] == 0
