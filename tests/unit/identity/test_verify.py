"""Caller tokens: each forgery, each reason, and nothing accepted by accident."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.identity.jwks import VerifyKey, public_jwk
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.signature import MAX_TOKEN_CHARS, TokenInvalidError, open_token
from orchestrator.identity.verify import (
    LEEWAY_SECONDS,
    CallerIssuerConfig,
    CallerRefusedError,
    CallerVerifier,
    check_times,
    claim_text,
    spent_until,
)
from orchestrator.model.job import Caller

CI = "https://ci.example"
AUDIENCE = "orchestrator"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_KID, EC_KID = public_jwk(RSA.public_key())["kid"], public_jwk(EC.public_key())["kid"]
CONFIG = {
    "issuer": CI,
    "audience": AUDIENCE,
    "require": {"repository_owner": "acme", "repository": "acme/[a-z]+"},
    "facts": {"repository": "repository", "run": "run_id", "protected": "ref_protected", "absent": "not_there"},
}


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public_jwk(RSA.public_key()), public_jwk(EC.public_key())]}))
    return path


@pytest.fixture
def make_verifier(issuer, key_file, clock):
    def make(**changes) -> CallerVerifier:
        config = CallerIssuerConfig(**(CONFIG | {"jwks_file": key_file} | changes))
        return CallerVerifier(
            (config,),
            local=issuer,
            replay=ReplayStore(None, clock.seconds),
            clock_ns=clock.now_ns,
            monotonic=clock.monotonic,
        )

    return make


@pytest.fixture
def verifier(make_verifier):
    return make_verifier()


@pytest.fixture
def claims(clock):
    now = int(clock.seconds)
    return {
        "iss": CI,
        "aud": AUDIENCE,
        "sub": "repo:acme/app",
        "iat": now,
        "nbf": now,
        "exp": now + 300,
        "jti": "one",
        "repository_owner": "acme",
        "repository": "acme/app",
        "run_id": 42,
        "ref_protected": True,
    }


def sign(claims, key=RSA, algorithm="RS256", kid=RSA_KID, **headers):
    headers = {"kid": kid, **headers}
    return jwt.encode(claims, key, algorithm=algorithm, headers={k: v for k, v in headers.items() if v is not None})


def part(value) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hand_made(header, claims, signature: bytes = b"signature") -> str:
    return f"{part(header)}.{part(claims)}.{part(signature)}"


def rs256(header, claims) -> str:
    """Really signed, with a header or payload that a library would not write."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(RSA.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


async def refused(verifier, token, key=None) -> CallerRefusedError:
    with pytest.raises(CallerRefusedError) as caught:
        await verifier.verify(token, key)
    assert caught.value.fix
    if len(token) > 20:
        assert token not in caught.value.diagnostics()
    return caught.value


async def reason(verifier, token, key=None) -> str:
    return (await refused(verifier, token, key)).reason


async def test_a_good_token_becomes_a_caller_with_mapped_facts_only(verifier, claims):
    caller = await verifier.verify(sign(claims))
    assert caller == Caller(CI, "repo:acme/app", {"repository": "acme/app", "run": "42", "protected": "true"})


async def test_es256_is_accepted_too(verifier, claims):
    assert await verifier.verify(sign(claims, EC, "ES256", EC_KID))


# Whose signature is it?


async def test_a_strangers_signature_under_a_known_kid(verifier, claims):
    assert await reason(verifier, sign(claims, STRANGER)) == "signature_invalid"


async def test_a_strangers_key_under_its_own_kid(verifier, claims):
    kid = public_jwk(STRANGER.public_key())["kid"]
    assert await reason(verifier, sign(claims, STRANGER, kid=kid)) == "signature_invalid"


@pytest.mark.parametrize("spelling", ["none", "None", "NONE", "nOnE"])
async def test_none_is_no_algorithm(verifier, claims, spelling):
    assert await reason(verifier, hand_made({"alg": spelling, "kid": RSA_KID}, claims)) == "algorithm_refused"
    assert await reason(verifier, f"{part({'alg': spelling, 'kid': RSA_KID})}.{part(claims)}.") == "token_malformed"


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
async def test_the_public_key_is_no_shared_secret(verifier, claims, algorithm):
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': algorithm, 'kid': RSA_KID, 'typ': 'JWT'})}.{part(claims)}"
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]
    for secret in (pem, pem.strip(), RSA_KID.encode()):
        forged = f"{signed}.{part(hmac.new(secret, signed.encode(), digest).digest())}"
        assert await reason(verifier, forged) == "algorithm_refused"


