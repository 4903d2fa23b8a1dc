"""An API server that authenticates by structured configuration, and a partner's token service (RFC 8693)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cel_expr_python import cel
from relying_party import RejectedError, RelyingParty


@dataclass
class FakeApiServer:
    """`configuration` is what `--authentication-config` would read. Its expressions run in the real engine."""

    party: RelyingParty
    configuration: dict[str, Any] = field(default_factory=dict)
    users: list[tuple[str, list[str]]] = field(default_factory=list)
    """User name and groups of each request that was authenticated."""

    async def handle(self, request: web.Request) -> web.Response:
        authenticator = self.configuration["jwt"][0]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = await self.party.verify(
                token, issuer=authenticator["issuer"]["url"], audiences=authenticator["issuer"]["audiences"],
                algorithms=("RS256", "ES256"),
            )  # fmt: skip
            self.users.append(_user(authenticator, claims))
        except RejectedError as rejected:
            return web.json_response({"kind": "Status", "code": 401, "reason": rejected.why}, status=401)
        return web.json_response({"major": "1", "minor": "37", "gitVersion": "v1.37.0"})


def _user(authenticator: dict[str, Any], claims: dict[str, Any]) -> tuple[str, list[str]]:
    for rule in authenticator["claimValidationRules"]:
        if _judge(rule["expression"], claims=claims) is not True:
            raise RejectedError(rule["message"])
    mappings = authenticator["claimMappings"]
    name = _judge(mappings["username"]["expression"], claims=claims)
    groups = list(_judge(mappings["groups"]["expression"], claims=claims)) if "groups" in mappings else []
    groups = [str(getattr(group, "value", lambda group=group: group)()) for group in groups]
    for rule in authenticator["userValidationRules"]:
        if _judge(rule["expression"], user={"username": name, "groups": groups}) is not True:
            raise RejectedError(rule["message"])
    return name, groups


def _judge(expression: str, **variables: Any) -> Any:
    environment = cel.NewEnv(variables=dict.fromkeys(variables, cel.Type.DYN))
    return environment.compile(expression).eval(data=variables).value()


@dataclass
class FakePartner:
    """Checks what the recipe for a target of kind `oidc` says. It remembers what each of its tokens is for."""

    party: RelyingParty
    checks: dict[str, Any] = field(default_factory=dict)
    given: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Audience and scope by token."""

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if form.get("subject_token_type") != self.checks["subject_token_type"]:
            return web.json_response({"error": "invalid_request"}, status=400)
        try:
            claims = await self.party.verify(
                form.get("subject_token", ""), issuer=self.checks["issuer"], audiences=[self.checks["audience"]],
                algorithms=self.checks["algorithms"],
            )  # fmt: skip
        except RejectedError as rejected:
            return web.json_response({"error": "invalid_request", "error_description": rejected.why}, status=400)
        exact = {name: wanted["equals"] for name, wanted in self.checks["claims"].items() if "equals" in wanted}
        if any(claims.get(name) != value for name, value in exact.items()):
            return web.json_response({"error": "invalid_target"}, status=400)
        token = secrets.token_urlsafe(32)
        self.given[token] = (form.get("audience", ""), form.get("scope", ""))
        return web.json_response(
            {
                "access_token": token,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 600,
            }
        )
