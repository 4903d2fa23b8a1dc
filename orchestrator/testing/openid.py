"""An OpenID provider on loopback for tests: stateful, as strict as the specifications, with switches for its faults.

It signs in the one person that it has, at once and without a form: whoever follows its address comes back with a code.
A code is good once, for the client, the address and the verifier (RFC 7636) that it was asked for with.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

CODE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Grant:
    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    until: float


def _new_key() -> tuple[str, ec.EllipticCurvePrivateKey]:
    return secrets.token_hex(4), ec.generate_private_key(ec.SECP256R1())


@dataclass
class OpenIdProvider:
    """`person` are the claims of who is signed in. `client_secret` empty makes the client a public one.

    `faults` may hold: `denied`, `other_issuer_in_answer`, `no_issuer_in_answer`, `wrong_nonce`, `no_nonce`,
    `other_issuer`, `other_audience`, `several_audiences`, `several_without_party`, `other_party`, `expired`,
    `future`, `old`, `unsigned`, `forged`, `unknown_key`, `no_subject`, `token_fails`, `token_redirects`,
    `token_huge`, `token_is_no_json`, `discovery_fails`, `discovery_of_another`, `plain_token_endpoint`.
    """

    client_id: str = "runner-page"
    client_secret: str = ""
    redirect_uris: tuple[str, ...] = ()
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "u-1", "name": "Ada"})
    auth_methods: tuple[str, ...] = ("client_secret_basic",)
    faults: set[str] = field(default_factory=set)
    now: Callable[[], float] = time.time
    issuer: str = ""
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=lambda: dict([_new_key()]))
    grants: dict[str, _Grant] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """What was asked for, in order: `discovery`, `keys`, `authorize`, `token`."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[OpenIdProvider]:
        """Listen on a free port of 127.0.0.1 and be the issuer of that address."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one is published no more."""
        self.keys = dict([_new_key()])

    async def _discovery(self, _request: web.Request) -> web.Response:
        self.asked.append("discovery")
        if "discovery_fails" in self.faults:
            return web.Response(status=503)
        base = self.issuer
        token = "http://login.example/token" if "plain_token_endpoint" in self.faults else f"{base}/token"
        return web.json_response(
            {
                "issuer": "https://another.example" if "discovery_of_another" in self.faults else base,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": token,
                "jwks_uri": f"{base}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "token_endpoint_auth_methods_supported": list(self.auth_methods),
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _keys(self, _request: web.Request) -> web.Response:
        self.asked.append("keys")
        algorithm = jwt.algorithms.ECAlgorithm
        published = [
            json.loads(algorithm.to_jwk(key.public_key())) | {"kid": kid, "alg": "ES256", "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return web.json_response({"keys": published})

    async def _authorize(self, request: web.Request) -> web.Response:
        """OpenID Connect Core 1.0, section 3.1.2; what does not fit is told here and not to the address asked for."""
        self.asked.append("authorize")
        query = request.query
        fits = (
            query.get("client_id") == self.client_id
            and query.get("redirect_uri") in self.redirect_uris
            and query.get("response_type") == "code"
            and "openid" in query.get("scope", "").split()
            and query.get("code_challenge_method") == "S256"
            and len(query.get("code_challenge", "")) == 43
        )
        if not fits:
            return web.Response(status=400, text="invalid_request")
        answer = {"state": query["state"], "session_state": "ignored"}
        if "no_issuer_in_answer" not in self.faults:
            other = "other_issuer_in_answer" in self.faults
            answer["iss"] = "https://another.example" if other else self.issuer
        if "denied" in self.faults:
            answer["error"] = "access_denied"
        else:
            answer["code"] = code = secrets.token_urlsafe(24)
            self.grants[code] = _Grant(
                query["client_id"],
                query["redirect_uri"],
                query["code_challenge"],
                query.get("nonce", ""),
                self.now() + CODE_SECONDS,
            )
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        self.asked.append("token")
        form = await request.post()
        if "token_fails" in self.faults:
            return web.Response(status=503)
        if "token_redirects" in self.faults:
            raise web.HTTPTemporaryRedirect(f"{self.issuer}/elsewhere")
        if "token_huge" in self.faults:
            return web.Response(body=b" " * (1 << 20), content_type="application/json")
        if "token_is_no_json" in self.faults:
            return web.Response(text="<html>")
        if not self._is_client(request.headers, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        grant = self.grants.pop(str(form.get("code", "")), None)
        challenge = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
        if (
            grant is None
            or form.get("grant_type") != "authorization_code"
            or self.now() >= grant.until
            or form.get("redirect_uri") != grant.redirect_uri
            or base64.urlsafe_b64encode(challenge).decode().rstrip("=") != grant.challenge
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        body = {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "id_token": self._id_token(grant)}
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    def _is_client(self, headers: Mapping[str, str], form: Mapping[str, Any]) -> bool:
        """RFC 6749, section 2.3: by the method that is announced, and by no other."""
        sent = headers.get("Authorization", "")
        if not self.client_secret:
            return not sent and form.get("client_id") == self.client_id and "client_secret" not in form
        if "client_secret_basic" in self.auth_methods:
            name, _, secret = base64.b64decode(sent.removeprefix("Basic ")).decode().partition(":")
            return (unquote_plus(name), unquote_plus(secret)) == (self.client_id, self.client_secret)
        return not sent and (form.get("client_id"), form.get("client_secret")) == (self.client_id, self.client_secret)

    def _id_token(self, grant: _Grant) -> str:
        now = int(self.now())
        claims = {"iss": self.issuer, "aud": self.client_id, "iat": now, "exp": now + 300, "nonce": grant.nonce}
        claims |= self.person | self._wrong(now)
        if "no_nonce" in self.faults:
            del claims["nonce"]
        if "no_subject" in self.faults:
            del claims["sub"]
        kid, key = next(iter(self.keys.items()))
        if "unsigned" in self.faults:
            return jwt.encode(claims, "", algorithm="none", headers={"kid": kid})
        if "forged" in self.faults:
            key = _new_key()[1]
        return jwt.encode(
            claims, key, algorithm="ES256", headers={"kid": "zz" if "unknown_key" in self.faults else kid}
        )

    def _wrong(self, now: int) -> dict[str, Any]:
        table: Mapping[str, dict[str, Any]] = {
            "wrong_nonce": {"nonce": "of-another-sign-in"},
            "other_issuer": {"iss": "https://another.example"},
            "other_audience": {"aud": "another-client"},
            "several_audiences": {"aud": ["another-client", self.client_id], "azp": self.client_id},
            "several_without_party": {"aud": ["another-client", self.client_id]},
            "other_party": {"azp": "another-client"},
            "expired": {"iat": now - 200, "exp": now - 100},
            "future": {"iat": now + 100},
            "old": {"iat": now - 3600},
        }
        wrong: dict[str, Any] = {}
        for fault in self.faults & table.keys():
            wrong |= table[fault]
        return wrong
