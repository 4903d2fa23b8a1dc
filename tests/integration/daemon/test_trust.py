"""The trust map in the whole daemon: what a job gets by it, what people are told, and how it is replaced."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from orchestrator.daemon.trust import TrustHolder
from orchestrator.errors import ConfigurationError
from orchestrator.model.events import TokenIssued
from orchestrator.model.job import Caller
from tests.integration.daemon.conftest import AUDIENCE
from tests.integration.daemon.test_signals import value

FORGE = "https://forge.example"
SHOP = Caller(FORGE, "repo:acme/shop", {"repository": "acme/shop", "repository_id": "7", "ref": "refs/heads/main"})
OTHER = Caller(FORGE, "repo:acme/other", {"repository": "acme/other", "repository_id": "8"})

MAP = """
trust_map: 1
environment: staging
issuer: staging
targets:
  cache: {kind: oidc, audience: https://cache.example, session_seconds: 600, slack_seconds: 60}
grants:
  - name: shop
    when:
      repository_id: {equals: "7"}
      caller_issuer: {equals: https://forge.example}
      ref: {matches: "refs/heads/*"}
    target: cache
    roles: [writer]
    max_ttl_seconds: 120
"""
IDENTITY = {"audiences": {AUDIENCE: {}}, "issuers": {"staging": {}}}


def write_map(folder: Path, text: str = MAP) -> dict[str, object]:
    """Identity's settings with the map."""
    path = folder / "staging.yaml"
    path.write_text(text)
    return IDENTITY | {"trust_maps": [str(path)]}


ASK = f"orchestrator-token --json --audience {AUDIENCE} > answer.json && grep -c writer answer.json"


@pytest.mark.sandbox
async def test_a_job_gets_what_its_grant_says_and_another_hears_why_not(open_world, tmp_path):
    async with open_world(identity=write_map(tmp_path)) as world:
        given = await world.offer("given", ASK, SHOP, deployment_environment="staging")
        refused = await world.offer("refused", ASK, OTHER, deployment_environment="staging")
        nowhere = await world.offer("nowhere", ASK, SHOP)
        for job_id in (given, refused, nowhere):
            await world.finished(job_id)
        job = json.loads(await world.get(f"/v1/jobs/{given}"))
        assert job["result"] == "success", await world.log(given)
        issued = TokenIssued(**{**job["tokens"][0], "session_tags": ()})
        assert (issued.rule, issued.role, issued.target) == ("staging/shop", "writer", "cache")
        assert issued.issuer == f"{world.url}/issuers/staging"
        assert issued.expires_at - issued.issued_at == 120
        assert issued.session_expires_at == issued.expires_at + 60 + 600
        for job_id in (refused, nowhere):
            job = json.loads(await world.get(f"/v1/jobs/{job_id}"))
            assert (job["result"], job["tokens"]) == ("failure", [])
            assert job["token_refusals"][0]["reason"] == "trust_no_grant"
            assert "trust_no_grant" in await world.log(job_id)

        told = json.loads(await world.get(f"/v1/jobs/{given}/trust?audience={AUDIENCE}"))
        assert told["listed"] is True
        assert told["explanation"]["answer"]["rule"] == "staging/shop"
        assert told["explanation"]["trust_digest"] == world.rooms.trust.digest == issued.trust_digest
        assert [one["what"] for one in told["recorded"]] == ["decided", "issued"]
        told = json.loads(await world.get(f"/v1/jobs/{refused}/trust?audience={AUDIENCE}&role=writer"))
        assert told["explanation"]["answer"]["code"] == "trust_no_grant"
        assert [one["rule"] for one in told["explanation"]["candidates"]] == ["staging/shop"]
        assert [one["what"] for one in told["recorded"]] == ["decided", "refused"]
        found = json.loads(await world.get("/v1/trust"))
        assert found["configured"] is True
        assert [one["rule"] for one in found["grants"]] == ["staging/shop"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("issuer: staging", "issuer: prod"), "issuer: 'prod' is not listed under identity.issuers"),
        (("https://cache.example", "https://other.example"), "is not listed under identity.issuers.staging.audiences"),
        (("kind: oidc", "kind: github"), "targets.cache"),
        (("repository_id:", "repository:"), "pins no identity"),
        (("trust_map: 1", "trust_map: 2"), "trust_map"),
    ],
)
async def test_a_map_that_does_not_fit_is_not_started_with(open_world, tmp_path, change, words):
    with pytest.raises(ConfigurationError) as caught:
        async with open_world(identity=write_map(tmp_path, MAP.replace(*change))):
            pass
    assert words in str(caught.value)
    assert "staging.yaml" in str(caught.value)
    assert caught.value.reason == "trust_map_invalid"
    assert caught.value.fix


