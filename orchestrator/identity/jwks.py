"""The two public documents of the issuer, and how a JSON Web Key is read and named. Pure.

Sources: OpenID Connect Discovery 1.0 section 3, RFC 7517 (JWK), RFC 7518 section 6 (key material),
RFC 7638 (thumbprint), RFC 8414 (authorization server metadata).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

Jwk = Mapping[str, str]
"""A public key as published: `kty alg use kid` and key material, nothing else."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

ALGORITHMS: Final = ("RS256", "ES256")
"""What we sign with and accept. No EdDSA: go-oidc, kube-apiserver and JWT-SVID verifiers refuse it."""

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MAX_KEYS: Final = 64
MAX_KID_CHARS: Final = 256

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
OAUTH_METADATA_PATH: Final = "/.well-known/oauth-authorization-server"
JWKS_PATH: Final = "/jwks.json"
INTROSPECTION_PATH: Final = "/v1/introspect"


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key that may check signatures of exactly one algorithm."""

    kid: str
    algorithm: str
    key: PublicKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _uint(value: int, length: int | None = None) -> str:
    return base64url(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def thumbprint(jwk: Mapping[str, str]) -> str:
    """RFC 7638 section 3: SHA-256 over the required members in lexicographic order, base64url."""
    members = ("crv", "kty", "x", "y") if jwk["kty"] == "EC" else ("e", "kty", "n")
    canonical = json.dumps({name: jwk[name] for name in members}, separators=(",", ":"), sort_keys=True)
    return base64url(hashlib.sha256(canonical.encode("ascii")).digest())


def public_jwk(key: PublicKey) -> Jwk:
    """The published form of a public key; its `kid` is its thumbprint, so it is never reused for another key.

    Raises:
        ValueError: neither RSA of an accepted size nor P-256.
    """
    material: dict[str, str]
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise ValueError(f"an RSA key must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
        numbers = key.public_numbers()
        algorithm, material = "RS256", {"kty": "RSA", "n": _uint(numbers.n), "e": _uint(numbers.e)}
    else:
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("an EC key must be on the curve P-256")  # noqa: TRY004 -- the wrong value of the right type
        point = key.public_numbers()
        algorithm = "ES256"
        material = {"kty": "EC", "crv": "P-256", "x": _uint(point.x, 32), "y": _uint(point.y, 32)}
    return {**material, "alg": algorithm, "use": "sig", "kid": thumbprint(material)}


def jwks_document(keys: Iterable[Jwk]) -> dict[str, Any]:
    """RFC 7517 section 5. Members beyond these would make Google refuse an uploaded set."""
    return {"keys": [dict(key) for key in keys]}


def discovery_document(issuer: str, introspection_url: str = "") -> dict[str, Any]:
    """What relying parties read first; `issuer` is byte-equal to the `iss` of every token.

    `introspection_url` is for an issuer whose tokens are asked about elsewhere than below its own URL.

    There is no token endpoint: exchange happens only on a runner's own listener, never on the public API.
    """
    return {
        "issuer": issuer,
        "jwks_uri": issuer + JWKS_PATH,
        "introspection_endpoint": introspection_url or issuer + INTROSPECTION_PATH,
        "introspection_endpoint_auth_methods_supported": ["none"],
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "scopes_supported": ["openid"],
        "id_token_signing_alg_values_supported": list(ALGORITHMS),
        "claims_supported": list(CLAIMS_SUPPORTED),
    }


CLAIMS_SUPPORTED: Final = (
    *("iss", "sub", "aud", "exp", "iat", "nbf", "jti"),
    *("job_id", "job_name", "attempt", "source", "pool", "trust_tier", "isolation", "runner", "runner_uid"),
    *("environment", "artifact_digest", "caller", "caller_issuer", "decision_id"),
    *("stage", "runner_image_digest", "role", "trust_rule", "nonce"),
    *("repository", "repository_id", "repository_owner", "repository_owner_id", "ref", "sha"),
    "https://aws.amazon.com/tags",
)


def _number(jwk: Mapping[str, Any], member: str) -> int:
    value = jwk.get(member)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_RSA_BITS // 4:
        raise ValueError(f"member {member} is missing or too long")
    try:
        raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"member {member} is not base64url") from None
    return int.from_bytes(raw, "big")


def parse_jwk(jwk: Mapping[str, Any]) -> VerifyKey | None:
    """One key of someone else's set; None when it is not for us (encryption, other type, no `kid`).

    Raises:
        ValueError: it claims to be for us and is broken or too weak.
    """
    kid, kty, algorithm = jwk.get("kid"), jwk.get("kty"), jwk.get("alg")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARS or jwk.get("use", "sig") != "sig":
        return None
    if kty == "RSA" and algorithm in (None, "RS256"):
        size = _number(jwk, "n").bit_length()
        if not MIN_RSA_BITS <= size <= MAX_RSA_BITS:
            raise ValueError(f"RSA key of {size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
        return VerifyKey(kid, "RS256", rsa.RSAPublicNumbers(e=_number(jwk, "e"), n=_number(jwk, "n")).public_key())
    if kty == "EC" and jwk.get("crv") == "P-256" and algorithm in (None, "ES256"):
        point = ec.EllipticCurvePublicNumbers(x=_number(jwk, "x"), y=_number(jwk, "y"), curve=ec.SECP256R1())
        return VerifyKey(kid, "ES256", point.public_key())
    return None


def parse_jwks(document: object) -> dict[str, VerifyKey]:
    """Someone else's key set by `kid`. Keys that are weak, broken or not for us are left out.

    Raises:
        ValueError: not a key set, too many keys, two keys of one `kid`, or private key material.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ValueError(f"not a JSON Web Key Set of at most {MAX_KEYS} keys")
    found: dict[str, VerifyKey] = {}
    for jwk in keys:
        if not isinstance(jwk, dict):
            raise ValueError("a key in the set is not an object")  # noqa: TRY004 -- bad data, not a bad call
        if "d" in jwk or "k" in jwk:
            raise ValueError("the set holds private or symmetric key material")
        try:
            key = parse_jwk(jwk)
        except ValueError:
            # One weak or broken key must not take its issuer's good ones away.
            continue
        if key is None:
            continue
        if key.kid in found:
            raise ValueError("two keys in the set have one kid")
        found[key.kid] = key
    return found
