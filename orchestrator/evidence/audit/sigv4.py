"""AWS Signature Version 4, the header form, as S3-compatible stores ask for it. Pure.

Source: AWS, *Signature Version 4 for API requests* and *Authenticating requests: using the Authorization header*.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed. `path` is percent-encoded as it is sent; `headers` have names in lower case and hold `host`."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    query: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a signature is good: one day, one region, one service."""

    region: str
    service: str


def timestamp(at: datetime) -> str:
    """The value of `x-amz-date` for a time in UTC."""
    return at.strftime("%Y%m%dT%H%M%SZ")


def authorization(request: Request, credentials: Credentials, scope: Scope, at: datetime) -> str:
    """The value of the `Authorization` header; every header of `request` is signed.

    `request.headers` must hold `x-amz-date` for the same `at`, and, for S3, `x-amz-content-sha256`; with a session
    token also `x-amz-security-token`.
    """
    names = ";".join(sorted(request.headers))
    day = at.strftime("%Y%m%d")
    where = f"{day}/{scope.region}/{scope.service}/aws4_request"
    digest = sha256(_canonical(request, names).encode()).hexdigest()
    text = "\n".join((_ALGORITHM, timestamp(at), where, digest))
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return f"{_ALGORITHM} Credential={credentials.access_key}/{where}, SignedHeaders={names}, Signature={signature}"


def _canonical(request: Request, names: str) -> str:
    query = sorted((quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in request.query)
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in sorted(request.headers))
    payload = request.headers.get("x-amz-content-sha256") or sha256(request.body).hexdigest()
    return "\n".join(
        (
            request.method,
            request.path,
            "&".join(f"{name}={value}" for name, value in query),
            headers,
            names,
            payload,
        )
    )