async def test_where_two_issuers_number_a_grant_says_whose_id_it_means(open_world, tmp_path):
    callers = [
        {
            "issuer": f"https://{name}.example",
            "audience": "a",
            "require": {"sub": "x"},
            "facts": {"repository_id": "id"},
        }
        for name in ("forge", "ci")
    ]
    told = "grants.shop.when: pins repository_id but not caller_issuer, and 2 issuers"
    unscoped = MAP.replace("      caller_issuer: {equals: https://forge.example}\n", "")
    async with open_world(identity=write_map(tmp_path), callers=callers) as world:
        before = world.rooms.trust.current()
        write_map(tmp_path, unscoped)
        with pytest.raises(ConfigurationError, match=told):
            await world.rooms.trust.load()
        assert world.rooms.trust.current() is before
    with pytest.raises(ConfigurationError, match=told):
        async with open_world(identity=write_map(tmp_path, unscoped), callers=callers):
            pass


async def test_without_a_map_nobody_is_told_of_one(open_world):
    async with open_world() as world:
        assert json.loads(await world.get("/v1/trust")) == {
            "configured": False, "trust_digest": "", "grants": [], "by_identity": {}, "by_target": {},
        }  # fmt: skip
        assert world.rooms.trust.current() is None
        assert await world.rooms.trust.load() is False


async def test_a_refused_map_leaves_the_one_in_force(open_world, tmp_path):
    async with open_world(identity=write_map(tmp_path)) as world:
        trust: TrustHolder = world.rooms.trust
        before = trust.current()
        write_map(tmp_path, MAP.replace("issuer: staging", "issuer: prod"))
        with pytest.raises(ConfigurationError):
            await trust.load()
        assert trust.current() is before
        write_map(tmp_path, f"# another comment{MAP}")
        assert await trust.load() is False
        write_map(tmp_path, MAP.replace("120", "60"))
        assert await trust.load() is True
        assert trust.digest != before.digest


@pytest.mark.sandbox
def test_hangup_reloads_the_trust_map_and_a_bad_one_changes_nothing(program, tmp_path):
    daemon = program(identity=write_map(tmp_path)).start()
    write_map(tmp_path, MAP.replace("120", "60"))
    daemon.signal(signal.SIGHUP)
    good = daemon.said("trust map reloaded")
    assert (good["changed"], good["digest"] != good["before"]) == (True, True)
    daemon.until(lambda: value(daemon, 'orchestrator_trust_reload_total{outcome="loaded"}') == 1)
    write_map(tmp_path, MAP.replace("repository_id", "repository"))
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda: value(daemon, 'orchestrator_trust_reload_total{outcome="refused"}') == 1)
    assert value(daemon, "orchestrator_trust_reload_failed") == 1
    assert value(daemon, "orchestrator_policy_reload_failed") == 0
    refusal = daemon.said("trust map reload refused")
    assert (refusal["level"], refusal["reason"]) == ("error", "trust_map_invalid")
    assert refusal["fix"]
    write_map(tmp_path)
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda: value(daemon, "orchestrator_trust_reload_failed") == 0)
    assert daemon.end() == 0
