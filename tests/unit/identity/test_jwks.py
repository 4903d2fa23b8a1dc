"""The published documents, and reading other issuers' key sets."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from orchestrator.identity.jwks import (
    base64url,
    discovery_document,
    parse_jwk,
    parse_jwks,
    public_jwk,
    thumbprint,
)


def test_thumbprint_of_rfc_7638_section_3_1():
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV"
        "4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7"
        "d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF4"
        "4-csFCur-kEgU8awapJzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_discovery_says_what_relying_parties_need_and_offers_no_token_endpoint():
    document = discovery_document("https://ci.example")
    assert document["issuer"] == "https://ci.example"
    assert document["jwks_uri"] == "https://ci.example/jwks.json"
    assert document["introspection_endpoint"] == "https://ci.example/v1/introspect"
    assert document["response_types_supported"] == ["id_token"]
    assert document["subject_types_supported"] == ["public"]
    assert document["id_token_signing_alg_values_supported"] == ["RS256", "ES256"]
    assert "sub" in document["claims_supported"]
    assert "azp" not in document["claims_supported"]
    assert "token_endpoint" not in document


def test_what_we_publish_reads_back_as_the_same_key(keys):
    found = parse_jwks({"keys": list(keys.published())})
    for kid, key in found.items():
        assert public_jwk(key.key)["kid"] == kid
        assert key.algorithm in ("RS256", "ES256")
    assert len(found) == 2


def test_coordinates_keep_their_leading_zeros():
    for _ in range(600):
        jwk = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
        assert len(jwk["x"]) == len(jwk["y"]) == 43


def test_weak_and_foreign_keys_are_not_published():
    with pytest.raises(ValueError):
        public_jwk(ec.generate_private_key(ec.SECP384R1()).public_key())
    with pytest.raises(ValueError):
        public_jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key())


def ec_jwk(**changes):
    return dict(public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())) | changes


def test_a_set_keeps_its_good_keys_beside_others():
    good = ec_jwk()
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers()
    weak_jwk = {
        "kty": "RSA",
        "kid": "weak",
        "n": base64url(weak.n.to_bytes(128, "big")),
        "e": "AQAB",
    }
    okp = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    others = [
        weak_jwk,
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64url(okp)},
        ec_jwk(kid="enc", use="enc"),
        ec_jwk(kid="off-curve", x=base64url(b"\1" * 32)),
        ec_jwk(kid="other-alg", alg="ES384"),
        ec_jwk(kid=""),
        ec_jwk(kid=7),
        ec_jwk(kid="k" * 257),
        ec_jwk(kid="long", x="A" * 100_000),
        ec_jwk(kid="not-base64", x="ä" * 43),
        {},
    ]
    assert set(parse_jwks({"keys": [*others, good]})) == {good["kid"]}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"keys": {}},
        {"keys": ["key"]},
        {"keys": [{}] * 65},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]},
        {"keys": [ec_jwk(d="AAAA")]},
    ],
)
def test_what_is_no_public_key_set_is_refused(document):
    with pytest.raises(ValueError):
        parse_jwks(document)


def test_two_keys_of_one_name_are_refused():
    with pytest.raises(ValueError):
        parse_jwks({"keys": [ec_jwk(kid="same"), ec_jwk(kid="same")]})


def test_a_symmetric_key_is_never_a_key():
    assert parse_jwk({"kty": "oct", "kid": "x", "alg": "HS256"}) is None
