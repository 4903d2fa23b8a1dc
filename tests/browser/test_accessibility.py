"""Every view, in both themes, on a desk and on a phone: axe-core's rules, no sideways scrolling, a calm page for who
asked for one."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from sight import DESKTOP, PHONE, VIEWS
from stage import UNFINISHED

RULES: dict[str, Any] = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}

MOVING = """() => document.getAnimations().length + [...document.querySelectorAll("*")]
  .filter((one) => parseFloat(getComputedStyle(one).transitionDuration) > 0).length"""


@pytest.fixture(scope="module")
def jobs(stage):
    """Jobs in every state that has a look of its own: a finished, a running, a refused, a waiting, a red one."""
    finished = stage.run("release", stage.release)
    stage.run("red", "exit 1")
    stage.run("refused", deployment_environment="production", pool="deploy")
    running = stage.dispatch("holds the narrow pool", UNFINISHED, "narrow")
    stage.reached(running, "running")
    waiting = stage.dispatch("waits", UNFINISHED, "narrow")
    stage.until(lambda: stage.job(waiting)["wait"] is not None)
    yield {"finished": finished, "running": running, "waiting": waiting}
    for job_id in (waiting, running):
        stage.cancel(job_id)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(stage, look, jobs, theme, size):
    sight = look(stage, theme=theme, size=size, reduced_motion="reduce")
    page = sight.sign_in()
    broken = {}
    for route in (*VIEWS, *(f"jobs/{job_id}" for job_id in jobs.values())):
        sight.turn(route)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        if "/" in route:
            page.locator(".wf-line").first.wait_for()
            page.get_by_role("button", name="policy").first.click()
        found = Axe().run(page, options=RULES).response["violations"]
        if found:
            broken[route] = [
                (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found
            ]
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            broken[f"{route} is wider than the screen"] = wide
    assert broken == {}


def test_the_frame_has_landmarks_and_one_heading(stage, look):
    sight = look(stage)
    page = sight.go()
    for role in ("banner", "navigation", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    for route in VIEWS:
        sight.turn(route)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("link", name="Approvals")).to_have_attribute("aria-current", "page")
    assert page.locator("#say").get_attribute("aria-live") == "polite"


def test_nothing_moves_for_who_asked_for_less_motion(stage, look):
    assert look(stage, reduced_motion="reduce").go().evaluate(MOVING) == 0
    assert look(stage, reduced_motion="no-preference").go().evaluate(MOVING) > 0


def test_a_chosen_theme_is_kept(stage, look):
    sight = look(stage, theme="light")
    page = sight.go()
    light = page.evaluate("getComputedStyle(document.body).color")
    page.get_by_label("Theme").select_option("dark")
    assert page.evaluate("getComputedStyle(document.body).color") != light
    page.reload()
    expect(page.get_by_label("Theme")).to_have_value("dark")
    assert page.evaluate("getComputedStyle(document.body).color") != light


def test_times_are_told_in_the_readers_zone(stage, look):
    job_id = stage.run("when")
    sight = look(stage, timezone_id="Asia/Tokyo")
    page = sight.go(f"jobs/{job_id}")
    expect(page.get_by_role("contentinfo")).to_contain_text("Asia/Tokyo")
    offered = sight.card("About").locator("time").first
    utc, shown = offered.get_attribute("datetime"), offered.inner_text()
    assert utc is not None
    assert int(shown[-8:-6]) == (int(utc[11:13]) + 9) % 24
    assert "GMT+9" in (offered.get_attribute("title") or "")
