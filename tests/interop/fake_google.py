"""Google Cloud: the Security Token Service (v1/token) and service account impersonation (generateAccessToken).

Conditions and mappings are judged by the real engine of the Common Expression Language.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from cel_expr_python import cel
from relying_party import RejectedError, RelyingParty

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
SUBJECT_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")


@dataclass
class FakeGoogle:
    """`providers` are resource names to documents; `bindings` service accounts to members (`attribute.role/…`)."""

    party: RelyingParty
    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    bindings: dict[str, list[str]] = field(default_factory=dict)
    federated: dict[str, dict[str, str]] = field(default_factory=dict)
    """Attributes by access token."""
    accounts: dict[str, str] = field(default_factory=dict)
    """Service account by access token."""

    async def exchange(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        wanted = {"grant_type": GRANT, "requested_token_type": ACCESS_TOKEN}
        if any(form.get(name) != value for name, value in wanted.items()):
            return _error("invalid_request", "Invalid value for grant_type or requested_token_type")
        if form.get("subject_token_type") not in SUBJECT_TYPES:
            return _error("invalid_request", "Invalid value for subject_token_type")
        provider = self.providers.get(form.get("audience", ""))
        if provider is None:
            return _error("invalid_target", "The target service indicated by the audience parameters is invalid")
        try:
            claims = await self.party.verify(
                form.get("subject_token", ""), issuer=provider["oidc"]["issuerUri"],
                audiences=provider["oidc"]["allowedAudiences"], algorithms=("RS256", "ES256"),
            )  # fmt: skip
        except RejectedError as rejected:
            return _error("invalid_grant", f"ID Token: {rejected.why}")
        if judge(provider["attributeCondition"], claims) is not True:
            return _error("unauthorized_client", "The given credential is rejected by the attribute condition.")
        attributes = {name: judge(expression, claims) for name, expression in provider["attributeMapping"].items()}
        if any(not isinstance(value, str) for value in attributes.values()):
            return _error("invalid_grant", "The mapped attribute must be of type STRING")
        if len(attributes["google.subject"].encode()) > 127:
            return _error("invalid_grant", "The size of mapped attribute google.subject exceeds the 127 bytes limit.")
        token = "ya29.federated." + secrets.token_urlsafe(32)
        self.federated[token] = attributes
        return web.json_response(
            {"access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3599}
        )

    async def impersonate(self, request: web.Request) -> web.Response:
        account = request.match_info["account"].removesuffix(":generateAccessToken")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        attributes = self.federated.get(token)
        members = [f"{name}/{value}" for name, value in (attributes or {}).items()]
        if attributes is None or not set(members) & set(self.bindings.get(account, [])):
            message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            return web.json_response(
                {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}}, status=403
            )
        asked = await request.json()
        life = int(str(asked.get("lifetime", "3600s")).removesuffix("s"))
        given = "ya29.account." + secrets.token_urlsafe(32)
        self.accounts[given] = account
        end = datetime.fromtimestamp(time.time() + life, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return web.json_response({"accessToken": given, "expireTime": end})


def judge(expression: str, claims: dict[str, Any]) -> Any:
    """An error, as of a claim that is missing, is none of the values that anybody asks for."""
    environment = cel.NewEnv(variables={"assertion": cel.Type.DYN})
    return environment.compile(expression).eval(data={"assertion": claims}).value()


def _error(code: str, description: str) -> web.Response:
    return web.json_response({"error": code, "error_description": description}, status=400)
