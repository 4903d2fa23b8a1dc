"""Who looks: nobody in particular, a guest who must sign in, the operator of this machine."""

from __future__ import annotations

import asyncio
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from playwright.sync_api import Error, expect
from stage import UNFINISHED

from orchestrator.testing.openid import OpenIdProvider


def test_without_a_sign_in_the_page_only_shows(stage, look):
    job_id = stage.dispatch("not mine", UNFINISHED)
    stage.reached(job_id, "running")
    sight = look(stage)
    page = sight.go(f"jobs/{job_id}")
    expect(page.get_by_text("Read-only")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("not mine")
    expect(page.get_by_role("button", name="Cancel job")).to_have_count(0)
    # Nor does a request by hand: the page's own script is no more trusted than any other.
    status = page.evaluate(
        """id => fetch(`/v1/jobs/${id}`, {method: 'DELETE', headers: {'X-Orchestrator-Page': localStorage.seal}})
        .then(answer => answer.status)""",
        job_id,
    )
    assert status == 403
    assert stage.job(job_id)["cancel"] is None
    sight.faults = [fault for fault in sight.faults if "403" not in fault]
    stage.cancel(job_id)


def test_a_link_signs_in_once(stage, look):
    link = stage.link()
    sight = look(stage)
    page = sight.page
    page.goto(link)
    expect(page.locator(".who")).to_contain_text("operator")
    assert "code" not in page.url
    cookies = sight.context.cookies()
    assert [(one["httpOnly"], one["sameSite"]) for one in cookies] == [(True, "Strict")]
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()

    other = look(stage)
    other.page.goto(link)
    expect(other.page.get_by_role("alert")).to_contain_text("used already")
    expect(other.page.get_by_role("button", name="Sign out")).to_have_count(0)
    other.faults = [fault for fault in other.faults if "the server responded with a status of 4" not in fault]

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("Read-only")).to_be_visible()
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
    assert sight.context.cookies() == []


def test_a_page_that_nobody_touches_says_so(stage, look):
    sight = look(stage)
    sight.page.clock.install()
    page = sight.go()
    ask = "import('/page/seal.js').then(seal => 'X-Orchestrator-Unattended' in seal.sealed())"
    assert page.evaluate(ask) is False
    page.clock.fast_forward(61_000)
    assert page.evaluate(ask) is True
    page.keyboard.press("Shift")
    assert page.evaluate(ask) is False


