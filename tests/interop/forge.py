"""Tokens like a daemon's own with one thing wrong. It has the daemon's key, which nobody else ever has."""

from __future__ import annotations

import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

from daemon_site import Site
from joserfc import jwt
from joserfc.jwk import RSAKey

from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import RotationSchedule


class Forge:
    """Reads the key with which the running daemon signs RS256."""

    def __init__(self, site: Site) -> None:
        store = KeyStore.open(Path(site.here.state) / "keys", RotationSchedule(), int(time.time()))
        key = store.signing_key("RS256")
        self.kid = key.kid
        self.own = RSAKey.import_key(key.private)
        self.stranger = RSAKey.generate_key(2048)
        self.issuer = site.issuer

    def claims(self, audience: str, **more: Any) -> dict[str, Any]:
        """Of a token that is good for `audience` now."""
        now = int(time.time())
        said = {
            "iss": self.issuer,
            "aud": audience,
            "sub": "from:interop:repo:acme@1/shop@42:environment:prod",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": secrets.token_hex(8),
        }
        return said | more

    def sign(self, claims: dict[str, Any], *, key: RSAKey | None = None, kid: str = "") -> str:
        return jwt.encode({"alg": "RS256", "kid": kid or self.kid}, claims, key or self.own)

    def unsigned(self, claims: dict[str, Any]) -> str:
        """`alg: none` (RFC 8725 section 2.1)."""
        return ".".join((_part({"alg": "none", "kid": self.kid}), _part(claims), ""))

    def tampered(self, claims: dict[str, Any], name: str) -> str:
        """Signed with another value of one claim, then changed to what `claims` say."""
        header, _, signature = self.sign(claims | {name: "another"}).split(".")
        return ".".join((header, _part(claims), signature))


def _part(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
