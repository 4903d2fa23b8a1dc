"""`POST /v1/policy/check`: policy's answer for whoever asks, with the caller's verified facts and nobody else's."""

from __future__ import annotations

import pytest

from orchestrator.errors import GiveUpError
from orchestrator.model.decision import Decision, Reason, Stage, Verdict, Waiver
from orchestrator.server.deps import PolicyQuestion
from orchestrator.server.policy.shapes import CheckView
from tests.integration.server.conftest import FORGE

DIGEST = "sha256:" + "ab" * 32
DECISION = Decision(
    "d-1",
    Stage.CHECK,
    Verdict.DENY,
    (Reason("artifact_unsigned", "sign it"),),
    input_digest=DIGEST,
    bundle_digest=DIGEST,
    engine="regorus",
    observed=(Reason("scan_missing", "scan it"),),
    waivers=(Waiver(DIGEST, ("ticket_missing",)),),
)


class Desk:
    def __init__(self) -> None:
        self.asked = []

    async def __call__(self, caller, question):
        self.asked.append((caller, question))
        if question.pool == "other":
            raise GiveUpError("There is no pool of this name.", reason="pool_unknown")
        return DECISION


@pytest.fixture
def check_policy():
    return Desk()


async def ask(api, body, headers=None):
    async with api.client.post(f"{api.url}/v1/policy/check", json=body, headers=headers or api.forge()) as answer:
        return answer.status, await answer.json()


async def test_the_answer_is_policys_whoever_asks(api, check_policy):
    body = {"environment": "prod", "artifact_digest": DIGEST, "ticket": "SHOP-1", "pool": "default", "secrets": ["a"]}
    status, document = await ask(api, body)
    assert status == 200
    view = CheckView.model_validate(document)
    assert (view.allowed, view.verdict, view.environment, view.artifact_digest) == (False, "deny", "prod", DIGEST)
    assert [(one.code, one.message) for one in view.reasons] == [("artifact_unsigned", "sign it")]
    assert [one.code for one in view.observed] == ["scan_missing"]
    assert [(one.exception, one.codes) for one in view.waivers] == [(DIGEST, ["ticket_missing"])]
    ((caller, question),) = check_policy.asked
    assert (caller.issuer, caller.facts) == (FORGE, {"repository": "app"})
    assert question == PolicyQuestion("prod", DIGEST, "SHOP-1", "default", ("a",))
    assert (await ask(api, {"environment": "prod"}, api.operator))[0] == 200
    assert [await api.journal.facts_of(job) for job in api.engine.live_ids()] == []


async def test_who_is_not_known_is_not_answered(api, check_policy):
    status, document = await ask(api, {"environment": "prod"}, {"Authorization": "Bearer x"})
    assert (status, check_policy.asked) == (401, [])
    assert document["reason"].startswith("token_")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 422, "validation_failed"),
        ({"environment": ""}, 422, "validation_failed"),
        ({"environment": "prod", "artifact_digest": "sha256:ab"}, 422, "validation_failed"),
        ({"environment": "prod", "approved": True}, 422, "validation_failed"),
        ({"environment": "prod", "secrets": ["a"] * 99}, 422, "validation_failed"),
        ({"environment": "prod", "pool": "other"}, 404, "pool_unknown"),
    ],
)
async def test_a_question_that_cannot_be_asked(api, body, status, reason):
    found, document = await ask(api, body)
    assert (found, document["reason"]) == (status, reason)