class Thief(BaseHTTPRequestHandler):
    """Somebody else's server on the same machine: it writes down what browsers bring."""

    brought: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.brought.append(self.headers.get("Cookie", ""))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_on_another_port_gets_a_cookie_that_opens_nothing(own_stage, look):
    stage = own_stage(page={"anonymous": "never"})
    sight = look(stage)
    page = sight.sign_in()
    with HTTPServer(("127.0.0.1", 0), Thief) as thief:
        thread = threading.Thread(target=thief.handle_request)
        thread.start()
        lured = sight.context.new_page()
        with suppress(Error):  # an answer without content is no page
            lured.goto(f"http://127.0.0.1:{thief.server_port}/")
        thread.join()
    assert "orchestrator-" in Thief.brought[-1], "browsers keep cookies by host alone"
    request = urllib.request.Request(f"{stage.url}/v1/pools", headers={"Cookie": Thief.brought[-1]})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as answer:
        assert answer.code == 401
    page.reload()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_where_nobody_may_look_unknown_there_is_only_the_way_in(own_stage, look):
    stage = own_stage(page={"anonymous": "never"})
    stage.run("secret plan")
    sight = look(stage)
    page = sight.page
    page.goto(stage.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    expect(page.get_by_text("orchestrator page")).to_be_visible()
    assert "secret plan" not in page.content()
    sight.sign_in()
    sight.turn("jobs")
    expect(sight.row("secret plan")).to_be_visible()


def test_an_ended_session_is_told(own_stage, look):
    stage = own_stage(page={"anonymous": "never"})
    sight = look(stage)
    page = sight.sign_in()
    sight.context.clear_cookies()
    stage.kill()
    stage.start()
    sight.hurry("refused")
    notice = page.locator("#notice")
    expect(notice).to_contain_text("You are signed out.")
    expect(notice).to_contain_text("orchestrator page")
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
    page.get_by_role("button", name="Reload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    sight.faults = [fault for fault in sight.faults if "Failed to load resource" not in fault]


def test_whoever_may_look_on_without_a_session_is_told_that_it_is_over(own_stage, look):
    """They go on as everybody; the page must not go on as theirs."""
    way = {"name": "corp", "label": "Corporate account", "issuer": "https://idp.example", "client_id": "page"}
    stage = own_stage(page={"providers": [way | {"viewer": [{"groups": "sre"}]}]})
    job_id = stage.dispatch("goes on", UNFINISHED)
    stage.reached(job_id, "running")
    sight = look(stage)
    sight.sign_in()
    page = sight.turn(f"jobs/{job_id}")
    expect(page.get_by_role("button", name="Cancel job")).to_be_visible()
    other = sight.context.new_page()
    other.goto(f"{stage.url}/#/pools")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_text("Read-only")).to_be_visible()

    notice = page.locator("#notice")
    expect(notice).to_contain_text("what everybody may see")
    expect(notice.get_by_role("link", name="Corporate account")).to_be_visible()
    expect(page.locator("#state")).to_contain_text("Read-only")
    expect(page.get_by_role("heading", level=1)).to_have_text("goes on")
    expect(page.get_by_role("button", name="Cancel job")).to_have_count(0)
    notice.get_by_role("button", name="Close").click()
    expect(notice).to_be_empty()
    sight.live()


def test_an_operator_stays_signed_in_over_a_restart(own_stage, look):
    """The page is open all the time. The daemon is killed, so that it writes nothing at its end."""
    stage = own_stage(page={"anonymous": "never"})
    sight = look(stage)
    page = sight.sign_in()
    stage.kill()
    sight.hurry("lost")
    stage.start()
    sight.hurry("live")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    job_id = stage.dispatch("of the next daemon", UNFINISHED)
    stage.reached(job_id, "running")
    sight.turn(f"jobs/{job_id}")
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Yes, cancel it").click()
    stage.reached(job_id, "finished")
    cookies = sight.context.cookies()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")

    stage.kill()
    stage.start()
    sight.context.add_cookies(cookies)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    sight.faults = [fault for fault in sight.faults if "Failed to load resource" not in fault]


def test_what_people_signed_is_shown_to_operators(stage, look):
    stage.ask_for_exception()
    sight = look(stage)
    page = sight.sign_in()
    sight.turn("approvals")
    table = page.get_by_role("table", name="Approvals")
    expect(table).to_contain_text("break glass")
    expect(table).to_contain_text("carol")
    expect(page.get_by_role("navigation", name="Views")).to_contain_text(re.compile("Approvals *1"))
    page.get_by_role("button", name="Waits for a person").click()
    expect(page).to_have_url(re.compile("#/approvals\\?only=waiting$"))
    expect(table.get_by_role("row").filter(has_text="exception approvers missing")).to_have_count(1)


@contextmanager
def provider(**how: Any) -> Iterator[OpenIdProvider]:
    """An OpenID provider in a thread of its own, until the end."""
    made, ready, over = OpenIdProvider(**how), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with made.serve():
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield made
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def test_people_sign_in_at_their_provider(own_stage, look):
    with provider(person={"sub": "u-1", "name": "Ada Lovelace", "groups": ["sre"]}) as idp:
        way = {
            "name": "corp",
            "label": "Corporate account",
            "issuer": idp.issuer,
            "client_id": idp.client_id,
            "viewer": [{"groups": "engineering"}],
            "operator": [{"groups": "sre"}],
        }
        stage = own_stage(page={"anonymous": "never", "providers": [way]})
        idp.redirect_uris = (f"{stage.url}/signin/corp/callback",)
        job_id = stage.dispatch("cancelled by ada", UNFINISHED)
        stage.reached(job_id, "running")
        sight = look(stage)
        page = sight.page

        idp.faults.add("denied")
        page.goto(stage.url)
        page.get_by_role("link", name="Corporate account").click()
        expect(page.get_by_role("alert")).to_contain_text("not finished at the provider")
        assert "refused" not in page.url

        idp.faults.clear()
        page.get_by_role("link", name="Corporate account").click()
        expect(page.locator(".who")).to_contain_text("Ada Lovelace")
        expect(page.locator(".who")).to_contain_text("operator")
        sight.turn(f"jobs/{job_id}")
        page.get_by_role("button", name="Cancel job").click()
        page.get_by_role("button", name="Yes, cancel it").click()
        expect(page.locator(".job-title .badge")).to_have_text("Cancelled")
        assert "u-1" in stage.job(job_id)["cancel"]["by"]

        idp.person["groups"] = ["engineering"]
        other = look(stage)
        other.page.goto(stage.url)
        other.page.get_by_role("link", name="Corporate account").click()
        expect(other.page.locator(".who")).to_contain_text("viewer")
        other.live()
        other.turn("jobs")
        expect(other.row("cancelled by ada")).to_be_visible()

        idp.person["groups"] = ["sales"]
        third = look(stage)
        third.page.goto(stage.url)
        third.page.get_by_role("link", name="Corporate account").click()
        expect(third.page.get_by_role("alert")).to_contain_text("have no role here")
        assert "cancelled by ada" not in third.page.content()
