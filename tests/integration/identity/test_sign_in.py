"""Signing in at a provider over real HTTP: one that behaves, and every way in which one can fail to."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from orchestrator.errors import TryAgainError
from orchestrator.identity.issuer_keys import COOLDOWN_SECONDS
from orchestrator.identity.sign_in.provider import FRESH_SECONDS, Attempt, ProviderConfig, SignInError, SignInProvider
from orchestrator.identity.sign_in.rules import Person, Rules
from orchestrator.testing.openid import OpenIdProvider

BACK = "https://ci.example/signin/corp/callback"
VIEWERS = {"groups": re.compile("ci-.*")}
OPERATORS = {"groups": re.compile("ops"), "email_verified": re.compile("true")}


class Site:
    """A provider, us, and a browser."""

    def __init__(self, provider: OpenIdProvider, ours: SignInProvider, browser: aiohttp.ClientSession) -> None:
        self.provider, self.ours, self.browser = provider, ours, browser
        self.seconds = 0.0

    async def answer(self, attempt: Attempt) -> dict[str, str]:
        """What the browser comes back with."""
        async with self.browser.get(await self.ours.address(attempt), allow_redirects=False) as went:
            assert went.status == 302, await went.text()
            return dict(parse_qsl(urlsplit(went.headers["Location"]).query))

    async def sign_in(self):
        attempt = Attempt("corp")
        answer = await self.answer(attempt)
        assert answer["state"] == attempt.state
        return await self.ours.finish(attempt, answer)


def ours_for(provider: OpenIdProvider, site: list[Site], secret_file: Path | None = None) -> SignInProvider:
    config = ProviderConfig(
        "corp", provider.issuer, provider.client_id, BACK, Rules([VIEWERS], [OPERATORS]), secret_file
    )
    return SignInProvider(config, now=time.time, monotonic=lambda: site[0].seconds if site else 0.0)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found: list[Site] = []
    async with OpenIdProvider(redirect_uris=(BACK,)).serve() as provider, aiohttp.ClientSession() as browser:
        ours = ours_for(provider, found)
        found.append(Site(provider, ours, browser))
        yield found[0]
        await ours.close()


async def test_who_signs_in_is_known_with_the_role_that_the_claims_give(site: Site) -> None:
    roles = {
        (): "",
        ("ci-team", "others"): "viewer",
        ("ops", "others"): "operator",
    }
    for groups, role in roles.items():
        site.provider.person = {"sub": "u-1", "name": "Ada L", "groups": list(groups), "email_verified": True}
        assert await site.sign_in() == Person(site.provider.issuer, "u-1", "Ada L", role)
    site.provider.person = {"sub": "u-2", "name": "A\nB", "groups": "ops", "email_verified": False}
    assert await site.sign_in() == Person(site.provider.issuer, "u-2", "u-2", "")
    site.provider.person = {"sub": "u-3", "name": "A\u202e B", "groups": "ci-x"}
    assert await site.sign_in() == Person(site.provider.issuer, "u-3", "A B", "viewer")
    assert site.provider.asked.count("discovery") == 2  # endpoints and keys, each once


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_client_with_a_secret_shows_it_as_the_provider_wants(tmp_path: Path, method: str) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret:/+ &%\n")
    file.chmod(0o400)
    served = OpenIdProvider(
        client_id="page/1", client_secret="s3cret:/+ &%", redirect_uris=(BACK,), auth_methods=(method,)
    )
    async with served.serve() as provider, aiohttp.ClientSession() as browser:
        ours = ours_for(provider, [], file)
        site = Site(provider, ours, browser)
        assert (await site.sign_in()).subject == "u-1"
        file.unlink()
        with pytest.raises(TryAgainError) as caught:
            await site.sign_in()
        assert caught.value.reason == "secret_file_unusable"
        await ours.close()


REFUSED = {
    "denied": "sign_in_denied",
    "other_issuer_in_answer": "sign_in_mixed_up",
    "no_issuer_in_answer": "sign_in_mixed_up",
    "wrong_nonce": "sign_in_token_invalid",
    "no_nonce": "sign_in_token_invalid",
    "other_issuer": "sign_in_token_invalid",
    "other_audience": "sign_in_token_invalid",
    "several_without_party": "sign_in_token_invalid",
    "other_party": "sign_in_token_invalid",
    "expired": "sign_in_token_invalid",
    "future": "sign_in_token_invalid",
    "old": "sign_in_token_invalid",
    "unsigned": "sign_in_token_invalid",
    "forged": "sign_in_token_invalid",
    "unknown_key": "sign_in_token_invalid",
    "no_subject": "sign_in_token_invalid",
    "token_redirects": "sign_in_code_refused",
    "token_is_no_json": "sign_in_code_refused",
    "token_fails": "provider_unreachable",
    "token_huge": "provider_unreachable",
}


async def test_nobody_is_signed_in_by_a_wrong_answer(site: Site) -> None:
    await site.sign_in()
    for fault, reason in REFUSED.items():
        site.provider.faults = {fault}
        with pytest.raises((SignInError, TryAgainError)) as caught:
            await site.sign_in()
        assert caught.value.reason == reason, fault
    site.provider.faults = {"several_audiences"}
    assert (await site.sign_in()).subject == "u-1"


async def test_a_code_is_good_once_and_for_its_own_attempt(site: Site) -> None:
    attempt, another = Attempt("corp"), Attempt("corp")
    answer = await site.answer(attempt)
    with pytest.raises(SignInError) as stolen:  # another's code in one's own attempt: the verifier does not fit
        await site.ours.finish(another, answer)
    assert stolen.value.reason == "sign_in_code_refused"
    answer = await site.answer(attempt)
    assert (await site.ours.finish(attempt, answer)).subject == "u-1"
    with pytest.raises(SignInError) as again:
        await site.ours.finish(attempt, answer)
    assert again.value.reason == "sign_in_code_refused"
    for code in ("", "x" * 5000):
        with pytest.raises(SignInError) as none:
            await site.ours.finish(attempt, {"iss": site.provider.issuer, "code": code})
        assert none.value.reason == "sign_in_denied"


async def test_new_keys_are_found_but_not_asked_for_again_and_again(site: Site) -> None:
    await site.sign_in()
    site.provider.rotate()
    with pytest.raises(SignInError):
        await site.sign_in()
    assert site.provider.asked.count("keys") == 1
    site.seconds += COOLDOWN_SECONDS
    assert (await site.sign_in()).subject == "u-1"
    assert site.provider.asked.count("keys") == 2


@pytest.mark.parametrize("fault", ["discovery_fails", "discovery_of_another"])
async def test_a_description_that_is_no_good_is_not_gone_by(fault: str) -> None:
    async with OpenIdProvider(redirect_uris=(BACK,), faults={fault}).serve() as provider:
        ours = ours_for(provider, [])
        for _ in range(3):
            with pytest.raises(TryAgainError) as caught:
                await ours.address(Attempt("corp"))
            assert caught.value.reason == "provider_unreachable"
        assert provider.asked == ["discovery"]  # once within the cooldown
        await ours.close()


async def test_a_provider_that_is_away_for_a_while_is_gone_by_as_it_was(site: Site) -> None:
    before = await site.ours.address(Attempt("corp"))
    site.provider.faults = {"plain_token_endpoint"}
    site.seconds += FRESH_SECONDS
    assert (await site.ours.address(Attempt("corp"))).partition("?")[0] == before.partition("?")[0]
    site.provider.faults = set()
    assert (await site.sign_in()).subject == "u-1"
