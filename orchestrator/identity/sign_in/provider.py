"""One OpenID provider: its documents, the way of a browser to it, and what a code is worth there.

Sources: OpenID Connect Core 1.0 section 3.1, Discovery 1.0 section 4, RFC 6749 section 4.1, RFC 7636 (PKCE),
RFC 9207 (issuer in the answer).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.identity.issuer_keys import DiscoveredKeys, KeySource, refuse_plain_http
from orchestrator.identity.jwks import DISCOVERY_PATH
from orchestrator.identity.secret_file import SecretFile
from orchestrator.identity.sign_in.rules import Person, Rules, check_audience, check_nonce, person
from orchestrator.identity.signature import TokenInvalidError, open_token, read_header
from orchestrator.identity.verify import check_times

FRESH_SECONDS: Final = 600.0
"""For how long the provider's own description is gone by."""
COOLDOWN_SECONDS: Final = 5.0
"""Least time between two tries to read it."""
CALL_SECONDS: Final = 10.0
MAX_TOKEN_AGE_SECONDS: Final = 600.0
"""An ID token is made when the code is redeemed; an older one is somebody's store of them."""
_MAX_BYTES: Final = 256 << 10
_MAX_CODE: Final = 4096


class SignInError(GiveUpError):
    """Nobody was signed in. The message holds nothing of what the provider sent."""


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """What the settings of the same names say. `redirect_uri` is ours, as registered at the provider."""

    name: str
    issuer: str
    client_id: str
    redirect_uri: str
    rules: Rules
    secret_file: Path | None = None
    scopes: tuple[str, ...] = ("openid",)
    algorithms: tuple[str, ...] = ("RS256", "ES256")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in under way: what its answer must fit, and what proves that we began it."""

    provider: str
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)


@dataclass(frozen=True, slots=True)
class _Endpoints:
    authorization: str
    token: str
    secret_in_body: bool
    tells_issuer: bool


class SignInProvider:
    """Close it at shutdown. `now` is Unix time in seconds, `monotonic` for caches."""

    def __init__(self, config: ProviderConfig, *, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.config = config
        self._now = now
        self._monotonic = monotonic
        path = config.secret_file
        self._secret_file = SecretFile(path, "the client secret of the sign-in provider") if path else None
        self._keys: KeySource = DiscoveredKeys(config.issuer, monotonic)
        self._session: aiohttp.ClientSession | None = None
        self._endpoints: _Endpoints | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def close(self) -> None:
        await self._keys.close()
        if self._session is not None:
            await self._session.close()

    async def address(self, attempt: Attempt) -> str:
        """Where the browser goes to sign in.

        Raises:
            TryAgainError: `provider_unreachable`.
        """
        endpoints = await self._known()
        digest = hashlib.sha256(attempt.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.config.redirect_uri,
            "scope": " ".join(self.config.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(endpoints.authorization).query else "?"
        return f"{endpoints.authorization}{joint}{urlencode(query)}"

    async def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> Person:
        """Who signed in, by the query with which the browser came back; the state was looked at already.

        Raises:
            SignInError: `sign_in_denied`, `sign_in_mixed_up`, `sign_in_code_refused` or `sign_in_token_invalid`.
            TryAgainError: `provider_unreachable`, `secret_file_unusable`.
        """
        endpoints = await self._known()
        issuer = answer.get("iss")
        if issuer != self.config.issuer and (issuer is not None or endpoints.tells_issuer):
            raise SignInError("The answer is another provider's.", reason="sign_in_mixed_up")
        code = answer.get("code", "")
        if "error" in answer or not 0 < len(code) <= _MAX_CODE:
            raise SignInError("The provider did not sign you in.", reason="sign_in_denied")
        token = await self._redeem(endpoints, attempt, code)
        try:
            return await self._person(token, attempt)
        except TokenInvalidError as error:
            raise SignInError(
                f"The provider's ID token is not valid: {error}.", reason="sign_in_token_invalid"
            ) from None

    async def _person(self, token: str, attempt: Attempt) -> Person:
        config = self.config
        header = read_header(token)
        if header.algorithm not in config.algorithms:
            raise TokenInvalidError("algorithm_refused", "it is signed with an algorithm not accepted here")
        key = await self._keys.key(header.kid)
        if key is None or key.algorithm != header.algorithm:
            raise TokenInvalidError("signature_invalid", "it names a key that the provider does not publish")
        claims = open_token(token, key, issuer=config.issuer, audience=None)
        check_audience(claims, config.client_id)
        check_times(claims, self._now(), MAX_TOKEN_AGE_SECONDS)
        check_nonce(claims, attempt.nonce)
        return person(claims, config.issuer, config.rules)

    async def _redeem(self, endpoints: _Endpoints, attempt: Attempt, code: str) -> str:
        """RFC 6749, section 4.1.3, with the verifier of RFC 7636, section 4.5."""
        config = self.config
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": config.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers = {"Accept": "application/json"}
        secret = await self._secret()
        if secret and not endpoints.secret_in_body:
            pair = f"{quote_plus(config.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = config.client_id
            form |= {"client_secret": secret} if secret else {}
        status, document = await self._call("POST", endpoints.token, headers, form)
        token = document.get("id_token") if isinstance(document, dict) else None
        if status == 200 and isinstance(token, str):
            return token
        if status >= 500 or status == 429:
            raise _unreachable()
        raise SignInError("The provider does not take the code it gave.", reason="sign_in_code_refused")

    async def _secret(self) -> str:
        return await asyncio.to_thread(self._secret_file.read) if self._secret_file else ""

    async def _known(self) -> _Endpoints:
        async with self._fetching:
            now = self._monotonic()
            old = now - self._fetched_at >= FRESH_SECONDS
            if old and now - self._tried_at >= COOLDOWN_SECONDS:
                self._tried_at = now
                try:
                    self._endpoints = await self._discover()
                    self._fetched_at = now
                except TryAgainError:
                    if self._endpoints is None:
                        raise
        if self._endpoints is None:
            raise _unreachable()
        return self._endpoints

    async def _discover(self) -> _Endpoints:
        url = self.config.issuer.rstrip("/") + DISCOVERY_PATH
        status, document = await self._call("GET", url, {"Accept": "application/json"})
        if status != 200 or not isinstance(document, dict) or document.get("issuer") != self.config.issuer:
            raise _unreachable()
        methods = document.get("token_endpoint_auth_methods_supported")
        named = methods if isinstance(methods, list) else ["client_secret_basic"]
        return _Endpoints(
            self._endpoint(document, "authorization_endpoint"),
            self._endpoint(document, "token_endpoint"),
            "client_secret_basic" not in named and "client_secret_post" in named,
            document.get("authorization_response_iss_parameter_supported") is True,
        )

    def _endpoint(self, document: Mapping[str, Any], name: str) -> str:
        url = document.get(name)
        try:
            if not isinstance(url, str) or len(url) > _MAX_CODE:
                raise ValueError("not a URL")
            refuse_plain_http(url)
            if urlsplit(self.config.issuer).scheme == "https" and urlsplit(url).scheme != "https":
                raise ValueError("less protected than the issuer")
        except ValueError:
            raise _unreachable() from None
        return url

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON document, None for what is none. No redirects: nobody else is told code or secret."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout, trust_env=False)
        data = bytearray()
        try:
            async with self._session.request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as response:
                async for chunk in response.content.iter_chunked(16 << 10):
                    data += chunk
                    if len(data) > _MAX_BYTES:
                        raise _unreachable()
                return response.status, _parsed(bytes(data))
        except (aiohttp.ClientError, OSError, ValueError) as error:  # time-outs are OSErrors
            raise _unreachable() from error


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _unreachable() -> TryAgainError:
    return TryAgainError(
        "The sign-in provider gives no answer that can be used.",
        reason="provider_unreachable",
        fix="check that its discovery document and token endpoint can be reached from here",
        retry_after_seconds=COOLDOWN_SECONDS,
    )
