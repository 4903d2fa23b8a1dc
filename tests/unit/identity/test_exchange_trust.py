"""The exchange under a trust map: both policy and map must allow, the map bounds what comes out, and says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.identity.exchange import Collaborators, Exchange
from orchestrator.identity.grammar import ExchangeRefusedError, ExchangeRequest
from orchestrator.identity.issuer import AudienceConfig, Issuer, IssuerConfig
from orchestrator.identity.issuers import IssuerSet, issuer_url
from orchestrator.identity.rate import RateLimit
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.decision import Verdict
from orchestrator.model.events import ExchangeDecided, TokenIssued, TokenRefused
from tests.unit.identity.conftest import ISSUER
from tests.unit.identity.test_exchange import World

ARN = "arn:aws:iam::123456789012:role/"
STAGING = f"""
trust_map: 1
environment: staging
issuer: own
targets:
  aws: {{kind: aws, audience: cloud, session_seconds: 900, slack_seconds: 300}}
  mesh: {{kind: oidc, audience: cluster}}
  ca: {{kind: step-ca, audience: ca}}
grants:
  - name: app
    when: {{repository_id: {{equals: "34"}}, ref: {{equals: refs/heads/main}}}}
    target: aws
    roles: ["{ARN}app"]
    max_ttl_seconds: 120
    session_tags: {{repository: {{claim: repository}}, stage: {{value: staging}}}}
    transitive: [stage]
  - name: mesh
    when: {{repository_id: {{equals: "34"}}}}
    target: mesh
    roles: [read, write]
    max_ttl_seconds: 300
  - {{name: ca, when: {{repository_id: {{equals: "34"}}}}, target: ca, max_ttl_seconds: 300}}
