"""A browser that signs in at a provider and comes back to the page, or whoever pretends to be one."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from orchestrator.errors import TryAgainError
from orchestrator.identity.sign_in.provider import ProviderConfig, SignInProvider
from orchestrator.identity.sign_in.rules import Rules
from orchestrator.model.job import Caller
from orchestrator.server.page.attempts import MAX_OF_BROWSER
from orchestrator.server.page.door import Anonymous, Door, SignInWay
from orchestrator.server.page.guard import PAGE_HEADER, Names
from orchestrator.server.page.session_file import SessionFile
from orchestrator.server.page.sessions import SessionLife, Sessions
from orchestrator.testing.openid import OpenIdProvider


class Notes:
    """What the audit log is told, until it takes nothing more."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.full = False

    async def page_signed_in(self, way: str, role: str, caller: Caller) -> None:
        if self.full:
            raise TryAgainError("full", reason="audit_unavailable")
        self.told.append((way, role))

    async def page_link_made(self, caller: Caller) -> None:
        raise AssertionError("nobody makes links here")


@dataclass
class Corp:
    provider: OpenIdProvider
    door: Door
    notes: Notes


@pytest.fixture
async def corp(tmp_path: Path) -> AsyncIterator[Corp]:
    async with OpenIdProvider().serve() as provider:
        rules = Rules([{"team": re.compile("ci")}], [{"team": re.compile("ops")}])
        ways = []
        for name in ("corp", "other"):
            back = f"http://127.0.0.1:8455/signin/{name}/callback"
            provider.redirect_uris += (back,)
            config = ProviderConfig(name, provider.issuer, provider.client_id, back, rules)
            ways.append(SignInWay(name.title(), SignInProvider(config, now=time.time, monotonic=time.monotonic)))
        names = Names(frozenset(), loopback=True, secure=False)
        notes = Notes()
        sessions = Sessions(SessionLife(600, 3600, 60), time.monotonic, bound={"corp": "as it is"})
        file = SessionFile(tmp_path / "sessions")
        yield Corp(
            provider, Door(sessions, names, Anonymous(), notes, 8455, ways, "http://127.0.0.1:8455", file), notes
        )


@pytest.fixture
def page(corp: Corp) -> Door:
    return corp.door


SEAL = "s" * 43


