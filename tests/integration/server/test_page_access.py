"""Who is let in at the live page's door, as whom, and for what."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.model.events import AlarmRaised
from orchestrator.model.job import JobId
from orchestrator.server.deps import Limits
from orchestrator.server.page.door import Anonymous, Door
from orchestrator.server.page.guard import PAGE_HEADER, UNATTENDED_HEADER, Names
from orchestrator.server.page.roles import Role, Visitor
from orchestrator.server.page.sessions import MAX_OF_ONE, SessionLife, Sessions, local_operator

HERE = Anonymous(looks=True, reads_logs=True, local=True)
SEAL = "s" * 43
OURS = {PAGE_HEADER: SEAL}
READ = ("/v1/jobs", "/v1/pools", "/v1/sources", "/v1/overview", "/v1/live/jobs", "/v1/activity")
MARK = "only-in-the-script"


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def anonymous() -> Anonymous:
    return HERE


@pytest.fixture
def page(clock: Clock, anonymous: Anonymous) -> Door:
    sessions = Sessions(SessionLife(idle=600, absolute=3600, link=60), clock)
    return Door(
        sessions, Names(frozenset({"ci.example"}), loopback=True, secure=False), anonymous, AuditNotes(None), port=1
    )


async def reason(answer: Any) -> tuple[int, str]:
    return answer.status, (await answer.json())["reason"]


async def cut(stream: aiohttp.ClientResponse) -> bytes:
    """What came before the stream was cut."""
    data = b""
    async with asyncio.timeout(5):
        try:
            while chunk := await stream.content.readany():
                data += chunk
        except aiohttp.ClientError:
            return data
    raise AssertionError("the stream ended as if that were all")


async def signed_in(api: Any) -> dict[str, str]:
    """Cookie and seal of the local operator, by a link."""
    made = await api.client.post(f"{api.url}/v1/session/link", headers=api.operator)
    assert made.status == 201
    code = (await made.json())["path"].removeprefix("/#code=")
    answer = await api.client.post(f"{api.url}/v1/session/code", json={"code": code}, headers=OURS)
    assert answer.status == 200, await answer.text()
    assert (await answer.json())["may_operate"] is True
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    api.client.cookie_jar.clear()
    return {"Cookie": cookie.partition(";")[0]} | OURS


async def test_whoever_is_here_may_look_at_everything_and_change_nothing(api: Any) -> None:
    job_id = await api.job("one", script=f"echo {MARK}", environment={"TOKEN_OF_MINE": MARK})
    await api.run(job_id)
    of_job = [f"/v1/jobs/{job_id}{part}" for part in ("", "/trace", "/events", "/log")]
    for path in (*READ, *of_job):
        answer = await api.client.get(api.url + path)
        assert answer.status == 200, path
        assert MARK not in await answer.text(), path
    asked = await api.client.delete(f"{api.url}/v1/jobs/{job_id}", headers=OURS)
    assert await reason(asked) == (403, "role_missing")
    session = await (await api.client.get(f"{api.url}/v1/session")).json()
    assert (session["anonymous"], session["signed_in"], session["roles"]) == (True, False, ["viewer"])


@pytest.mark.slow
async def test_what_is_not_of_the_page_needs_a_token_as_ever(api: Any) -> None:
    cookie = await signed_in(api)
    for path in ("/v1/keys", "/v1/secrets", "/v1/inventory", "/v1/trust", "/v1/artifacts"):
        assert await reason(await api.client.get(api.url + path, headers=cookie)) == (401, "token_missing"), path


async def test_others_are_not_let_in(api: Any) -> None:
    cases: list[tuple[dict[str, str], tuple[int, str]]] = [
        ({"Host": "evil.example"}, (421, "host_unknown")),
        ({"Host": "127.0.0.1.evil.example"}, (421, "host_unknown")),
        ({"Host": "localhost:80@evil.example"}, (421, "host_unknown")),
        ({"Sec-Fetch-Site": "cross-site"}, (403, "cross_site_refused")),
        ({"Sec-Fetch-Site": "same-site"}, (403, "cross_site_refused")),
        ({"Origin": "https://evil.example"}, (403, "cross_site_refused")),
        ({"Origin": "null"}, (403, "cross_site_refused")),
        ({"X-Forwarded-For": "192.0.2.1"}, (401, "token_missing")),
        ({"x-forwarded-proto": "http"}, (401, "token_missing")),
        ({"FORWARDED": "for=192.0.2.1"}, (401, "token_missing")),
        ({"Authorization": "Basic eDp5"}, (401, "token_missing")),
    ]
    for headers, expected in cases:
        for path in READ:
            assert await reason(await api.client.get(api.url + path, headers=headers)) == expected, (headers, path)


@pytest.mark.slow
async def test_our_own_names_are_ours(api: Any) -> None:
    cookie = await signed_in(api)
    for host in ("127.0.0.1", "localhost:9", "[::1]:8455", "CI.example"):
        headers = cookie | {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert (await api.client.get(f"{api.url}/v1/pools", headers=headers)).status == 200, host


@pytest.mark.slow
async def test_only_who_asks_for_this_machine_is_on_it(api: Any) -> None:
    for host, status in (("127.0.0.1", 200), ("localhost:9", 200), ("[::1]:8455", 200), ("ci.example", 401)):
        assert (await api.client.get(f"{api.url}/v1/pools", headers={"Host": host})).status == status, host


@pytest.mark.slow
async def test_a_token_works_from_anywhere_as_ever(api: Any) -> None:
    strange = {"Host": "evil.example", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert (await api.client.get(f"{api.url}/v1/jobs", headers=api.operator | strange)).status == 200


async def test_other_callers_do_not_see_everybodys_jobs(api: Any) -> None:
    for path in ("/v1/overview", "/v1/live/jobs", "/v1/activity", "/v1/live"):
        assert await reason(await api.client.get(api.url + path, headers=api.forge())) == (403, "operators_only")
    asked = await api.client.post(f"{api.url}/v1/session/link", headers=api.forge())
    assert await reason(asked) == (403, "operators_only")


@pytest.mark.slow
@pytest.mark.parametrize("anonymous", [Anonymous()])
async def test_nobody_looks_without_a_sign_in_where_that_is_so(api: Any) -> None:
    for path in READ:
        assert await reason(await api.client.get(api.url + path)) == (401, "token_missing")
    session = await (await api.client.get(f"{api.url}/v1/session")).json()
    assert (session["may_read"], session["anonymous"]) == (False, False)
    assert (await api.client.get(f"{api.url}/")).status == 200  # the page itself tells nothing


@pytest.mark.slow
@pytest.mark.parametrize("anonymous", [Anonymous(looks=True)])
async def test_where_everybody_may_look_output_still_needs_a_name(api: Any) -> None:
    job_id = await api.job("one")
    assert (await api.client.get(f"{api.url}/v1/jobs/{job_id}", headers={"Via": "1.1 proxy"})).status == 200
    assert await reason(await api.client.get(f"{api.url}/v1/approvals")) == (403, "role_missing")
    log = f"{api.url}/v1/jobs/{job_id}/log"
    assert await reason(await api.client.get(log)) == (403, "role_missing")
    assert (await api.client.get(log, headers=await signed_in(api))).status == 200


async def test_an_operator_acts_by_the_link_and_the_record_says_who(api: Any) -> None:
    job_id = await api.job("one")
    cookie = await signed_in(api)
    job = f"{api.url}/v1/jobs/{job_id}"
    bare = {"Cookie": cookie["Cookie"]}
    assert await reason(await api.client.delete(job, headers=bare)) == (403, "cross_site_refused")
    foreign = cookie | {"Origin": "https://evil.example"}
    assert await reason(await api.client.delete(job, headers=foreign)) == (403, "cross_site_refused")
    answer = await api.client.delete(job, headers=cookie)
    assert answer.status == 202
    assert (await answer.json())["cancel"]["by"].startswith("local operator (")


@pytest.mark.slow
async def test_a_link_works_once_and_not_for_long(api: Any, clock: Clock) -> None:
    async def link() -> str:
        made = await api.client.post(f"{api.url}/v1/session/link", headers=api.operator)
        return str((await made.json())["path"].removeprefix("/#code="))

    async def redeem(code: str) -> Any:
        return await api.client.post(f"{api.url}/v1/session/code", json={"code": code}, headers=OURS)

    code = await link()
    assert (await redeem(code)).status == 200
    assert await reason(await redeem(code)) == (403, "sign_in_link_invalid")
    late = await link()
    clock.seconds += 60
    assert await reason(await redeem(late)) == (403, "sign_in_link_invalid")
    bare = await api.client.post(f"{api.url}/v1/session/code", json={"code": await link()})
    assert await reason(bare) == (403, "cross_site_refused")


@pytest.mark.slow
async def test_nobody_signs_in_across_a_network_in_the_clear(api: Any) -> None:
    made = await api.client.post(f"{api.url}/v1/session/link", headers=api.operator)
    code = (await made.json())["path"].removeprefix("/#code=")
    headers = OURS | {"Host": "ci.example"}
    answer = await api.client.post(f"{api.url}/v1/session/code", json={"code": code}, headers=headers)
    assert await reason(answer) == (403, "sign_in_insecure")


@pytest.mark.slow
@pytest.mark.parametrize("anonymous", [Anonymous()])
async def test_sessions_end_by_hand_without_use_and_in_any_case(api: Any, clock: Clock) -> None:
    pools = f"{api.url}/v1/pools"
    by_hand = await signed_in(api)
    ended = await api.client.post(f"{api.url}/v1/session/end", headers=by_hand)
    assert (ended.status, (await ended.json())["signed_in"]) == (200, False)
    assert (await api.client.get(pools, headers=by_hand)).status == 401
    unused = await signed_in(api)
    clock.seconds += 600
    assert (await api.client.get(pools, headers=unused)).status == 401
    unattended = await signed_in(api)
    clock.seconds += 500
    assert (await api.client.get(pools, headers=unattended | {UNATTENDED_HEADER: "1"})).status == 200
    clock.seconds += 100
    assert (await api.client.get(pools, headers=unattended)).status == 401
    used = await signed_in(api)
    for _ in range(7):
        clock.seconds += 500
        assert (await api.client.get(pools, headers=used)).status == 200
    clock.seconds += 100
    assert (await api.client.get(pools, headers=used)).status == 401


@pytest.mark.parametrize("anonymous", [Anonymous()])
async def test_a_cookie_alone_is_nothing(api: Any) -> None:
    """A browser gives it to every server on this machine that it visits, whatever the port."""
    cookie = await signed_in(api)
    job_id = await api.job("one")
    pools, job = f"{api.url}/v1/pools", f"{api.url}/v1/jobs/{job_id}"
    assert (await api.client.get(pools, headers=cookie)).status == 200
    for seal in ({}, {PAGE_HEADER: ""}, {PAGE_HEADER: "t" * 43}, {PAGE_HEADER: SEAL + "s"}, {PAGE_HEADER: SEAL * 9}):
        stolen = {"Cookie": cookie["Cookie"]} | seal
        assert await reason(await api.client.get(pools, headers=stolen)) == (401, "token_missing"), seal
        assert (await api.client.delete(job, headers=stolen)).status in (401, 403), seal
        session = await (await api.client.get(f"{api.url}/v1/session", headers=stolen)).json()
        assert (session["signed_in"], session["may_read"]) == (False, False), seal
    assert (await api.client.delete(job, headers=cookie)).status == 202


async def test_a_session_is_of_the_page_that_made_it(api: Any) -> None:
    """What somebody puts into another one's browser, a cookie or a link, signs nobody in there as them."""
    mine = await signed_in(api)
    for seal in ("", "1", "s" * 42, "s" * 44, "s" * 42 + "!"):
        made = await api.client.post(f"{api.url}/v1/session/link", headers=api.operator)
        code = (await made.json())["path"].removeprefix("/#code=")
        answer = await api.client.post(f"{api.url}/v1/session/code", json={"code": code}, headers={PAGE_HEADER: seal})
        assert await reason(answer) == (403, "cross_site_refused"), seal
        assert (await api.client.post(f"{api.url}/v1/session/code", json={"code": code}, headers=OURS)).status == 200
    planted = {"Cookie": mine["Cookie"], PAGE_HEADER: "v" * 43}
    assert (await (await api.client.get(f"{api.url}/v1/session", headers=planted)).json())["signed_in"] is False