"""
AWS = ExchangeRequest("runner-token", "cloud")


@pytest.fixture
def trust(tmp_path: Path) -> TrustMap:
    (tmp_path / "staging.yaml").write_text(STAGING)
    return TrustMap.load([tmp_path / "staging.yaml"])


@pytest.fixture
def world(record, pool, make_decision):
    return World(record, pool, make_decision())


@pytest.fixture
def own(issuer, clock) -> Issuer:
    config = IssuerConfig(issuer_url(ISSUER, "own"), issuer.config.audiences, own=True)
    return Issuer(config, issuer.keys, clock.now_ns)


@pytest.fixture
def exchange(world, issuer, own, trust, clock):
    asked = Collaborators(
        world, world.record_of, lambda _record: world.pool, world.note, world.on_secret, lambda: world.trust
    )
    world.trust = trust
    rate = RateLimit(per_second=1, burst=5, monotonic=clock.monotonic)
    return Exchange(IssuerSet(issuer, {"own": own}), asked, rate, timeout_seconds=0.5)


@pytest.fixture
def runner(record):
    return RunnerIdentity(record.runner, "uid-1")


async def refusal(exchange, runner, request=AWS) -> ExchangeRefusedError:
    with pytest.raises(ExchangeRefusedError) as caught:
        await exchange.exchange(runner, request)
    return caught.value


async def test_a_grant_shapes_the_token(exchange, world, runner, own, issuer, trust):
    answer = await exchange.exchange(runner, AWS)
    assert (answer["expires_in"], answer["scope"], answer["token_type"]) == (120, f"{ARN}app", "N_A")
    claims = own.open(answer["access_token"])
    assert (claims["iss"], claims["role"], claims["trust_rule"]) == (
        f"{ISSUER}/issuers/own",
        f"{ARN}app",
        "staging/app",
    )
    assert claims["https://aws.amazon.com/tags"] == {
        "principal_tags": {"repository": ["acme/app"], "stage": ["staging"]},
        "transitive_tag_keys": ["repository", "stage"],
    }
    assert issuer.open(answer["access_token"]) is None
    decided, issued = world.facts
    assert decided == ExchangeDecided("cloud", world.decision)
    assert isinstance(issued, TokenIssued)
    assert (issued.rule, issued.role, issued.target) == ("staging/app", f"{ARN}app", "aws")
    assert (issued.issuer, issued.trust_digest) == (own.url, trust.digest)
    # The cloud takes the token until five minutes after its end, and then gives a session of a quarter of an hour.
    assert issued.session_expires_at == claims["exp"] + 300 + 3600, "AWS lets no role forbid sessions of an hour"


async def test_step_ca_knows_a_token_again_by_its_nonce_and_gives_what_may_begin_in_years(exchange, world, runner, own):
    answer = await exchange.exchange(runner, ExchangeRequest("runner-token", "ca"))
    claims = own.open(answer["access_token"])
    assert claims["nonce"] == claims["jti"]
    issued = world.facts[-1]
    assert (issued.target, issued.session_expires_at) == ("ca", 0)
    other = await exchange.exchange(runner, AWS)
    assert "nonce" not in own.open(other["access_token"])


async def test_what_is_asked_for_is_what_comes_or_nothing(exchange, world, runner, own):
    mesh = ExchangeRequest("t", "cluster")
    error = await refusal(exchange, runner, mesh)
    assert (error.error, error.reason) == ("invalid_scope", "role_required")
    answer = await exchange.exchange(runner, replace(mesh, role="write"))
    assert answer["scope"] == own.open(answer["access_token"])["role"] == "write"
    error = await refusal(exchange, runner, replace(mesh, role="admin"))
    assert (error.error, error.reason) == ("invalid_scope", "role_not_mapped")
    assert world.facts[-1] == TokenRefused(
        "cluster", "role_not_mapped", "admin", "staging/mesh", world.facts[-1].detail
    )
    assert "'admin'" in world.facts[-1].detail


async def test_a_refusal_names_the_claim_and_the_rule(exchange, world, runner):
    facts = {**world.record.offer.caller.facts, "ref": "refs/heads/feature"}
    caller = replace(world.record.offer.caller, facts=facts)
    world.record = replace(world.record, offer=replace(world.record.offer, caller=caller))
    error = await refusal(exchange, runner)
    assert (error.error, error.reason) == ("invalid_target", "trust_claim_mismatch")
    told = error.answer()["explanation"]
    assert "[staging/app]" in told
    assert 'ref is "refs/heads/feature"' in told
    assert "refs/heads/feature" not in str(error.wire())
    decided, refused = world.facts
    assert decided == ExchangeDecided("cloud", world.decision)
    assert (refused.reason, refused.rule) == ("trust_claim_mismatch", "staging/app")
    assert 'wants ref equal to "refs/heads/main"' in refused.detail
    assert world.secrets == []


async def test_no_grant_means_no_token_whatever_policy_says(exchange, world, runner, make_record):
    for environment in ("prod", ""):
        world.record = make_record(environment=environment)
        assert (await refusal(exchange, runner)).reason == "trust_no_grant"
    facts = {"repository": "acme/app", "repository_id": "35"}
    world.record = make_record(facts=facts)
    assert (await refusal(exchange, runner)).reason == "trust_no_grant"
    assert world.secrets == []


async def test_a_grant_means_no_token_when_policy_denies(exchange, world, runner, make_decision):
    world.decision = make_decision(Verdict.DENY)
    assert (await refusal(exchange, runner)).reason == "policy_deny"
    assert world.facts[-1] == TokenRefused("cloud", "policy_deny")


async def test_without_a_map_policy_alone_decides_and_there_are_no_roles(exchange, world, runner, issuer):
    world.trust = None
    answer = await exchange.exchange(runner, AWS)
    claims = issuer.open(answer["access_token"])
    assert "scope" not in answer
    assert not {"role", "trust_rule"} & claims.keys()
    assert (world.facts[-1].rule, world.facts[-1].session_expires_at, world.facts[-1].issuer) == ("", 0, "")
    error = await refusal(exchange, runner, replace(AWS, role="x"))
    assert (error.error, error.reason) == ("invalid_scope", "scope_unsupported")
    assert world.facts[-1] == TokenRefused("cloud", "scope_unsupported", "x")


async def test_an_unlisted_audience_stays_unlisted(exchange, world, runner):
    assert (await refusal(exchange, runner, ExchangeRequest("t", "elsewhere"))).reason == "audience_unlisted"


async def test_policys_tags_and_the_grants_go_together_and_never_against_each_other(
    exchange, world, runner, own, make_decision
):
    world.decision = make_decision(session_tags={"cost": "42", "stage": "staging"})
    claims = own.open((await exchange.exchange(runner, AWS))["access_token"])
    tags = claims["https://aws.amazon.com/tags"]["principal_tags"]
    assert tags == {"cost": ["42"], "repository": ["acme/app"], "stage": ["staging"]}
    for clash in ({"stage": "prod"}, {"Stage": "staging"}, {"repository": "acme/other"}):
        world.decision = make_decision(session_tags=clash)
        assert (await refusal(exchange, runner)).reason == "session_tags_conflict"
    assert world.facts[-1].rule == "staging/app"


async def test_an_issuer_that_does_not_list_the_audience_signs_nothing(exchange, world, runner, issuer, clock):
    narrow = IssuerConfig(issuer_url(ISSUER, "own"), {"cluster": AudienceConfig()}, own=True)
    exchange._issuers = IssuerSet(issuer, {"own": Issuer(narrow, issuer.keys, clock.now_ns)})
    assert (await refusal(exchange, runner)).reason == "audience_unlisted"
    exchange._issuers = IssuerSet(issuer)
    error = await refusal(exchange, runner)
    assert error.reason == "issuer_not_configured"
    assert world.secrets == []


async def test_the_map_of_the_moment_counts(exchange, world, runner, trust):
    """A map that is replaced while policy thinks is the one that decides, and the one that is recorded."""
    narrower = TrustMap([replace(trust.documents[0], grants=())])

    def replaced():
        world.trust = narrower

    world.before_policy_returns = replaced
    assert (await refusal(exchange, runner)).reason == "trust_no_grant"


async def test_a_job_that_ends_while_facts_are_written_gets_no_token(exchange, world, runner):
    world.before_note_returns = world.end
    assert (await refusal(exchange, runner)).reason == "job_ended"
    assert world.secrets == []


async def test_the_pinned_image_is_in_the_token(exchange, world, runner, own, pool):
    claims = own.open((await exchange.exchange(runner, AWS))["access_token"])
    assert "runner_image_digest" not in claims
    digest = "sha256:" + "d" * 64
    world.pool = replace(pool, base=f"registry.example/runner:1@{digest}")
    claims = own.open((await exchange.exchange(runner, AWS))["access_token"])
    assert claims["runner_image_digest"] == digest
