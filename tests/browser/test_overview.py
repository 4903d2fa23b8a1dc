"""What waits and why, what runs: as it happens."""

from __future__ import annotations

import re

from playwright.sync_api import expect
from stage import UNFINISHED


def test_what_waits_says_why_and_goes_on_by_itself(stage, look):
    holder = stage.dispatch("holds the pool", UNFINISHED, "narrow")
    stage.reached(holder, "running")
    waiting = stage.dispatch("waits for the pool", "echo ok", "narrow")
    stage.until(lambda: stage.job(waiting)["wait"] is not None)
    sight = look(stage)
    page = sight.go()
    card = sight.card("Waiting, and why")
    expect(card).to_contain_text("The pool is full")
    expect(card.get_by_role("link", name="waits for the pool")).to_be_visible()
    expect(sight.card("Now").get_by_role("link", name="holds the pool")).to_be_visible()
    meter = page.get_by_role("meter", name="Pool narrow")
    expect(meter).to_have_attribute("aria-valuetext", "1 of 1")

    stage.cancel(holder)
    expect(card.get_by_role("link", name="waits for the pool")).to_have_count(0)
    expect(meter).to_have_attribute("aria-valuetext", "0 of 1")
    stage.reached(waiting, "finished")
    expect(page.get_by_role("list", name="Results of the last hour")).to_contain_text("cancelled")


def test_a_phase_leads_to_its_jobs(stage, look):
    held = stage.dispatch("runs for a while", UNFINISHED)
    stage.reached(held, "running")
    sight = look(stage)
    page = sight.go()
    page.get_by_role("list", name="Jobs by phase").get_by_role("link", name=re.compile("Running")).click()
    expect(page).to_have_url(re.compile("#/jobs\\?state=running$"))
    expect(sight.row("runs for a while")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Running"))).to_have_attribute("aria-pressed", "true")
    stage.cancel(held)


def test_a_drain_is_told_once_and_not_as_an_end(own_stage, look):
    stage = own_stage()
    sight = look(stage)
    page = sight.go()
    notice = page.locator("#notice")
    stage.command("drain")
    expect(notice).to_contain_text("The daemon begins no job now; those that run go on.")
    expect(page.get_by_role("list", name="Needs attention")).to_have_count(0)
    stage.command("drain", "--resume")
    expect(notice).to_be_empty()
