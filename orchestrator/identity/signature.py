"""A JWT's header, signature and claim types: the one place where a foreign token meets PyJWT.

Every PyJWT option is written out although some are defaults, so that a change of defaults changes
nothing here. Times are not judged here but by the caller, against the program's one clock.

Sources: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (JWT best current practices).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NewType

import jwt
import jwt.exceptions

from orchestrator.identity.jwks import MAX_KID_CHARS, VerifyKey

SignedClaims = NewType("SignedClaims", Mapping[str, Any])
"""Claims whose signature was checked; an unverified mapping cannot be passed where these are wanted."""

MAX_TOKEN_CHARS: Final = 16_384
_MAX_HEADER_CHARS: Final = 2_048
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KEY_SMUGGLING: Final = ("jku", "jwk", "x5u", "x5c", "crit", "b64", "zip")
"""Header members that bring a key or change the signature's meaning. Keys come from configuration only."""

_REQUIRED: Final = ("exp", "iat", "aud", "iss", "sub")


class TokenInvalidError(Exception):
    """The token is no good; `reason` is the machine word and the message holds no part of the token."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    kid: str
    algorithm: str


def _json_part(part: str) -> dict[str, Any]:
    try:
        value = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise TokenInvalidError("token_malformed", "a part of the token is not base64url JSON") from None
    if not isinstance(value, dict):
        raise TokenInvalidError("token_malformed", "a part of the token is not a JSON object")
    return value


def _parts(token: str) -> list[str]:
    if not token:
        raise TokenInvalidError("token_missing", "no token was given")
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenInvalidError("token_malformed", f"the token is longer than {MAX_TOKEN_CHARS} characters")
    if not _SHAPE.fullmatch(token):
        raise TokenInvalidError("token_malformed", "the token is not three base64url parts")
    return token.split(".")


def read_header(token: str) -> Header:
    """Which key and algorithm the token names; both are only used to look up what we trust already.

    Raises:
        TokenInvalidError: `token_missing`, `token_malformed`, or `algorithm_refused` for *none*.
    """
    head = _parts(token)[0]
    if len(head) > _MAX_HEADER_CHARS:
        raise TokenInvalidError("token_malformed", "the token's header is too long")
    header = _json_part(head)
    smuggled = [name for name in _KEY_SMUGGLING if name in header]
    if smuggled:
        raise TokenInvalidError("token_malformed", f"the token's header has {smuggled[0]}, which is not accepted")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm.lower() == "none":
        raise TokenInvalidError("algorithm_refused", "the token is not signed")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARS:
        raise TokenInvalidError("token_malformed", "the token's header names no key (kid)")
    return Header(kid, algorithm)


def unverified_issuer(token: str) -> str:
    """The `iss` the token claims: good for nothing but choosing whose keys must confirm it.

    Raises:
        TokenInvalidError: `token_malformed`.
    """
    issuer = _json_part(_parts(token)[1]).get("iss")
    if not isinstance(issuer, str):
        raise TokenInvalidError("token_malformed", "the token has no iss")
    return issuer


def open_token(token: str, key: VerifyKey, *, issuer: str, audience: str | None) -> SignedClaims:
    """The claims, after signature, issuer, audience and the types of all standard claims were checked.

    `audience` None leaves the audience to the caller; otherwise `aud` must be exactly this one string.
    Times are finite numbers in the result; whether they hold is for the caller to say.

    Raises:
        TokenInvalidError: `signature_invalid`, `audience_mismatch`, `issuer_unknown`, `token_malformed`.
    """
    try:
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            audience=audience,
            issuer=issuer,
            leeway=0,
            options={
                "require": list(_REQUIRED),
                "verify_signature": True,
                "verify_aud": audience is not None,
                "strict_aud": True,
                "verify_iss": True,
                "verify_sub": True,
                "verify_jti": True,
                # Judged against the program's one clock, by the caller of this function.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "enforce_minimum_key_length": True,
            },
        )
    except jwt.InvalidAudienceError:
        raise TokenInvalidError("audience_mismatch", "the token is for another audience") from None
    except jwt.MissingRequiredClaimError as error:
        raise TokenInvalidError("token_malformed", f"the token has no {error.claim}") from None
    except jwt.InvalidIssuerError:
        raise TokenInvalidError("issuer_unknown", "the token is from another issuer") from None
    except (jwt.exceptions.InvalidSubjectError, jwt.exceptions.InvalidJTIError):
        raise TokenInvalidError("token_malformed", "the token's sub or jti is not a string") from None
    except (jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.InvalidAlgorithmError):
        raise TokenInvalidError("signature_invalid", "the token's signature is not its issuer's") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise TokenInvalidError("token_malformed", "the token cannot be read") from None
    for name in ("exp", "iat", "nbf"):
        if name in claims and not _is_time(claims[name]):
            raise TokenInvalidError("token_malformed", f"the token's {name} is not a time")
    return SignedClaims(claims)


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= 1 << 40