def test_nobody_ends_the_sessions_of_others_by_signing_in() -> None:
    sessions, seal = Sessions(SessionLife(600, 3600, 60), lambda: 0.0), SEAL
    ada = sessions.begin(Visitor(Role.OPERATOR, "Ada", "https://idp.example", "u-1"), seal)
    mine = [sessions.begin(local_operator("https://ci.example", "operator"), seal) for _ in range(3000)]
    assert sessions.visitor(ada, SEAL) is not None
    assert [sessions.visitor(one, SEAL) is not None for one in mine].count(True) == MAX_OF_ONE
    assert sessions.visitor(mine[-1], SEAL) is not None


@pytest.mark.slow
@pytest.mark.parametrize("anonymous", [Anonymous()])
async def test_an_open_stream_ends_with_its_session(api: Any) -> None:
    cookie = await signed_in(api)
    async with api.client.get(f"{api.url}/v1/live", headers=cookie) as stream:
        assert stream.status == 200
        await stream.content.readuntil(b"event: overview")
        await api.client.post(f"{api.url}/v1/session/end", headers=cookie)
        await stream.content.read()  # to its end


@pytest.mark.slow
@pytest.mark.parametrize("anonymous", [Anonymous()])
async def test_a_job_that_is_followed_is_told_of_no_longer_than_the_session_lasts(api: Any) -> None:
    job_id = await api.job("one")
    await api.run(job_id)
    await api.logs.write(job_id, b"before\n")
    for what, first in (("log", b"before\n"), ("events", b"JobOffered")):
        cookie = await signed_in(api)
        address = f"{api.url}/v1/jobs/{job_id}/{what}?follow=true"
        async with api.client.get(address, headers=cookie) as stream:
            assert stream.status == 200
            await stream.content.readuntil(first)
            await api.client.post(f"{api.url}/v1/session/end", headers=cookie)
            await api.logs.write(job_id, f"after-{what}\n".encode())
            await api.engine.note(JobId(job_id), AlarmRaised("odd", f"after-{what}"))
            assert f"after-{what}".encode() not in await cut(stream)


