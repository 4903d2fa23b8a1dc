"""One job: its waterfall as its trace, what it was allowed, its output, and its cancellation."""

from __future__ import annotations

import json
import re

from playwright.sync_api import expect
from stage import CACHE, DEPLOY, HOST, UNFINISHED


def test_everything_about_a_finished_job(stage, look):
    job_id = stage.run("release", stage.release)
    sight = look(stage)
    page = sight.go(f"jobs/{job_id}")
    job, trace = stage.job(job_id), stage.ask("GET", f"/v1/jobs/{job_id}/trace")
    assert job["result"] == "success", stage.command("logs", job_id)
    waterfall = page.get_by_role("table", name="Waterfall of the job's phases")
    expect(waterfall.get_by_role("rowheader")).to_have_count(len(trace["spans"]))
    shown = [text.strip() for text in waterfall.get_by_role("rowheader").all_inner_texts()]
    assert sorted(shown) == sorted(["Whole job", *(span["name"] for span in trace["spans"][1:])])
    waterfall.get_by_role("button", name="policy").click()
    expect(waterfall).to_contain_text("known_caller")

    expect(sight.card("Decisions")).to_contain_text("The caller is known, and asks for nothing that needs approval.")
    expect(sight.card("Decisions")).to_contain_text("Only jobs that deploy to staging get tokens")
    tokens = sight.card("Tokens")
    expect(tokens.get_by_role("table", name="Tokens", exact=True)).to_contain_text(CACHE)
    expect(tokens).to_contain_text("Refused since the job's end")
    expect(tokens.get_by_role("table", name="Tokens refused")).to_contain_text(DEPLOY)
    egress = sight.card("Egress")
    expect(egress.get_by_role("row").filter(has_text=HOST)).to_contain_text("Let out")
    expect(egress.get_by_role("row").filter(has_text="telemetry.example")).to_contain_text("Refused")
    expect(egress).to_contain_text("Proof: refused")
    expect(sight.card("Artifacts").get_by_role("row").filter(has_text="site.tar")).to_contain_text("Provenance")
    expect(page.get_by_role("log", name="The job's output")).to_contain_text("+ build\nconfigure ok\n")
    with page.expect_download() as waited:
        sight.card("Receipt").get_by_role("button", name="Download").click()
    receipt = json.loads(waited.value.path().read_text())
    assert receipt["payloadType"] == "application/vnd.in-toto+json"
    assert receipt == stage.ask("GET", f"/v1/jobs/{job_id}/receipt")
    broken = "[...document.querySelectorAll('.digest')].filter((one) => one.getClientRects().length > 1).length"
    assert page.evaluate(broken) == 0, "a digest is one word"


def test_a_runner_that_starts_shows_how_far_it_is_before_any_fact_tells(own_stage, look):
    stage = own_stage()
    launcher, gateway = stage.part("launcher"), stage.part("orchestrator.egress")
    launcher.suspend()
    gateway.suspend()
    try:
        job_id = stage.dispatch("starts slowly")
        page = look(stage).go(f"jobs/{job_id}")

        def bar(name):
            return (
                page.locator(".wf-line").filter(has=page.get_by_role("button", name=name, exact=True)).locator(".bar")
            )

        expect(bar("create")).to_have_attribute("data-open", "true")
        before = stage.facts(job_id)
        launcher.resume()
        expect(bar("start")).to_have_attribute("data-open", "true")
        expect(bar("create")).to_have_attribute("data-open", "false")
        assert stage.facts(job_id) == before
    finally:
        launcher.resume()
        gateway.resume()
    expect(page.locator(".job-title .badge")).to_have_text("Succeeded")
    expect(bar("start")).to_have_attribute("data-open", "false")
    expect(bar("run")).to_have_attribute("data-open", "false")


