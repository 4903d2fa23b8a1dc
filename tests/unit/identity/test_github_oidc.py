"""GitHub's job tokens: only jobs of the source's own place, on self-hosted runners, each token for one runner."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from orchestrator.errors import ConfigurationError
from orchestrator.identity.github_oidc import GitHubJobTokens, GitHubOidcConfig
from orchestrator.identity.jwks import public_jwk
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.verify import CallerRefusedError
from orchestrator.model.runner import RunnerName

ISSUER = "https://token.actions.githubusercontent.com"
AUDIENCE = "https://runners.example"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
KID = public_jwk(KEY.public_key())["kid"]
ONE, TWO = RunnerName("runner-1"), RunnerName("runner-2")


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public_jwk(KEY.public_key()), public_jwk(CURVE.public_key())]}))
    return path


@pytest.fixture
def make_tokens(key_file, clock):
    def make(**changes) -> GitHubJobTokens:
        place = {"owner": "acme"} | changes
        return GitHubJobTokens(
            GitHubOidcConfig(ISSUER, AUDIENCE, jwks_file=key_file, **place),
            replay=ReplayStore(None, clock.seconds),
            clock_ns=clock.now_ns,
            monotonic=clock.monotonic,
        )

    return make


@pytest.fixture
def claims(clock):
    now = int(clock.seconds)
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "repo:acme/shop:environment:prod",
        "jti": "0f0e",
        "iat": now,
        "nbf": now - 600,
        "exp": now + 300,
        "repository": "acme/shop",
        "repository_id": "101",
        "repository_owner": "acme",
        "repository_owner_id": "7",
        "repository_visibility": "private",
        "actor": "kim",
        "actor_id": "55",
        "event_name": "push",
        "ref": "refs/heads/main",
        "ref_type": "branch",
        "ref_protected": "true",
        "sha": "9f1c",
        "workflow": "deploy",
        "environment": "prod",
        "run_id": "9001",
        "run_attempt": "1",
        "check_run_id": "31337",
        "runner_environment": "self-hosted",
        "enterprise": "acme-inc",
    }


def sign(claims, key=KEY, algorithm="RS256", kid=KID) -> str:
    # As GitHub's own: the thumbprint of a certificate is in the header too.
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid, "x5t": "b64url"})


async def test_a_good_token_tells_the_job(make_tokens, claims):
    facts = await make_tokens().verify(sign(claims), ONE)
    assert facts["check_run_id"] == "31337"
    assert facts["environment"] == "prod"
    assert "head_ref" not in facts
    assert "sub" not in facts


async def test_a_token_counts_for_one_runner(make_tokens, claims):
    tokens = make_tokens()
    token = sign(claims)
    await tokens.verify(token, ONE)
    await tokens.verify(token, ONE)
    with pytest.raises(CallerRefusedError) as caught:
        await tokens.verify(token, TWO)
    assert caught.value.reason == "token_replayed"
    # The same identity signed anew (another signature, another time) is the same token.
    with pytest.raises(CallerRefusedError, match="another"):
        await tokens.verify(sign(claims | {"iat": claims["iat"] + 1}), TWO)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"repository_owner": "evil"}, "claim_mismatch"),
        ({"repository_owner": "acme-evil"}, "claim_mismatch"),
        ({"repository_owner": "evil\nacme"}, "claim_mismatch"),
        ({"runner_environment": "github-hosted"}, "claim_mismatch"),
        ({"runner_environment": None}, "claim_mismatch"),
        ({"run_id": "0"}, "claim_mismatch"),
        ({"run_id": "9001/../1"}, "claim_mismatch"),
        ({"repository_id": ""}, "claim_mismatch"),
        ({"aud": "https://github.com/acme"}, "audience_mismatch"),
        ({"aud": [AUDIENCE, "other"]}, "audience_mismatch"),
        ({"iss": "https://token.actions.githubusercontent.com/slug"}, "issuer_unknown"),
        ({"iss": "https://evil.example"}, "issuer_unknown"),
    ],
)
async def test_a_token_of_elsewhere_is_refused(make_tokens, claims, change, reason):
    with pytest.raises(CallerRefusedError) as caught:
        await make_tokens().verify(sign(claims | change), ONE)
    assert caught.value.reason == reason


async def test_forgeries(make_tokens, claims):
    tokens = make_tokens()
    for token, reason in (
        (sign(claims, STRANGER), "signature_invalid"),
        (sign(claims, CURVE, "ES256", public_jwk(CURVE.public_key())["kid"]), "algorithm_refused"),
        (sign(claims, kid="other"), "signature_invalid"),
        (jwt.encode(claims, "k" * 64, algorithm="HS256", headers={"kid": KID}), "algorithm_refused"),
        (jwt.encode(claims, None, algorithm="none", headers={"kid": KID}), "token_malformed"),
        (sign(claims)[:-8] + "AAAAAAAA", "signature_invalid"),
        ("", "token_missing"),
        ("x" * 20_000, "token_malformed"),
    ):
        with pytest.raises(CallerRefusedError) as caught:
            await tokens.verify(token, ONE)
        assert caught.value.reason == reason
    await tokens.verify(sign(claims), ONE)  # none of them spent the good one


async def test_times(make_tokens, claims, clock):
    token = sign(claims)
    clock.step(331)
    with pytest.raises(CallerRefusedError) as caught:
        await make_tokens().verify(token, ONE)
    assert caught.value.reason == "token_expired"
    with pytest.raises(CallerRefusedError) as caught:
        await make_tokens().verify(sign(claims | {"exp": claims["exp"] + 86_400, "iat": claims["iat"] - 1000}), ONE)
    assert caught.value.reason == "token_too_old"


@pytest.mark.parametrize(
    ("place", "good", "bad"),
    [
        ({"owner": "ACME"}, {"repository_owner": "Acme"}, {"repository_owner": "ac.me"}),
        ({"owner": "acme", "repository": "Shop"}, {"repository": "acme/shop"}, {"repository": "acme/shop2"}),
        ({"owner": "", "enterprise": "acme-inc"}, {"repository_owner": "any"}, {"enterprise": "acme"}),
    ],
)
async def test_the_place_without_case(make_tokens, claims, place, good, bad):
    await make_tokens(**place).verify(sign(claims | good), ONE)
    with pytest.raises(CallerRefusedError):
        await make_tokens(**place).verify(sign(claims | bad), ONE)


async def test_a_name_is_no_pattern(make_tokens, claims):
    with pytest.raises(CallerRefusedError):
        await make_tokens(owner="acm.").verify(sign(claims), ONE)


def test_a_configuration_for_anybody_is_refused(make_tokens):
    with pytest.raises(ConfigurationError, match="owner or an enterprise"):
        make_tokens(owner="")
