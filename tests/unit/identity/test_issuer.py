"""Minting: algorithm by audience, life as short as every limit demands, and tokens strangers can verify."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from joserfc import jwt as jose
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.identity.issuer import AudienceConfig, Issuer, IssuerConfig
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import RotationSchedule
from orchestrator.model.decision import Obligations, Verdict

ISSUER = "http://127.0.0.1:8455"


def mint(issuer, record, pool, decision, audience="cloud"):
    return issuer.sign(issuer.draft(record, pool, audience, decision))


def read(issuer, token, algorithms=("RS256", "ES256")):
    """As a stranger: joserfc, with nothing but the published key set."""
    return jose.decode(token, KeySet.import_key_set(issuer.jwks()), algorithms=list(algorithms))


@pytest.mark.parametrize(("audience", "algorithm"), [("cloud", "RS256"), ("cluster", "ES256")])
def test_a_stranger_verifies_our_token_by_the_key_set(issuer, record, pool, make_decision, audience, algorithm):
    token = mint(issuer, record, pool, make_decision(session_tags={"team": "core"}), audience)
    seen = read(issuer, token, [algorithm])
    assert seen.header == {"alg": algorithm, "kid": issuer.keys.signing_key(algorithm).kid, "typ": "JWT"}
    assert seen.claims["iss"] == ISSUER
    assert seen.claims["aud"] == audience
    assert seen.claims["iat"] == seen.claims["nbf"] == issuer.now()
    assert seen.claims["job_id"] == "dispatch.job1.1"
    assert seen.claims["https://aws.amazon.com/tags"]["principal_tags"] == {"team": ["core"]}
    assert {"sub", "exp", "jti"} <= set(seen.claims)
    assert "azp" not in seen.claims


def test_the_recorded_facts_are_those_of_the_token(issuer, record, pool, make_decision):
    draft = issuer.draft(record, pool, "cloud", make_decision(session_tags={"b": "1", "a": "2"}))
    seen = read(issuer, issuer.sign(draft))
    fact = draft.issued
    assert (fact.jti, fact.audience, fact.subject) == (seen.claims["jti"], "cloud", seen.claims["sub"])
    assert (fact.algorithm, fact.key_id) == (seen.header["alg"], seen.header["kid"])
    assert (fact.issued_at, fact.expires_at) == (seen.claims["iat"], seen.claims["exp"])
    assert fact.session_tags == ("a", "b")


def test_every_token_has_an_id_of_its_own(issuer, record, pool, make_decision):
    ids = {issuer.draft(record, pool, "cloud", make_decision()).issued.jti for _ in range(50)}
    assert len(ids) == 50


@pytest.mark.parametrize(
    ("audience", "obligations", "elapsed", "life"),
    [
        ("cloud", {}, 0, 300),
        ("cluster", {}, 0, 60),
        ("cloud", {"token_ttl_seconds": 20}, 0, 20),
        ("cloud", {"token_ttl_seconds": 5000}, 0, 300),
        ("cloud", {}, 3500, 100),
        ("cloud", {"token_ttl_seconds": 20}, 3595, 5),
        ("cloud", {}, 3598.5, 2),
    ],
)
def test_life_is_the_shortest_limit(issuer, record, pool, make_decision, clock, audience, obligations, elapsed, life):
    clock.step(elapsed)
    assert issuer.draft(record, pool, audience, make_decision(**obligations)).lifetime_seconds == life


def test_admission_can_limit_the_life_too(issuer, record, pool, make_decision):
    limited = replace(record, obligations=Obligations(token_ttl_seconds=11))
    assert issuer.draft(limited, pool, "cloud", make_decision()).lifetime_seconds == 11


def test_no_token_at_or_after_the_deadline(issuer, record, pool, make_decision, clock):
    clock.step(3600)
    with pytest.raises(GiveUpError) as caught:
        issuer.draft(record, pool, "cloud", make_decision())
    assert caught.value.reason == "job_deadline_passed"


@pytest.mark.parametrize("ttl", [0, -1])
def test_a_life_of_nothing_is_refused(issuer, record, pool, make_decision, ttl):
    with pytest.raises(GiveUpError) as caught:
        issuer.draft(record, pool, "cloud", make_decision(token_ttl_seconds=ttl))
    assert caught.value.reason == "ttl_invalid"


@pytest.mark.parametrize("audience", ["", "Cloud", "cloud ", "cloud,cluster", ISSUER])
def test_an_audience_must_be_listed_byte_for_byte(issuer, record, pool, make_decision, audience):
    with pytest.raises(GiveUpError) as caught:
        issuer.draft(record, pool, audience, make_decision())
    assert caught.value.reason == "audience_unlisted"


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.ALLOW])
def test_only_allow_makes_a_draft(issuer, record, pool, make_decision, verdict):
    with pytest.raises(GiveUpError) as caught:
        issuer.draft(record, pool, "cloud", make_decision(verdict))
    assert caught.value.reason == "not_allowed"


def test_a_token_cannot_be_made_huge(issuer, make_record, pool, make_decision):
    facts = {f"fact_{i}": "x" * 1000 for i in range(20)}
    with pytest.raises(GiveUpError) as caught:
        issuer.draft(make_record(facts=facts), pool, "cloud", make_decision())
    assert caught.value.reason == "claims_too_large"


def test_a_key_revoked_between_draft_and_signature_signs_nothing(issuer, record, pool, make_decision):
    draft = issuer.draft(record, pool, "cloud", make_decision())
    issuer.keys.revoke(draft.key.kid, issuer.now())
    with pytest.raises(GiveUpError) as caught:
        issuer.sign(draft)
    assert caught.value.reason == "key_revoked"


def test_tokens_of_a_retiring_key_still_verify_and_of_a_gone_key_no_more(issuer, record, pool, make_decision, clock):
    old = mint(issuer, record, pool, make_decision())
    start = clock.seconds
    issuer.keys.rotate(start + 6 * 86400)
    issuer.keys.rotate(start + 7 * 86400)
    assert issuer.open(old) is not None
    assert mint(issuer, record, pool, make_decision()) != old
    read(issuer, old)
    issuer.keys.rotate(start + 9 * 86400)
    assert issuer.open(old) is None
    with pytest.raises(JoseError):
        read(issuer, old)


def test_open_judges_time_by_the_one_clock(issuer, record, pool, make_decision, clock):
    token = mint(issuer, record, pool, make_decision())
    assert issuer.open(token) is not None
    clock.step(299.9)
    assert issuer.open(token) is not None
    clock.step(0.1)
    assert issuer.open(token) is None
    clock.step(-301)
    assert issuer.open(token) is None


def test_the_caller_token_names_the_operator_for_our_own_url(issuer):
    token, ends = issuer.mint_caller_token()
    seen = read(issuer, token)
    assert (seen.claims["sub"], seen.claims["aud"], seen.claims["iss"]) == ("operator", ISSUER, ISSUER)
    assert seen.claims["exp"] == ends == issuer.now() + 600
    assert "job_id" not in seen.claims


def test_no_token_text_in_representations(issuer, record, pool, make_decision):
    draft = issuer.draft(record, pool, "cloud", make_decision())
    assert issuer.sign(draft).split(".")[2] not in repr(draft)
    assert "PRIVATE" not in repr(draft)


def test_documents_are_json(issuer):
    assert json.loads(json.dumps(issuer.discovery()))["issuer"] == ISSUER
    assert len(json.loads(json.dumps(issuer.jwks()))["keys"]) == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"issuer": "https://ci.example/"},
        {"issuer": "ci.example"},
        {"issuer": "https://ci.example", "audiences": {"https://ci.example": AudienceConfig()}},
        {"issuer": "https://ci.example", "audiences": {"": AudienceConfig()}},
        {"issuer": "https://ci.example", "audiences": {"a\nb": AudienceConfig()}},
        {"issuer": "https://ci.example", "audiences": {"a": AudienceConfig(algorithm="HS256")}},
        {"issuer": "https://ci.example", "audiences": {"a": AudienceConfig(algorithm="none")}},
        {"issuer": "https://ci.example", "audiences": {"a": AudienceConfig(max_ttl_seconds=0)}},
        {"issuer": "https://ci.example", "token_ttl_seconds": 0},
    ],
)
def test_unsafe_settings_are_refused(bad):
    with pytest.raises(ConfigurationError):
        IssuerConfig(**bad)


def test_keys_may_not_leave_before_their_last_token_is_dead(key_folder, clock):
    keys = KeyStore.open(key_folder, RotationSchedule(retire_seconds=3600), clock.seconds)
    config = IssuerConfig("https://ci.example", {"a": AudienceConfig(max_ttl_seconds=3600)}, token_ttl_seconds=3600)
    with pytest.raises(ConfigurationError, match="retire_seconds"):
        Issuer(config, keys, clock.now_ns)