def test_a_running_job_is_followed(stage, look):
    job_id = stage.dispatch("followed", "echo first; sleep 600")
    sight = look(stage)
    page = sight.go(f"jobs/{job_id}")
    expect(page.get_by_role("log", name="The job's output")).to_contain_text("first")
    expect(page.locator(".job-title .badge")).to_have_text("Running")
    bar = page.locator(".wf-line", has_text="execute").locator(".bar")
    expect(bar).to_have_attribute("data-open", "true")
    took = page.locator(".wf-line", has_text="execute").locator(".wf-took")
    before = took.inner_text()
    expect(took).not_to_have_text(before)

    stage.cancel(job_id)
    expect(page.locator(".job-title .badge")).to_have_text("Cancelled")
    expect(page.get_by_role("table", name="Waterfall of the job's phases")).to_contain_text("teardown")
    expect(bar).to_have_attribute("data-open", "false")
    expect(sight.card("Receipt").get_by_role("button", name="Download")).to_be_visible()


def test_output_of_one_long_line_holds_up_nobody(stage, look):
    """And what was written over is not shown, as on a terminal."""
    job_id = stage.dispatch(
        "minified", "head -c 190000 /dev/zero | tr '\\0' x; printf '\\none\\r\\n10%%\\r20%%\\rdone\\n'; sleep 600"
    )
    sight = look(stage)
    page = sight.go(f"jobs/{job_id}")
    log = page.get_by_role("log", name="The job's output")
    expect(log).to_contain_text("xxx\none\ndone\n")
    text = log.inner_text()
    assert (len(text) > 190_000, "10%" in text, "20%" in text, "\ufffd" in text) == (True, False, False, False)
    stage.cancel(job_id)


def test_a_refused_job_says_why_and_what_to_do(stage, look):
    job_id = stage.run("deploy production", deployment_environment="production", pool="deploy")
    sight = look(stage)
    page = sight.go(f"jobs/{job_id}")
    why = page.get_by_role("region", name="Why")
    expect(why).to_contain_text("Nobody has approved this release for production [not_approved].")
    expect(why).to_contain_text("Next:")
    expect(page.locator(".job-title .badge")).to_have_text("Denied")
    expect(sight.card("Egress")).to_contain_text("No connection was tried.")


def test_an_operator_cancels_after_a_second_thought(stage, look):
    job_id = stage.dispatch("to be cancelled", UNFINISHED)
    stage.reached(job_id, "running")
    sight = look(stage)
    sight.sign_in()
    page = sight.turn(f"jobs/{job_id}")
    page.get_by_role("button", name="Cancel job").click()
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.get_by_role("button", name="Keep it").click()
    assert stage.job(job_id)["cancel"] is None
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Yes, cancel it").click()
    expect(page.locator(".job-title .badge")).to_have_text("Cancelled")
    assert stage.job(job_id)["cancel"]["reason"] == "cancelled on the page"


def test_no_column_is_too_narrow_for_a_word(stage, look):
    """A long sentence in one column takes the room of all others, down to a letter's width."""
    job_id = stage.run("short", pool="narrow")
    page = look(stage).go(f"jobs/{job_id}")
    page.get_by_text("Admission").wait_for()
    lines = """[...document.querySelectorAll("td > div")].filter((one) => one.childElementCount === 0
      && /^[A-Za-z]{1,10}$/.test(one.textContent)).map((one) => {
        const range = document.createRange();
        range.selectNodeContents(one);
        return [one.textContent, range.getClientRects().length];
      })"""
    found = dict(page.evaluate(lines))
    assert found["Admission"] == 1
    assert set(found.values()) == {1}


def test_a_job_that_is_not_there(stage, look):
    sight = look(stage)
    page = sight.go("jobs/dispatch.nothing.1")
    expect(page.get_by_role("alert")).to_contain_text(re.compile("no.*job", re.IGNORECASE))
    assert [fault for fault in sight.faults if "404" not in fault] == []
    sight.faults.clear()  # the browser logs each answer of 404 by itself
