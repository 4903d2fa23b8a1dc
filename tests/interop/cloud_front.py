"""All the clouds' hosts behind one TLS listener, at port 443 of a loopback address of its own, as libraries expect.

The daemon's public URL is among them: a proxy terminates TLS for it, as everywhere.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from fake_aws import FakeAws
from fake_entra import FakeEntra
from fake_google import FakeGoogle
from fake_others import FakeApiServer, FakePartner
from fake_vault import FakeVault
from relying_party import RelyingParty
from tls_proxy import certificates, forward, server_context

ADDRESS = f"127.88.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
"""Another one for each run of the tests."""
PORT = 443
ISSUER_HOST = "runners.example"
ISSUER = f"https://{ISSUER_HOST}"
HOSTS = (
    *("sts.amazonaws.com", "sts.eu-central-1.amazonaws.com", "sts.googleapis.com", "iamcredentials.googleapis.com"),
    *("login.microsoftonline.com", "vault.example", "cluster.example", "sts.partner.example"),
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Resolver(AbstractResolver):
    """Every name is here."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=ADDRESS, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        return None


class CloudFront:
    """`daemon` is where the daemon listens. `ca_pem` is whom to trust for all of these hosts."""

    def __init__(self, folder: Path, daemon: str) -> None:
        self.daemon = daemon
        self.folder = folder
        self.ca_pem = ""

    async def __aenter__(self) -> Self:
        self.ca_pem = certificates(self.folder, (ISSUER_HOST, *HOSTS))
        trust = ssl.create_default_context(cadata=self.ca_pem)
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver(), ssl=trust))
        self.party = RelyingParty(self.session)
        self.aws, self.google = FakeAws(self.party), FakeGoogle(self.party)
        self.entra, self.vault = FakeEntra(self.party), FakeVault(self.party, ISSUER)
        self.cluster, self.partner = FakeApiServer(self.party), FakePartner(self.party)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._by_host)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, ADDRESS, PORT, ssl_context=server_context(self.folder)).start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.runner.cleanup()
        await self.session.close()

    def learn(self, recipes: dict[str, Any]) -> None:
        """Take over what the recipes of grants say: the first file of each, by the grant's target."""
        binding = {"aws": self._learn_aws, "gcp": self._learn_google, "azure": self._learn_entra}
        for target, found in recipes.items():
            if target in binding:
                binding[target](found)
        self.vault.roles["app-release"] = recipes["vault"]
        self.cluster.configuration = recipes.get("cluster", {})
        self.partner.checks = recipes.get("partner", {})

    def _learn_aws(self, policy: dict[str, Any]) -> None:
        condition = policy["Statement"][0]["Condition"]["StringEquals"]
        self.aws.add_provider(ISSUER, [condition[f"{ISSUER_HOST}:aud"]])
        self.aws.add_role(f"arn:aws:iam::{self.aws.account}:role/app-release", policy)

    def _learn_google(self, provider: dict[str, Any]) -> None:
        (audience,) = provider["oidc"]["allowedAudiences"]
        account = "release@shop-prod.iam.gserviceaccount.com"
        self.google.providers[audience.removeprefix("https:")] = provider
        self.google.bindings[account] = [f"attribute.role/{account}"]

    def _learn_entra(self, credential: dict[str, Any]) -> None:
        self.entra.add("11111111-2222-3333-4444-555555555555", credential)

    async def _by_host(self, request: web.Request) -> web.StreamResponse:
        host = request.host.partition(":")[0]
        if host == ISSUER_HOST:
            return await forward(request, self.daemon)
        found = self._routes(host).get(f"{request.method} {request.path}")
        if host == "iamcredentials.googleapis.com" and ":generateAccessToken" in request.path:
            request.match_info["account"] = request.path.rpartition("/")[2]
            found = self.google.impersonate
        if found is None:
            return web.json_response({"error": "not found", "path": request.path}, status=404)
        answer: Any = found(request)
        return await answer if isinstance(answer, Awaitable) else answer

    def _routes(self, host: str) -> dict[str, Callable[[web.Request], Any]]:
        tenant = f"/{self.entra.tenant}"
        return {
            "sts.amazonaws.com": {"POST /": self.aws.handle},
            "sts.eu-central-1.amazonaws.com": {"POST /": self.aws.handle},
            "sts.googleapis.com": {"POST /v1/token": self.google.exchange},
            "login.microsoftonline.com": {
                f"POST {tenant}/oauth2/v2.0/token": self.entra.token,
                f"GET {tenant}/v2.0/.well-known/openid-configuration": self.entra.discovery,
                "GET /common/discovery/instance": self.entra.instance,
            },
            "cluster.example": {"GET /version": self.cluster.handle},
            "sts.partner.example": {"POST /token": self.partner.token},
            "vault.example": {
                "POST /v1/auth/jwt/login": self.vault.login,
                "POST /v1/auth/token/revoke-self": self.vault.revoke_self,
            },
        }.get(host, {})
