"""Sources over HTTP: all of them for operators, nothing for anybody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.source import CallLimit
from orchestrator.server.shapes import ProblemView
from orchestrator.server.sources.handlers import source_view
from orchestrator.server.sources.shapes import SourceListView
from orchestrator.testing.sources import source_state


@pytest.fixture
def sources():
    return [source_state(), source_state("other")]


async def test_an_operator_sees_every_source(api):
    async with api.client.get(f"{api.url}/v1/sources", headers=api.operator) as answer:
        assert answer.status == 200
        seen = SourceListView.model_validate(await answer.json()).sources
    assert [one.name for one in seen] == ["acme", "other"]
    (one,) = seen[0].sets
    assert (one.stage, one.waiting_for, one.announced, one.jobs.assigned) == ("waiting", "github_unavailable", 4, 3)
    assert one.heard_at == one.failure.since == "2025-12-29T09:20:00.000000Z"
    assert one.failure.fix == "look at the proxy"
    assert seen[0].calls["poll"].calls == 42
    assert seen[0].calls["poll"].by_status == {"2xx": 40, "none": 2}
    assert seen[0].rate_limits["core"].resets_at == "2025-12-29T10:20:00Z"


async def test_nobody_else_does(api):
    async with api.client.get(f"{api.url}/v1/sources", headers=api.forge()) as answer:
        assert answer.status == 403
        assert "acme" not in await answer.text()
        assert ProblemView.model_validate(await answer.json()).reason == "operators_only"
    async with api.client.get(f"{api.url}/v1/sources") as answer:
        assert answer.status == 401
    async with api.client.get(f"{api.url}/v1/sources?name=acme", headers=api.operator) as answer:
        assert answer.status == 400


@pytest.mark.parametrize("resets_at", [10**12, 10**30, -(10**30)])
def test_a_moment_that_is_none_is_left_out(resets_at):
    state = replace(source_state(), limits={"core": CallLimit(1, 1, resets_at)})
    assert source_view(state)["rate_limits"]["core"]["resets_at"] is None
