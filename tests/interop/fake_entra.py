"""Entra's token endpoint for federated credentials (client credentials with a client assertion), and its metadata."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from relying_party import RejectedError, RelyingParty

HOST = "login.microsoftonline.com"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SLACK_SECONDS = 300
CODES = {
    "expired": "AADSTS700024: Client assertion is not within its valid time range.",
    "early": "AADSTS700024: Client assertion is not within its valid time range.",
    "audience": "AADSTS700212: No matching federated identity record found for presented assertion audience",
    "algorithm": "AADSTS5002738: Invalid JWT token. Unsupported algorithm in the header.",
}
SIGNATURE = "AADSTS7000272: The provided signing key in the assertion header is not valid."
UNKNOWN_ISSUER = "AADSTS700211: No matching federated identity record found for presented assertion issuer"
UNKNOWN_SUBJECT = "AADSTS700213: No matching federated identity record found for presented assertion subject"
NOT_SPREAD = "AADSTS70021: No matching federated identity record found for presented assertion."


@dataclass
class FakeEntra:
    """One tenant. `credentials` are client id to federated credentials as Microsoft Graph has them."""

    party: RelyingParty
    tenant: str = "66666666-7777-8888-9999-aaaaaaaaaaaa"
    credentials: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    """Client id by access token."""
    spreading: int = 0
    """So many requests come before a new credential is known."""

    def add(self, client: str, credential: dict[str, Any]) -> None:
        assert len(credential["audiences"]) == 1
        assert len(credential["subject"]) <= 600
        assert len(credential["name"]) <= 120
        self.credentials.setdefault(client, []).append(credential)
        assert len(self.credentials[client]) <= 20

    def discovery(self, request: web.Request) -> web.Response:
        base = f"https://{HOST}/{self.tenant}"
        return web.json_response(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
            }
        )

    def instance(self, request: web.Request) -> web.Response:
        endpoint = f"https://{HOST}/{self.tenant}/v2.0/.well-known/openid-configuration"
        alias = {"preferred_network": HOST, "preferred_cache": "login.windows.net", "aliases": [HOST]}
        return web.json_response({"tenant_discovery_endpoint": endpoint, "metadata": [alias]})

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        client = form.get("client_id", "")
        if form.get("grant_type") != "client_credentials" or form.get("client_assertion_type") != BEARER:
            return _error("invalid_request", "AADSTS900144: The request body must contain a client assertion.")
        if self.spreading:
            self.spreading -= 1
            return _error("invalid_request", NOT_SPREAD)
        try:
            await self._accept(client, form.get("client_assertion", ""))
        except RejectedError as rejected:
            return _error("invalid_client", CODES.get(rejected.why) or rejected.why)
        token = secrets.token_urlsafe(48)
        self.given[token] = client
        return web.json_response(
            {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token}
        )

    async def _accept(self, client: str, assertion: str) -> None:
        _, claims = self.party.read(assertion)
        known = [one for one in self.credentials.get(client, []) if one["issuer"] == claims.get("iss")]
        if not known:
            raise RejectedError(UNKNOWN_ISSUER)
        fitting = [one for one in known if one["subject"] == claims.get("sub")]
        if not fitting:
            raise RejectedError(UNKNOWN_SUBJECT)
        audiences = [one["audiences"][0] for one in fitting]
        try:
            await self.party.verify(
                assertion, issuer=known[0]["issuer"], audiences=audiences, algorithms=("RS256",), slack=SLACK_SECONDS
            )
        except RejectedError as rejected:
            raise RejectedError(SIGNATURE if rejected.why in ("signature", "malformed") else rejected.why) from None


def _error(code: str, description: str) -> web.Response:
    return web.json_response({"error": code, "error_description": description}, status=401)
