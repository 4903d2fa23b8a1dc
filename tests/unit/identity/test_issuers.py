"""Issuers of their own: each with its URL and keys, and no token of one is worth anything under another."""

from __future__ import annotations

import shutil

import jwt
import pytest

from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.identity.introspect import Introspection
from orchestrator.identity.issuer import AudienceConfig, Issuer, IssuerConfig
from orchestrator.identity.issuers import IssuerSet, issuer_url
from orchestrator.identity.keys import KeyStore, generate_key
from orchestrator.identity.rotation import KeyState
from orchestrator.identity.signature import TokenInvalidError, open_token
from tests.unit.identity.conftest import ISSUER, START


@pytest.fixture(scope="module")
def prod_keys(made_keys, tmp_path_factory) -> KeyStore:
    keys = [generate_key(algorithm, KeyState.ACTIVE, START) for algorithm in ("RS256", "ES256")]
    return KeyStore(tmp_path_factory.mktemp("prod"), made_keys.schedule, keys)


@pytest.fixture
def prod(prod_keys, clock) -> Issuer:
    config = IssuerConfig(issuer_url(ISSUER, "prod"), {"cloud": AudienceConfig()}, introspection_url=f"{ISSUER}/v1/i")
    return Issuer(config, prod_keys, clock.now_ns)


@pytest.fixture
def issuers(issuer, prod) -> IssuerSet:
    return IssuerSet(issuer, {"prod": prod})


def test_each_is_found_by_its_name(issuers, issuer, prod):
    assert issuers.names == ("", "prod")
    assert issuers.of("") is issuers.main is issuer
    assert issuers.of("prod") is prod
    assert prod.url == f"{ISSUER}/issuers/prod"
    with pytest.raises(GiveUpError) as caught:
        issuers.of("stage")
    assert caught.value.reason == "issuer_not_configured"
    assert "'stage'" in str(caught.value)


def test_an_audience_is_listed_when_any_issuer_has_it(issuers):
    assert issuers.lists("cloud")
    assert issuers.lists("cluster")
    assert not issuers.lists("other")


def test_its_discovery_names_its_own_keys_and_where_all_tokens_are_asked_about(prod):
    found = prod.discovery()
    assert found["issuer"] == f"{ISSUER}/issuers/prod"
    assert found["jwks_uri"] == f"{ISSUER}/issuers/prod/jwks.json"
    assert found["introspection_endpoint"] == f"{ISSUER}/v1/i"


def test_a_token_of_one_is_no_token_of_the_other(issuers, issuer, prod, record, pool, make_decision):
    tokens = {one.url: one.sign(one.draft(record, pool, "cloud", make_decision())) for one in (issuer, prod)}
    assert {issuers.open(token)["iss"] for token in tokens.values()} == {issuer.url, prod.url}
    assert issuer.open(tokens[prod.url]) is None
    assert prod.open(tokens[issuer.url]) is None
    published = {key["kid"] for key in issuer.jwks()["keys"]}
    assert published.isdisjoint(key["kid"] for key in prod.jwks()["keys"])
    # Not even for a verifier that trusts both key sets and confuses the issuers.
    key = prod.keys.verify_key(jwt.get_unverified_header(tokens[prod.url])["kid"])
    with pytest.raises(TokenInvalidError) as caught:
        open_token(tokens[prod.url], key, issuer=issuer.url, audience="cloud")
    assert caught.value.reason == "issuer_unknown"


def test_a_stolen_name_does_not_help(issuers, prod, record, pool, make_decision):
    """Signed with the keys of one issuer, in the name of the other."""
    draft = prod.draft(record, pool, "cloud", make_decision())
    forged = jwt.encode(
        {**draft.claims, "iss": ISSUER}, draft.key.private, algorithm="RS256", headers={"kid": draft.key.kid}
    )
    assert issuers.open(forged) is None
    assert issuers.open("no token") is None
    assert issuers.open(jwt.encode({"iss": "https://elsewhere.example"}, "k" * 32)) is None


async def test_introspection_knows_the_tokens_of_all(issuers, prod, record, pool, make_decision):
    token = prod.sign(prod.draft(record, pool, "cloud", make_decision()))
    answer = await Introspection(issuers, lambda _runner: record).introspect(token)
    assert (answer["active"], answer["iss"]) == (True, prod.url)


def test_no_issuer_is_an_audience_of_another(issuer, prod_keys, clock):
    config = IssuerConfig(issuer_url(ISSUER, "prod"), {ISSUER: AudienceConfig()})
    with pytest.raises(ConfigurationError, match="name an issuer"):
        IssuerSet(issuer, {"prod": Issuer(config, prod_keys, clock.now_ns)})


def test_rotation_of_one_touches_no_other(made_keys, key_folder, tmp_path, clock):
    stores = []
    for name in ("main", "prod"):
        shutil.copytree(key_folder, tmp_path / name)
        stores.append(KeyStore(tmp_path / name, made_keys.schedule, made_keys._keys))
    before = stores[0].published()
    stores[1].revoke(stores[1].signing_key("RS256").kid, START)
    assert stores[0].published() == before
    assert stores[1].published() != before
