"""Caller issuers over real HTTP: a server on loopback that behaves, then one that does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.identity.issuer_keys import COOLDOWN_SECONDS, REFRESH_SECONDS, STALE_SECONDS, DiscoveredKeys
from orchestrator.identity.jwks import public_jwk
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.verify import CallerIssuerConfig, CallerRefusedError, CallerVerifier

NOW = 1_800_000_000


class Platform:
    """A CI platform's issuer. `answers` replaces what a path gives; `asked` counts requests."""

    def __init__(self) -> None:
        self.keys = [ec.generate_private_key(ec.SECP256R1())]
        self.answers: dict[str, object] = {}
        self.asked: list[str] = []
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self.server = TestServer(app, host="127.0.0.1")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        answer = self.answers.get(request.path)
        if callable(answer):
            return await answer(request)
        if answer is not None:
            return web.json_response(answer)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})
        if request.path == "/keys":
            return web.json_response({"keys": [dict(public_jwk(key.public_key())) for key in self.keys]})
        return web.Response(status=404)

    def token(self, number: int = 0, **changes) -> str:
        key = self.keys[number]
        claims = {"iss": self.url, "aud": "orchestrator", "sub": "acme/app", "iat": NOW, "exp": NOW + 300} | changes
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": public_jwk(key.public_key())["kid"]})


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    platform = Platform()
    await platform.server.start_server()
    yield platform
    await platform.server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(platform, clock) -> AsyncIterator[CallerVerifier]:
    config = CallerIssuerConfig(platform.url, "orchestrator", {"sub": "acme/.+"})
    verifier = CallerVerifier(
        (config,),
        local=None,
        replay=ReplayStore(None, NOW),
        clock_ns=lambda: NOW * 1_000_000_000,
        monotonic=clock,
    )
    yield verifier
    await verifier.close()


async def reason(verifier, token) -> str:
    with pytest.raises((CallerRefusedError, TryAgainError)) as caught:
        await verifier.verify(token)
    return caught.value.reason


async def test_keys_are_found_by_discovery_and_kept(platform, verifier):
    for _ in range(3):
        assert (await verifier.verify(platform.token())).subject == "acme/app"
    assert platform.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_many_first_tokens_cause_one_fetch(platform, verifier):
    await asyncio.gather(*(verifier.verify(platform.token(jti=str(i))) for i in range(20)))
    assert len(platform.asked) == 2


async def test_a_new_key_is_fetched_when_it_first_signs(platform, verifier, clock):
    await verifier.verify(platform.token())
    platform.keys.append(ec.generate_private_key(ec.SECP256R1()))
    clock.seconds += COOLDOWN_SECONDS
    await verifier.verify(platform.token(1))
    assert len(platform.asked) == 4


async def test_unknown_key_ids_cannot_make_us_hammer_the_issuer(platform, verifier, clock):
    await verifier.verify(platform.token())
    stranger = Platform()
    for _ in range(50):
        stranger.keys = [ec.generate_private_key(ec.SECP256R1())]
        forged = jwt.encode(
            {"iss": platform.url},
            stranger.keys[0],
            algorithm="ES256",
            headers={"kid": public_jwk(stranger.keys[0].public_key())["kid"]},
        )
        assert await reason(verifier, forged) == "signature_invalid"
        clock.seconds += 1
    assert len(platform.asked) <= 2 + 2 * 2


async def test_a_withdrawn_key_stops_counting_at_the_next_refresh(platform, verifier, clock):
    old = platform.token()
    await verifier.verify(old)
    platform.keys = [ec.generate_private_key(ec.SECP256R1())]
    clock.seconds += REFRESH_SECONDS - 1
    await verifier.verify(old)
    clock.seconds += 1
    assert await reason(verifier, old) == "signature_invalid"


async def test_an_unreachable_issuer_is_bridged_for_a_while_only(platform, verifier, clock):
    token = platform.token()
    await verifier.verify(token)
    await platform.server.close()
    clock.seconds += STALE_SECONDS - 1
    await verifier.verify(token)
    clock.seconds += 1
    assert await reason(verifier, token) == "issuer_unreachable"


async def never(request):
    await asyncio.sleep(3600)


async def redirect(request):
    raise web.HTTPFound("/elsewhere")


async def endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b" " * 65536)
    return response


async def broken(request):
    return web.Response(status=500, text='{"keys": []}')


async def not_json(request):
    return web.Response(text="<html>")


async def deep(request):
    return web.Response(text="[" * 200_000)


async def test_a_good_document_that_is_too_large_is_refused(platform, verifier):
    async def padded(request):
        keys = {"keys": [dict(public_jwk(key.public_key())) for key in platform.keys]}
        return web.Response(text=json.dumps(keys) + " " * (300 << 10))

    platform.answers["/keys"] = padded
    assert await reason(verifier, platform.token()) == "issuer_unreachable"


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
@pytest.mark.parametrize("answer", [redirect, endless, broken, not_json, deep, {}, [], {"keys": 7}])
async def test_an_issuer_that_misbehaves_is_no_issuer(platform, verifier, path, answer):
    platform.answers[path] = answer
    assert await reason(verifier, platform.token()) == "issuer_unreachable"
    assert "/elsewhere" not in platform.asked


async def test_an_issuer_that_hangs_is_given_up(platform, clock, monkeypatch):
    monkeypatch.setattr("orchestrator.identity.issuer_keys.FETCH_TIMEOUT_SECONDS", 0.2)
    platform.answers["/keys"] = never
    keys = DiscoveredKeys(platform.url, clock)
    try:
        with pytest.raises(TryAgainError) as caught:
            await keys.key("any")
    finally:
        await keys.close()
    assert caught.value.reason == "issuer_unreachable"
    assert caught.value.retry_after_seconds


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": "{url}/keys"},
        {"issuer": "{url}/", "jwks_uri": "{url}/keys"},
        {"issuer": "{url}"},
        {"issuer": "{url}", "jwks_uri": 7},
        {"issuer": "{url}", "jwks_uri": "file:///dev/zero"},
        {"issuer": "{url}", "jwks_uri": "http://192.0.2.1/keys"},
        {"issuer": "{url}", "jwks_uri": "/keys"},
    ],
)
async def test_discovery_must_be_the_issuers_own_and_lead_somewhere_safe(platform, verifier, document):
    text = json.dumps(document).replace("{url}", platform.url)
    platform.answers["/.well-known/openid-configuration"] = json.loads(text)
    assert await reason(verifier, platform.token()) == "issuer_unreachable"
    assert "/keys" not in platform.asked


@pytest.mark.parametrize(
    "url", ["http://ci.example", "http://192.0.2.1", "ftp://127.0.0.1", "https://", "file:///etc", "ci.example"]
)
def test_keys_are_never_fetched_in_the_clear(url, clock):
    with pytest.raises(ConfigurationError) as caught:
        DiscoveredKeys(url, clock)
    assert caught.value.reason == "issuer_insecure"