@pytest.mark.parametrize("algorithm", ["PS256", "RS384", "RS512"])
async def test_algorithms_not_listed_are_refused_even_with_the_right_key(verifier, claims, algorithm):
    assert await reason(verifier, sign(claims, RSA, algorithm)) == "algorithm_refused"


async def test_a_key_signs_with_its_own_algorithm_only(verifier, make_verifier, claims):
    assert await reason(verifier, sign(claims, EC, "ES256", RSA_KID)) == "algorithm_refused"
    only_rsa = make_verifier(algorithms=("RS256",))
    assert await reason(only_rsa, sign(claims, EC, "ES256", EC_KID)) == "algorithm_refused"


@pytest.mark.parametrize("member", ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip"])
async def test_no_token_brings_its_own_key_or_rules(verifier, claims, member):
    values = {"jwk": dict(public_jwk(STRANGER.public_key())), "x5c": ["AAAA"], "crit": ["exp"], "b64": True}
    header = {"alg": "RS256", "kid": RSA_KID, member: values.get(member, "https://evil.example/keys")}
    assert await reason(verifier, rs256(header, claims)) == "token_malformed"


@pytest.mark.parametrize(
    ("kid", "expected"),
    [
        ("../../../../etc/passwd", "signature_invalid"),
        ("file:///dev/null", "signature_invalid"),
        ("' OR '1'='1", "signature_invalid"),
        ("\0", "signature_invalid"),
        ("ключ", "signature_invalid"),
        (RSA_KID + "\0", "signature_invalid"),
        ("", "token_malformed"),
        ("k" * 257, "token_malformed"),
        (None, "token_malformed"),
        (7, "token_malformed"),
        ([RSA_KID], "token_malformed"),
        ({"kid": RSA_KID}, "token_malformed"),
    ],
    ids=range(12),  # the key id is new in each process, and workers must agree on names
)
async def test_kid_is_a_name_to_look_up_and_nothing_else(verifier, claims, kid, expected):
    assert await reason(verifier, rs256({"alg": "RS256", "kid": kid}, claims)) == expected


async def test_a_changed_payload_breaks_the_signature(verifier, claims):
    head, _, signature = sign(claims).split(".")
    changed = f"{head}.{part(claims | {'repository': 'acme/other'})}.{signature}"
    assert await reason(verifier, changed) == "signature_invalid"


# Is it well formed?


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("", "token_missing"),
        ("x", "token_malformed"),
        ("a.b", "token_malformed"),
        ("a.b.c.d", "token_malformed"),
        ("a.b.c.d.e", "token_malformed"),
        ("..", "token_malformed"),
        ("ä.ö.ü", "token_malformed"),
        ("a.b.c\n", "token_malformed"),
        (" a.b.c", "token_malformed"),
        ("a" * (MAX_TOKEN_CHARS + 1), "token_malformed"),
        ("a" * 3000 + ".b.c", "token_malformed"),
        ("W10.W10.W10", "token_malformed"),
        (part(b"[" * 1000) + ".e30.AAAA", "token_malformed"),
        (part(b"\xff\xfe") + ".e30.AAAA", "token_malformed"),
        (part({"alg": "RS256", "kid": "k"}) + "." + part(b"{" * 5000) + ".AAAA", "token_malformed"),
        (part({"alg": 5, "kid": "k"}) + ".e30.AAAA", "algorithm_refused"),
        (part({"kid": "k"}) + ".e30.AAAA", "algorithm_refused"),
        (part({"alg": "RS256", "kid": "k"}) + ".e30.AAAA", "token_malformed"),
        (part({"alg": "RS256", "kid": "k"}) + "." + part({"iss": [CI]}) + ".AAAA", "token_malformed"),
    ],
)
async def test_what_is_no_token(verifier, token, expected):
    assert await reason(verifier, token) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    st.one_of(
        st.text(max_size=300),
        st.builds(
            hand_made,
            *[
                st.recursive(
                    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                    lambda inner: st.dictionaries(
                        st.sampled_from(["alg", "kid", "iss", "exp", "aud", "x"]), inner, max_size=5
                    ),
                    max_leaves=8,
                )
            ]
            * 2,
        ),
    )
)
async def test_any_text_is_refused_with_a_reason(verifier, token):
    with pytest.raises(CallerRefusedError) as caught:
        await verifier.verify(token)
    assert caught.value.reason.startswith(("token_", "algorithm_", "issuer_", "signature_"))


