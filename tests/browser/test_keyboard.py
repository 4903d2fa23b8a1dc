"""Keyboard alone: what has it can be seen, on a desk, on a phone, and enlarged; and colours that somebody forces."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sight import DESKTOP, PHONE, VIEWS
from stage import UNFINISHED

ENLARGED = (640, 430)
"""A desk's screen at 200 %."""
MOST_STOPS = 150

STOP = """() => {
  const one = document.activeElement;
  if (!one || one === document.body || walked.has(one)) return null;
  walked.add(one);
  const name = `${one.tagName} ${(one.getAttribute("aria-label") ?? one.textContent).trim().slice(0, 40)}`;
  const box = one.getBoundingClientRect();
  const has = (style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const ringed = (at) => at && (has(getComputedStyle(at)) || ringed(at.parentElement));
  const ring = Boolean(ringed(one));
  const middle = box.left + box.width / 2;
  const points = [.1, .5, .9].map((part) => document.elementFromPoint(middle, box.top + box.height * part));
  const covered = points.every((over) => over && over !== one && !one.contains(over) && !over.contains(one));
  return { name, ring, out: points.every((over) => over === null), covered };
}"""


@pytest.fixture(scope="module")
def jobs(stage):
    """Enough of them that each view is longer than a screen."""
    finished = [stage.run(f"release {number}", stage.release) for number in range(3)]
    running = stage.dispatch("runs", UNFINISHED)
    stage.reached(running, "running")
    yield finished[0], running
    stage.cancel(running)


def walk(page: Page, key: str) -> list[str]:
    """What is wrong with the stops of one way through the page."""
    wrong: list[str] = []
    page.evaluate("() => { window.walked = new Set(); }")
    for _ in range(MOST_STOPS):
        page.keyboard.press(key)
        stop = page.evaluate(STOP)
        if stop is None:
            return wrong
        wrong += [f"{key} {stop['name']}: {what}" for what in ("out", "covered") if stop[what]]
        wrong += [] if stop["ring"] else [f"{key} {stop['name']}: no ring"]
    raise AssertionError("there is no end of it")


@pytest.mark.parametrize("size", [DESKTOP, PHONE, ENLARGED], ids=["desktop", "phone", "enlarged"])
def test_what_has_the_keyboard_is_seen(stage, look, jobs, size):
    sight = look(stage, size=size, reduced_motion="reduce")
    page = sight.sign_in()
    wrong = {}
    for route in (*VIEWS, *(f"jobs/{job_id}" for job_id in jobs)):
        sight.turn(route)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        page.evaluate("document.activeElement.blur()")
        found = walk(page, "Tab") + walk(page, "Shift+Tab")
        if found:
            wrong[route] = found
    assert wrong == {}


LOOKS = """selector => [...document.querySelectorAll(selector)].map((one) =>
  [getComputedStyle(one).backgroundColor, getComputedStyle(one).color])"""
HIGHLIGHT = """() => {
  const one = document.body.appendChild(document.createElement("p"));
  Object.assign(one.style, { forcedColorAdjust: "none", background: "Highlight", color: "HighlightText" });
  const { backgroundColor, color } = getComputedStyle(one);
  one.remove();
  return [backgroundColor, color];
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_forced_colours_leave_what_is_chosen_to_be_seen(stage, look, jobs, theme):
    """They take away every background of ours: weight of letters alone would be all that is left."""
    sight = look(stage, theme=theme, forced_colors="active")
    page = sight.sign_in()
    sight.turn("jobs")
    page.get_by_role("button", name="Running").click()
    highlight, text = page.evaluate(HIGHLIGHT)
    assert page.evaluate(LOOKS, ".chip[aria-pressed=true]") == [[highlight, text]]
    assert page.evaluate(LOOKS, ".nav a[aria-current]") == [[highlight, text]]
    others = page.evaluate(LOOKS, ".chip[aria-pressed=false], .nav a:not([aria-current])")
    assert highlight not in [background for background, _ in others]
    sight.turn(f"jobs/{jobs[0]}")
    page.get_by_role("button", name="Whole job").first.wait_for()
    assert page.evaluate(LOOKS, ".segments [aria-pressed=true]") == [[highlight, text]]
    sight.turn("pools")
    page.locator(".meter").first.wait_for()
    border = "getComputedStyle(document.querySelector('.meter')).borderTopStyle"
    assert page.evaluate(border) == "solid", "how much of a pool is free"
