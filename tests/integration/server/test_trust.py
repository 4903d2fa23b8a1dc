"""The trust map over HTTP: all of it for operators, of a job's own grant the answer alone for whose job it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.identity.trust.facts import trust_facts
from orchestrator.identity.trust.inventory import inventory
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.model.job import Caller, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record
from orchestrator.server.shapes import ProblemView
from orchestrator.server.trust.shapes import InventoryView, TrustView
from tests.integration.server.conftest import FORGE

MAP = """
trust_map: 1
environment: ""
targets:
  cloud: {{kind: oidc, audience: cloud}}
grants:
  - name: ours
    when: {{caller: {{equals: "{ours}"}}, caller_issuer: {{equals: "{forge}"}}}}
    target: cloud
    max_ttl_seconds: 60
  - name: theirs
    when: {{caller: {{equals: "{theirs}"}}, caller_issuer: {{equals: "{forge}"}}}}
    target: cloud
    max_ttl_seconds: 60
"""
POOL = Pool(PoolName("default"), "memory", TrustTier.STANDARD, capacity=1, base="b", isolation="none")


@dataclass
class Reader:
    """What the daemon's own reader does, over one map."""

    map: TrustMap

    def listed(self, audience: str) -> bool:
        return audience in self.map.audiences

    def explain(self, record: Record, audience: str, role: str) -> Mapping[str, Any] | None:
        return self.map.explain(trust_facts(record, POOL), audience, role).as_json()

    def inventory(self) -> Mapping[str, Any]:
        return inventory(self.map).as_json()


@pytest.fixture
def trust(tmp_path: Path) -> Reader:
    path = tmp_path / "map.yaml"
    callers = {"ours": Caller(FORGE, "repo:app").id, "theirs": Caller(FORGE, "repo:theirs").id}
    path.write_text(MAP.format(**callers, forge=FORGE))
    return Reader(TrustMap.load([path]))


async def explained(api, job_id: str, headers: dict[str, str], query: str = "audience=cloud") -> TrustView:
    async with api.client.get(f"{api.url}/v1/jobs/{job_id}/trust?{query}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return TrustView.model_validate(await answer.json())


async def test_an_operator_sees_each_grant_and_whose_job_it_is_the_answer(api):
    job_id = await api.job("one", headers=api.forge())
    seen = await explained(api, job_id, api.operator)
    assert seen.explanation.answer["rule"] == "-/ours"
    assert [one.rule for one in seen.explanation.candidates] == ["-/ours", "-/theirs"]
    assert (seen.listed, seen.note, seen.recorded) == (True, "", [])
    own = await explained(api, job_id, api.forge())
    assert own.explanation.answer == seen.explanation.answer
    assert (own.explanation.candidates, own.explanation.left_out) == ([], 0)
    refused = await explained(api, job_id, api.forge(), "audience=elsewhere&role=x")
    assert (refused.listed, refused.explanation.answer["code"]) == (False, "trust_no_grant")
    assert "theirs" not in refused.model_dump_json()


async def test_anothers_job_does_not_exist(api):
    job_id = await api.job("one", headers=api.forge())
    url = f"{api.url}/v1/jobs/{job_id}/trust?audience=cloud"
    async with api.client.get(url, headers=api.forge("repo:theirs")) as answer:
        assert answer.status == 404
    async with api.client.get(url) as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    "query", ["", "audience=", "audience=a&audience=b", "audience=a&x=y", "audience=a&role=two%20roles", "role=a"]
)
async def test_a_query_that_does_not_fit(api, query):
    job_id = await api.job("one")
    async with api.client.get(f"{api.url}/v1/jobs/{job_id}/trust?{query}", headers=api.operator) as answer:
        assert answer.status == 400
        assert ProblemView.model_validate(await answer.json()).reason == "query_invalid"


async def test_the_inventory_is_for_operators(api):
    async with api.client.get(f"{api.url}/v1/trust", headers=api.operator) as answer:
        seen = InventoryView.model_validate(await answer.json())
    assert [one.rule for one in seen.grants] == ["-/ours", "-/theirs"]
    assert seen.by_target == {"-/cloud": ["-/ours", "-/theirs"]}
    async with api.client.get(f"{api.url}/v1/trust", headers=api.forge()) as answer:
        assert answer.status == 403
        assert "ours" not in await answer.text()


class TestWithoutAMap:
    @pytest.fixture
    def trust(self) -> None:
        return None

    async def test_policy_alone_decides_and_it_says_so(self, api):
        job_id = await api.job("one")
        seen = await explained(api, job_id, api.operator)
        assert (seen.listed, seen.explanation) == (None, None)
        assert "policy alone decides" in seen.note
        async with api.client.get(f"{api.url}/v1/trust", headers=api.operator) as answer:
            assert not InventoryView.model_validate(await answer.json()).configured