@pytest.mark.parametrize("claim", ["exp", "iat", "aud", "iss", "sub"])
async def test_required_claims(verifier, claims, claim):
    del claims[claim]
    assert await reason(verifier, sign(claims)) == "token_malformed"


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1900000000", True, [], -1, 1e300, float("inf"), float("nan"), 1 << 60])
async def test_times_are_numbers(verifier, claims, claim, value):
    token = rs256({"alg": "RS256", "kid": RSA_KID}, claims | {claim: value})
    assert await reason(verifier, token) == "token_malformed"


@pytest.mark.parametrize("change", [{"sub": 7}, {"jti": 7}, {"jti": None}])
async def test_names_are_text(verifier, claims, change):
    assert await reason(verifier, rs256({"alg": "RS256", "kid": RSA_KID}, claims | change)) == "token_malformed"


# Is it for us, from somebody we know, and of now?


@pytest.mark.parametrize("stranger", ["https://evil.example", CI + "/", CI.upper(), "", "http://ci.example"])
async def test_issuers_are_compared_byte_for_byte(verifier, claims, stranger):
    assert await reason(verifier, sign(claims | {"iss": stranger})) == "issuer_unknown"


@pytest.mark.parametrize(
    "audience", ["other", AUDIENCE + "/", "", [AUDIENCE], [AUDIENCE, "other"], ["other"], [], {"a": AUDIENCE}, 7]
)
async def test_the_audience_is_one_exact_string(verifier, claims, audience):
    token = rs256({"alg": "RS256", "kid": RSA_KID}, claims | {"aud": audience})
    assert await reason(verifier, token) in {"audience_mismatch", "token_malformed"}


async def test_azp_does_not_replace_the_audience(verifier, claims):
    assert await reason(verifier, sign(claims | {"aud": "other", "azp": AUDIENCE})) == "audience_mismatch"


async def test_expiry_with_its_leeway(verifier, claims, clock):
    token = sign(claims)
    clock.step(300 + LEEWAY_SECONDS - 0.5)
    assert await verifier.verify(token)
    clock.step(0.5)
    error = await refused(verifier, token)
    assert (error.reason, error.issuer) == ("token_expired", CI)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_tokens_from_the_future(verifier, claims, clock, claim):
    token = sign(claims | {claim: int(clock.seconds) + LEEWAY_SECONDS + 1})
    assert await reason(verifier, token) == "token_not_yet_valid"
    clock.step(1)
    assert await verifier.verify(token)


async def test_an_old_token_is_refused_however_long_it_lives(verifier, claims, clock):
    token = sign(claims | {"exp": claims["iat"] + 30 * 86400})
    clock.step(3600 + LEEWAY_SECONDS)
    assert await reason(verifier, token) == "token_too_old"


def test_a_good_signature_does_not_make_up_for_another_issuer(claims):
    key = VerifyKey(RSA_KID, "RS256", RSA.public_key())
    with pytest.raises(TokenInvalidError) as caught:
        open_token(sign(claims), key, issuer="https://other.example", audience=AUDIENCE)
    assert caught.value.reason == "issuer_unknown"


# Do its claims meet the table?


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "acme/app\n"},
        {"repository": "acme/app/../other"},
        {"repository": "xacme/app"},
        {"repository": "acme/APP"},
        {"repository": "acme/аpp"},
        {"repository": ["acme/app"]},
        {"repository": None},
        {"repository_owner": "acme2"},
        {"repository_owner": {"acme": "acme"}},
        {"sub": ""},
        {"sub": "s" * 513},
        {"sub": "half \ud800"},
        {"run_id": [1]},
        {"run_id": "r" * 1025},
        {"run_id": "half \udfff"},
        {"run_id": "nul\0"},
    ],
)
async def test_claims_that_do_not_meet_the_table(verifier, claims, change):
    token = rs256({"alg": "RS256", "kid": RSA_KID}, claims | change)
    error = await refused(verifier, token)
    assert (error.reason, error.issuer) == ("claim_mismatch", CI)


async def test_a_required_claim_must_be_there(verifier, claims):
    del claims["repository_owner"]
    assert await reason(verifier, sign(claims)) == "claim_mismatch"


def test_an_empty_table_trusts_nobody():
    with pytest.raises(ConfigurationError, match="trust everybody"):
        CallerIssuerConfig(CI, AUDIENCE, {})


@pytest.mark.parametrize(
    "bad",
    [
        {"issuer": ""},
        {"audience": ""},
        {"require": {"repository": "("}},
        {"require": {f"c{i}": "x" for i in range(65)}},
        {"algorithms": ()},
        {"algorithms": ("HS256",)},
        {"algorithms": ("RS256", "none")},
        {"max_age_seconds": 0},
    ],
)
def test_unsafe_tables_are_refused(bad):
    with pytest.raises(ConfigurationError):
        CallerIssuerConfig(**(CONFIG | bad))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA", "kid": "x"}]}']
)
def test_a_bad_key_file_is_refused_at_start(make_verifier, key_file, content):
    key_file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        make_verifier()
    assert caught.value.reason == "jwks_file_invalid"


