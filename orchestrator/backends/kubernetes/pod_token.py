"""What a pod-bound ServiceAccount token claims, before anybody has verified it. Pure.

A claim is never believed from here: it decides only whether the token is worth a question to the API server,
so that garbage, tokens of strangers and tokens of ended jobs cost the cluster nothing.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import msgspec

MAX_TOKEN_CHARS = 8192
_SKEW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """One pod, for ever: a uid is never used again."""

    namespace: str
    name: str
    uid: str


class _Named(msgspec.Struct):
    name: str
    uid: str


class _Bound(msgspec.Struct):
    namespace: str
    serviceaccount: _Named
    pod: _Named


class _Claims(msgspec.Struct):
    sub: str
    exp: float
    aud: list[str] | str
    bound: _Bound = msgspec.field(name="kubernetes.io")
    nbf: float = 0


class _Header(msgspec.Struct):
    alg: str
    kid: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """`account` is the ServiceAccount's name; `expires_at` Unix seconds."""

    pod: PodIdentity
    account: str
    expires_at: float


def claimed(token: str, audience: str, now: float) -> Claimed | None:
    """What a token of `audience` says of its bearer; None for anything that the API server would refuse anyway."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_TOKEN_CHARS or not parts[2]:
        return None
    try:
        header = msgspec.json.decode(_decoded(parts[0]), type=_Header)
        claims = msgspec.json.decode(_decoded(parts[1]), type=_Claims)
    except (msgspec.DecodeError, binascii.Error, UnicodeError, ValueError):
        return None
    bound = claims.bound
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    fitting = (
        header.alg not in ("", "none")
        and bool(header.kid)
        and audience in audiences
        and claims.nbf - _SKEW_SECONDS <= now < claims.exp
        and claims.sub == subject(bound.namespace, bound.serviceaccount.name)
        and all((bound.pod.name, bound.pod.uid))
    )
    if not fitting:
        return None
    pod = PodIdentity(bound.namespace, bound.pod.name, bound.pod.uid)
    return Claimed(pod, bound.serviceaccount.name, claims.exp)


def subject(namespace: str, account: str) -> str:
    """The user name of a ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{account}"


def _decoded(part: str) -> bytes:
    if "=" in part:
        raise ValueError("padded")
    return base64.b64decode(part.encode("ascii") + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
