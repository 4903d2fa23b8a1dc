"""The list of jobs: filters that are part of the address, the keyboard, names that want to be markup."""

from __future__ import annotations

import re

from playwright.sync_api import expect

HOSTILE = "<img src=x onerror=document.title='owned'>"
TURNED = "\u202e\u061c\u200bgpj.exe"
"""Shown backwards by whoever obeys it."""


def test_filters_are_part_of_the_address(stage, look):
    stage.run("find this one")
    stage.run("red one", "exit 3")
    sight = look(stage)
    page = sight.go("jobs")
    page.get_by_role("searchbox", name="Search").fill("find this")
    expect(sight.row("find this one")).to_be_visible()
    expect(sight.row("red one")).to_have_count(0)
    expect(page).to_have_url(re.compile("q=find"))
    page.reload()
    expect(sight.row("find this one")).to_be_visible()
    expect(sight.row("red one")).to_have_count(0)

    page.get_by_role("searchbox", name="Search").fill("")
    page.get_by_role("button", name=re.compile("^Failed")).click()
    expect(sight.row("red one")).to_be_visible()
    expect(sight.row("find this one")).to_have_count(0)
    page.get_by_label("Pool").select_option("deploy")
    expect(page.get_by_text("No job fits.")).to_be_visible()


def test_the_keyboard_walks_the_list_and_opens_a_job(stage, look):
    for number in range(3):
        stage.run(f"walk {number}")
    page = look(stage).go("jobs?q=walk")
    grid = page.get_by_role("grid", name="Jobs")
    expect(grid.get_by_role("link")).to_have_count(3)
    page.get_by_label("Pool").focus()
    for _ in range(12):  # past the states' buttons
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.line-link')"):
            break
    expect(grid.get_by_role("link", name="walk 2")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(grid.get_by_role("link", name="walk 1")).to_be_focused()
    page.keyboard.press("End")
    expect(grid.get_by_role("link", name="walk 0")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("walk 2")
    assert page.evaluate("document.activeElement.id") == "main"
    page.go_back()
    expect(grid).to_be_visible()


def test_the_skip_link_comes_first_and_leads_to_the_content(stage, look):
    page = look(stage).go()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_what_others_wrote_is_never_markup(stage, look):
    """Names are held to a grammar; reasons, output and what a policy says are anybody's words."""
    job_id = stage.dispatch("hostile words", f"echo \"{HOSTILE}\"; printf '\\033[31mred\\033[0m\\n'; sleep 600")
    stage.until(lambda: b"red" in stage.log(job_id))
    stage.cancel(job_id, HOSTILE + TURNED)
    stage.reached(job_id, "finished")
    sight = look(stage)
    page = sight.go(f"jobs/{job_id}")
    expect(sight.card("About")).to_contain_text(HOSTILE + "\ufffd\ufffd\ufffdgpj.exe")
    expect(page.get_by_role("region", name="Why")).to_contain_text(HOSTILE)
    log = page.get_by_role("log", name="The job's output")
    expect(log).to_contain_text(HOSTILE)
    expect(log).to_contain_text("\nred\n")
    sight.turn("jobs?q=hostile")
    expect(sight.row("hostile words")).to_contain_text(HOSTILE)
    assert page.locator("img").count() == 0
    assert page.title() == "Jobs · Orchestrator"