def test_an_issuer_listed_twice_is_refused(issuer, clock, key_file):
    for configs in (
        (CallerIssuerConfig(**CONFIG, jwks_file=key_file),) * 2,
        (CallerIssuerConfig(**(CONFIG | {"issuer": issuer.url}), jwks_file=key_file),),
    ):
        with pytest.raises(ConfigurationError, match="listed twice"):
            CallerVerifier(
                configs,
                local=issuer,
                replay=ReplayStore(None, 0),
                clock_ns=clock.now_ns,
                monotonic=clock.monotonic,
            )


# Is it used once?


async def test_a_single_use_token_serves_one_idempotency_key(verifier, claims):
    token = sign(claims)
    await verifier.verify(token, "key-1")
    await verifier.verify(token, "key-1")
    assert await reason(verifier, token, "key-2") == "token_replayed"
    await verifier.verify(token)
    await verifier.verify(sign(claims | {"jti": "two"}), "key-2")


async def test_replay_is_seen_through_a_new_signature_and_without_jti(verifier, claims):
    first = sign(claims, EC, "ES256", EC_KID)
    await verifier.verify(first, "key-1")
    assert await reason(verifier, sign(claims, EC, "ES256", EC_KID), "key-2") == "token_replayed"
    del claims["jti"]
    token = sign(claims, EC, "ES256", EC_KID)
    await verifier.verify(token, "key-1")
    assert await reason(verifier, token, "key-2") == "token_replayed"
    # The other valid signature over the same bytes: (r, n - s).
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    assert await reason(verifier, f"{signed}.{part(twin)}", "key-2") == "token_replayed"
    assert await verifier.verify(f"{signed}.{part(twin)}", "key-1")


async def test_a_refused_token_spends_nothing(verifier, claims):
    bad = sign(claims | {"repository": "evil/app"})
    await refused(verifier, bad, "key-1")
    await verifier.verify(sign(claims), "key-2")


async def test_single_use_can_be_switched_off(make_verifier, claims):
    verifier = make_verifier(single_use=False)
    for key in ("key-1", "key-2"):
        await verifier.verify(sign(claims), key)


@given(exp=st.integers(0, 10_000), iat=st.integers(0, 10_000), age=st.integers(1, 10_000), now=st.integers(0, 30_000))
def test_no_token_outlives_its_replay_entry(exp, iat, age, now):
    claims = {"exp": exp, "iat": iat}
    try:
        check_times(claims, now, age)
    except TokenInvalidError:
        return
    assert now < spent_until(claims, age)


# The local issuer


async def test_the_local_caller_is_the_operator(verifier, issuer):
    token, _ = issuer.mint_caller_token()
    assert await verifier.verify(token, "key-1") == Caller(issuer.url, "operator", {})
    assert await verifier.verify(token, "key-2")


async def test_a_local_token_for_anybody_else_is_refused(verifier, issuer):
    token, _ = issuer.mint_caller_token("operator\n")
    assert await reason(verifier, token) == "claim_mismatch"


async def test_a_jobs_token_dispatches_nothing(verifier, issuer, record, pool, make_decision):
    token = issuer.sign(issuer.draft(record, pool, "cloud", make_decision()))
    assert await reason(verifier, token) == "audience_mismatch"


async def test_local_tokens_die_with_their_time_and_with_their_key(verifier, issuer, clock):
    token, _ = issuer.mint_caller_token()
    issuer.keys.revoke(issuer.keys.signing_key("ES256").kid, clock.seconds)
    assert await reason(verifier, token) == "signature_invalid"
    token, _ = issuer.mint_caller_token()
    clock.step(600 + LEEWAY_SECONDS)
    assert await reason(verifier, token) == "token_expired"


async def test_an_issuer_cannot_speak_for_another(verifier, issuer, claims):
    for forged in (
        sign(claims | {"iss": issuer.url, "aud": issuer.url, "sub": "operator"}),
        sign(
            claims | {"iss": issuer.url, "aud": issuer.url, "sub": "operator"},
            kid=issuer.keys.signing_key("RS256").kid,
        ),
    ):
        assert await reason(verifier, forged) == "signature_invalid"


def test_claims_as_text():
    assert claim_text("x") == "x"
    assert claim_text(7) == "7"
    assert claim_text(True) == "true"
    assert claim_text(1.5) is None
    assert claim_text(1 << 70) is None
