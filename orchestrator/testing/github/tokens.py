"""The server's credentials: which kind each token is, what it may do, and until when."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator.testing.github.clock import GitHubClock

APP_JWT_SECONDS = 600
"""How far ahead `exp` of an app's JWT may be."""

ALL_PERMISSIONS = {
    "actions": "read",
    "administration": "write",
    "contents": "read",
    "metadata": "read",
    "pull_requests": "read",
    "organization_self_hosted_runners": "write",
    "repository_hooks": "write",
    "organization_hooks": "write",
    "enterprise_self_hosted_runners": "write",
}


class Kind(StrEnum):
    APP = "app"
    INSTALLATION = "installation"
    PERSONAL = "personal"
    REGISTRATION = "registration"
    ADMIN = "admin"
    QUEUE = "queue"


class RefusedError(Exception):
    """A token is not good here; the text is for the answer's `message`."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is good for. `scope` is the organization, repository or enterprise of a registration or admin token.

    `repositories` are full names in lower case; None is all of them.
    """

    kind: Kind
    expires_at: float
    scope: str = ""
    session: str = ""
    permissions: Mapping[str, str] = field(default_factory=dict)
    repositories: frozenset[str] | None = None


@cache
def signing_key(name: str) -> rsa.RSAPrivateKey:
    """One key for each use and process: making them is the slow part."""
    return rsa.generate_private_key(65_537, 2_048)


def pem_of(key: rsa.RSAPrivateKey) -> str:
    encryption = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


@dataclass(slots=True)
class App:
    """A GitHub App and its one installation. `permissions` is what it was granted, `repositories` None for all."""

    private_key: str = field(default_factory=lambda: pem_of(signing_key("app")))
    app_id: int = 4242
    client_id: str = "Iv23liTestServerApp"
    installation_id: int = 777
    permissions: dict[str, str] = field(default_factory=lambda: dict(ALL_PERMISSIONS))


class Tokens:
    """Issues tokens and knows them again. Nothing forged is known, so signatures need no second look."""

    def __init__(self, clock: GitHubClock, app: App) -> None:
        self._clock = clock
        self._app = app
        self._grants: dict[str, Grant] = {}

    def issue(self, prefix: str, grant: Grant) -> str:
        """An opaque token, such as `ghs_…`."""
        token = prefix + secrets.token_urlsafe(27)
        self._grants[token] = grant
        return token

    def issue_jwt(self, grant: Grant) -> str:
        """A real RS256 JWT, whose `exp` its holder reads without checking the signature."""
        now = self._clock.now()
        claims = {
            "iss": "123",
            "iat": int(now) - 600,
            "nbf": int(now) - 600,
            "exp": int(grant.expires_at),
            "jti": str(uuid.uuid4()),
            "aud": grant.kind.value,
        }
        token = jwt.encode(claims, signing_key("service"), algorithm="RS256")
        self._grants[token] = grant
        return token

    def revoke(self, kind: Kind) -> int:
        """From now on no token of this kind that exists is known; returns how many there were."""
        gone = [token for token, grant in self._grants.items() if grant.kind is kind]
        for token in gone:
            del self._grants[token]
        return len(gone)

    def end(self, token: str) -> None:
        """This very token is not known from now on."""
        self._grants.pop(token, None)

    def living(self, kind: Kind) -> dict[str, Grant]:
        """Tokens of this kind that are good now, and what for."""
        now = self._clock.now()
        return {token: one for token, one in self._grants.items() if one.kind is kind and one.expires_at > now}

    def look_up(self, scheme: str, token: str) -> Grant:
        """Raises RefusedError for a token that is unknown or has expired, or came with the wrong scheme."""
        if scheme.lower() in ("bearer", "token") and token.count(".") == 2 and token not in self._grants:
            return self._app_grant(token)
        grant = self._grants.get(token)
        if grant is None:
            raise RefusedError("Bad credentials")
        wanted = {"remoteauth"} if grant.kind is Kind.REGISTRATION else {"bearer"}
        if grant.kind in (Kind.PERSONAL, Kind.INSTALLATION):
            wanted.add("token")
        if scheme.lower() not in wanted:
            raise RefusedError(f"Authorization scheme {scheme} is not for this kind of token")
        if grant.expires_at <= self._clock.now():
            raise RefusedError("The token has expired")
        return grant

    def _app_grant(self, token: str) -> Grant:
        try:
            key = signing_key("app").public_key()
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                options={"require": ["iss", "iat", "exp"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as error:
            raise RefusedError("A JSON web token could not be decoded") from error
        now = self._clock.now()
        if claims["iss"] not in (self._app.client_id, str(self._app.app_id)):
            raise RefusedError("'Issuer' claim ('iss') must be the client or app id")
        if claims["exp"] > now + APP_JWT_SECONDS:
            raise RefusedError("'Expiration time' claim ('exp') is too far in the future")
        if claims["exp"] <= now:
            raise RefusedError("'Expiration time' claim ('exp') must be a numeric value in the future")
        if claims["iat"] > now:
            raise RefusedError("'Issued at' claim ('iat') must be an Integer representing a time in the past")
        return Grant(Kind.APP, float(claims["exp"]))
