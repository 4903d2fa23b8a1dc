"""Vault's JWT auth method (`auth/jwt/login`, roles as `auth/jwt/role/…` has them) and `auth/token/revoke-self`."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web
from relying_party import RejectedError, RelyingParty

LEEWAY_SECONDS = 60


@dataclass
class FakeVault:
    """`issuer` is that of the method's configuration; `roles` are documents by name."""

    party: RelyingParty
    issuer: str = ""
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)
    """Metadata by client token."""
    sealed: bool = False

    async def login(self, request: web.Request) -> web.Response:
        if self.sealed:
            return web.json_response({"errors": ["Vault is sealed"]}, status=503)
        asked = await request.json()
        role = self.roles.get(asked.get("role", ""))
        if role is None:
            return _errors(f'role "{asked.get("role")}" could not be found')
        try:
            claims = await self.party.verify(
                str(asked.get("jwt")), issuer=self.issuer, audiences=role["bound_audiences"], algorithms=("RS256",),
                slack=LEEWAY_SECONDS,
            )  # fmt: skip
        except RejectedError as rejected:
            return _errors(f"error validating token: {rejected.why}")
        glob = role.get("bound_claims_type") == "glob"
        for name, wanted in role["bound_claims"].items():
            found = str(claims.get(name, ""))
            values = wanted if isinstance(wanted, list) else [wanted]
            if not found or not any(fnmatchcase(found, value) if glob else found == value for value in values):
                return _errors(
                    f'error validating claims: claim "{name}" does not match any associated bound claim values'
                )
        token = "hvs." + secrets.token_urlsafe(24)
        self.tokens[token] = {key: str(claims[name]) for name, key in role.get("claim_mappings", {}).items()}
        auth = {"client_token": token, "policies": role["token_policies"], "lease_duration": role["token_ttl"],
                "metadata": self.tokens[token], "renewable": True}  # fmt: skip
        return web.json_response({"request_id": secrets.token_hex(8), "auth": auth})

    async def revoke_self(self, request: web.Request) -> web.Response:
        known = self.tokens.pop(request.headers.get("X-Vault-Token", ""), None)
        return web.Response(status=204) if known is not None else _errors("permission denied", 403)


def _errors(message: str, status: int = 400) -> web.Response:
    return web.json_response({"errors": [message]}, status=status)