class TestFewPlaces:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(max_streams=16)

    async def test_whoever_has_a_name_follows_a_job_though_nobodies_took_all_they_get(self, api: Any) -> None:
        job_id = await api.job("one")
        cookie = await signed_in(api)
        paths = [f"{api.url}/v1/jobs/{job_id}/{what}?follow=true" for what in ("events", "log")]
        async with AsyncExitStack() as stack:
            for place in range(4):  # half of the half that those without a name have together
                answer = await stack.enter_async_context(api.client.get(paths[place % 2]))
                assert answer.status == 200
            for path in paths:
                assert await reason(await api.client.get(path)) == (503, "too_many_streams")
                for named in (cookie, api.operator):
                    answer = await stack.enter_async_context(api.client.get(path, headers=named))
                    assert answer.status == 200


@pytest.mark.slow
async def test_what_is_no_code_is_refused_by_its_shape(api: Any) -> None:
    for code in ("", "x", "a" * 43 + "!", "é" * 43):
        answer = await api.client.post(f"{api.url}/v1/session/code", json={"code": code}, headers=OURS)
        assert await reason(answer) == (422, "validation_failed"), code


@pytest.mark.slow
async def test_the_page_is_served_under_a_policy_that_lets_nothing_else_run(api: Any) -> None:
    answer = await api.client.get(f"{api.url}/")
    assert answer.content_type == "text/html"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "require-trusted-types-for 'script'" in policy
    again = await api.client.get(f"{api.url}/", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    for name in ("missing.js", "..%2F__init__.py", "..%2Ffiles.py", ".index.html"):
        assert (await api.client.get(f"{api.url}/page/{name}")).status == 404, name


@pytest.mark.slow
@pytest.mark.parametrize("page", [None])
async def test_without_a_page_there_is_none(api: Any) -> None:
    for path in ("/", "/page/index.html", "/v1/session", "/signin/corp"):
        assert await reason(await api.client.get(api.url + path)) == (404, "not_found"), path
    assert await reason(await api.client.get(f"{api.url}/v1/overview")) == (401, "token_missing")
    assert (await api.client.get(f"{api.url}/v1/overview", headers=api.operator)).status == 200


@pytest.mark.slow
async def test_an_overview_counts_and_says_who_waits(api: Any) -> None:
    for number in range(4):
        await api.job(f"job-{number}")
    overview = json.loads(await (await api.client.get(f"{api.url}/v1/overview")).text())
    assert sum(overview["counts"].values()) == 4
    assert overview["pools"][0]["name"] == "default"
    assert overview["finished_last_hour"]["success"] == 0
    assert overview["approvals_waiting"] is None