class Browser:
    """Follows addresses by hand, and has a cookie jar and a seal of its own."""

    seal = SEAL

    def __init__(self, api: Any) -> None:
        self.api = api
        self.cookies: dict[str, str] = {}

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        # No navigation has the header that scripts add, so only what the page itself asks for is sent with it.
        own = {PAGE_HEADER: self.seal} if path.startswith("/v1/") else {}
        sent = (
            own | {"Host": "127.0.0.1:8455", "Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} | headers
        )
        answer = await self.api.client.get(self.api.url + path, headers=sent, allow_redirects=False)
        self.keep(answer)
        return answer

    async def to_the_provider_and_back(self, name: str = "corp") -> str:
        """The address that the provider sends us back to."""
        went = await self.get(f"/signin/{name}")
        assert went.status == 303
        assert "SameSite=Lax" in went.headers["Set-Cookie"]
        async with self.api.client.get(went.headers["Location"], allow_redirects=False) as there:
            assert there.status == 302, await there.text()
            return str(there.headers["Location"].removeprefix("http://127.0.0.1:8455"))

    async def landed(self, back: str) -> str:
        answer = await self.get(back, **{"Sec-Fetch-Site": "cross-site"})
        assert answer.status == 303
        address = str(answer.headers["Location"])
        return await self.redeemed(address.removeprefix("/#code=")) if address.startswith("/#code=") else address

    async def redeemed(self, code: str) -> str:
        """What the page does with a code in its address: where it stays, or why it is refused."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"Host": "127.0.0.1:8455", "Cookie": cookies, PAGE_HEADER: self.seal}
        answer = await self.api.client.post(f"{self.api.url}/v1/session/code", json={"code": code}, headers=sent)
        self.keep(answer)
        return "/" if answer.status == 200 else str((await answer.json())["reason"])

    def keep(self, answer: aiohttp.ClientResponse) -> None:
        for name, morsel in answer.cookies.items():
            self.cookies[name] = morsel.value
            if not morsel.value:
                del self.cookies[name]

    async def session(self) -> dict[str, Any]:
        return dict(await (await self.get("/v1/session")).json())


async def test_somebody_signs_in_and_has_their_role(api: Any, corp: Corp) -> None:
    browser = Browser(api)
    ways = (await browser.session())["sign_in"]
    assert ways[0] == {"id": "corp", "label": "Corp", "url": "/signin/corp"}
    for team, roles in (("ci", ["viewer"]), ("ops", ["viewer", "operator"])):
        corp.provider.person = {"sub": "u-1", "name": "Ada", "team": team}
        assert await browser.landed(await browser.to_the_provider_and_back()) == "/"
        session = await browser.session()
        assert (session["signed_in"], session["name"], session["roles"]) == (True, "Ada", roles)
        assert list(browser.cookies) == ["orchestrator-8455"]
    job_id = await api.job("one")
    headers = {PAGE_HEADER: SEAL, "Cookie": f"orchestrator-8455={browser.cookies['orchestrator-8455']}"}
    answer = await api.client.delete(f"{api.url}/v1/jobs/{job_id}", headers=headers)
    assert (await answer.json())["cancel"]["by"] == f"Ada (u-1 {corp.provider.issuer})"


async def test_what_goes_on_over_a_restart_is_on_disk_with_the_answer(api: Any, corp: Corp, tmp_path: Path) -> None:
    def kept() -> list[str]:
        return [one.subject for one in SessionFile(tmp_path / "sessions").read()]

    browser = Browser(api)
    corp.provider.person = {"sub": "u-1", "team": "ops"}
    assert await browser.landed(await browser.to_the_provider_and_back()) == "/"
    assert kept() == ["u-1"]
    corp.provider.person = {"sub": "u-2", "team": "ops"}
    assert await browser.landed(await browser.to_the_provider_and_back()) == "/"
    assert kept() == ["u-2"], "a new sign-in ends the browser's one before"
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    sent = {"Host": "127.0.0.1:8455", "Cookie": cookies, PAGE_HEADER: SEAL}
    async with api.client.post(f"{api.url}/v1/session/end", headers=sent) as answer:
        assert answer.status == 200
    assert kept() == []


async def test_who_cannot_sign_out_and_comes_again_is_out_for_good(
    api: Any, corp: Corp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that takes nothing for a while: the session would be back after a restart."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    async def ended() -> int:
        async with api.client.post(f"{api.url}/v1/session/end", headers=sent) as answer:
            return int(answer.status)

    corp.provider.person = {"sub": "u-1", "team": "ops"}
    browser = Browser(api)
    assert await browser.landed(await browser.to_the_provider_and_back()) == "/"
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    sent = {"Host": "127.0.0.1:8455", "Cookie": cookies, PAGE_HEADER: SEAL}
    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", refuse)
        assert await ended() == 503
        assert await ended() == 503, "it is not done yet"
    assert await ended() == 200
    assert SessionFile(tmp_path / "sessions").read() == []


@pytest.mark.slow
async def test_nobody_is_signed_in_whom_the_audit_log_does_not_know(api: Any, corp: Corp) -> None:
    browser = Browser(api)
    corp.provider.person = {"sub": "u-1", "team": "ops"}
    assert await browser.landed(await browser.to_the_provider_and_back()) == "/"
    assert corp.notes.told == [("corp", "operator")]
    corp.notes.full = True
    other = Browser(api)
    assert await other.landed(await other.to_the_provider_and_back()) == "audit_unavailable"
    assert (await other.session())["signed_in"] is False


@pytest.mark.slow
async def test_whoever_has_no_role_stays_outside(api: Any, corp: Corp) -> None:
    browser = Browser(api)
    corp.provider.person = {"sub": "u-1", "team": "sales"}
    assert await browser.landed(await browser.to_the_provider_and_back()) == "/#signin-refused=sign_in_no_role"
    corp.provider.faults = {"denied"}
    assert await browser.landed(await browser.to_the_provider_and_back()) == "/#signin-refused=sign_in_denied"
    assert (await browser.session())["may_read"] is False


async def test_a_way_back_is_good_once_and_for_the_browser_and_provider_it_began_with(api: Any, corp: Corp) -> None:
    corp.provider.person = {"sub": "u-1", "team": "ops"}
    unknown = "/#signin-refused=sign_in_unknown"
    browser, victim = Browser(api), Browser(api)
    assert await victim.landed(await browser.to_the_provider_and_back()) == unknown  # whose session it would be
    back = await browser.to_the_provider_and_back()
    assert await browser.landed(back.replace("/corp/", "/other/")) == unknown
    back = await browser.to_the_provider_and_back()
    kept = dict(browser.cookies)
    assert await browser.landed(back) == "/"
    browser.cookies = kept
    assert await browser.landed(back) == unknown
    assert await browser.landed("/signin/corp/callback?state=x&code=y") == unknown
    assert await browser.landed("/signin/corp/callback") == unknown
    assert corp.provider.asked.count("token") == 1


async def test_who_signed_in_is_so_in_the_browser_that_went_and_on_the_page_that_took_it(api: Any, corp: Corp) -> None:
    corp.provider.person = {"sub": "u-1", "team": "ops"}
    browser, victim = Browser(api), Browser(api)
    landed = await browser.get(await browser.to_the_provider_and_back())
    code = landed.headers["Location"].removeprefix("/#code=")
    (name,) = browser.cookies
    assert name.startswith("orchestrator-8455-sign-in-"), "nobody is signed in before the page has its code"
    assert await victim.redeemed(code) == "sign_in_link_invalid"  # it would be the other one's session
    assert await browser.redeemed(code) == "sign_in_link_invalid", "and it is good once"
    assert await browser.landed(await browser.to_the_provider_and_back()) == "/"
    assert (await browser.session())["may_operate"] is True
    browser.seal = "t" * 43  # a server on another port of the same host, which has got the cookie
    assert (await browser.session())["signed_in"] is False


async def test_a_sign_in_that_others_planted_is_of_the_page_that_finishes_it(api: Any, corp: Corp) -> None:
    """Cookies can be planted from other ports of this machine: whoever does gets no session of somebody else by it."""
    corp.provider.person = {"sub": "u-1", "team": "ops"}
    thief, victim = Browser(api), Browser(api)
    thief.seal = "t" * 43
    back = await thief.to_the_provider_and_back()
    victim.cookies = dict(thief.cookies)
    assert await victim.landed(back) == "/"
    thief.cookies = dict(victim.cookies)
    assert ((await victim.session())["signed_in"], (await thief.session())["signed_in"]) == (True, False)


async def test_tabs_of_one_browser_sign_in_beside_each_other(api: Any, corp: Corp) -> None:
    corp.provider.person = {"sub": "u-1", "team": "ops"}
    browser = Browser(api)
    first, second = await browser.to_the_provider_and_back(), await browser.to_the_provider_and_back()
    landed = (await browser.get(first)).headers["Location"]
    assert await browser.landed(second) == "/"
    assert await browser.redeemed(landed.removeprefix("/#code=")) == "/", "the other tab has ended its own only"
    assert (await browser.session())["may_operate"] is True
    assert list(browser.cookies) == ["orchestrator-8455"], "what was for the way is gone"


async def test_a_browser_keeps_few_sign_ins_under_way(api: Any, corp: Corp) -> None:
    """It sends all of them with every request: with many it could ask for nothing more."""
    corp.provider.person = {"sub": "u-1", "team": "ops"}
    browser = Browser(api)
    planted = f"orchestrator-8455-sign-in-{0:016x}"
    browser.cookies[planted] = "nothing of ours"
    backs = [await browser.to_the_provider_and_back() for _ in range(MAX_OF_BROWSER + 3)]
    assert len(browser.cookies) == MAX_OF_BROWSER
    assert planted not in browser.cookies
    landed = [await browser.landed(back) for back in backs[:-1]]
    assert (landed.count("/"), await browser.landed(backs[-1])) == (MAX_OF_BROWSER - 1, "/")


async def test_what_others_leave_in_a_browser_keeps_nobody_from_signing_in(api: Any, corp: Corp) -> None:
    """A server on another port gives it cookies too, under any name, and some names nobody can take back."""
    corp.provider.person = {"sub": "u-1", "team": "ops"}
    browser = Browser(api)
    for number in range(MAX_OF_BROWSER + 1):
        browser.cookies[f"orchestrator-8455-sign-in-({number}"] = "9999999999.x"
    assert await browser.landed(await browser.to_the_provider_and_back()) == "/"


@pytest.mark.slow
async def test_the_sign_in_begins_under_the_name_that_it_ends_under(api: Any) -> None:
    answer = await Browser(api).get("/signin/corp", Host="localhost:8455")
    assert answer.headers["Location"] == "http://127.0.0.1:8455/signin/corp"
    assert (await Browser(api).get("/signin/corp", Host="evil.example")).status == 421
    assert (await Browser(api).get("/signin/nobody")).status == 404


@pytest.mark.slow
async def test_a_name_that_browsers_write_in_another_way_is_the_same(api: Any, corp: Corp) -> None:
    corp.door.url = "http://LOCALHOST:80"
    answer = await Browser(api).get("/signin/corp", Host="localhost")
    assert answer.headers["Location"].startswith(f"{corp.provider.issuer}/authorize?")
