"""The page beside the daemon: it says when it is not live, and finds its way back."""

from __future__ import annotations

from playwright.sync_api import expect


def test_a_killed_daemon_is_told_and_its_successor_found(own_stage, look):
    stage = own_stage(server={"port": 0})
    stage.run("before the kill")
    sight = look(stage)
    page = sight.go("jobs")
    expect(sight.row("before the kill")).to_be_visible()

    stage.kill()
    expect(page.locator(".pill")).to_have_text("Not live")
    expect(page.locator("#notice")).to_contain_text("What is shown may be old.")
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    expect(sight.row("before the kill")).to_be_visible()  # what was known stays to be read

    stage.start()
    after = stage.run("after the kill")
    sight.hurry("live")
    expect(page.locator("#notice")).to_be_empty()
    expect(sight.row("after the kill")).to_be_visible()
    assert stage.job(after)["result"] == "success"
    # The browser itself logs each request that found nobody.
    sight.faults = [fault for fault in sight.faults if "Failed to load resource: net::" not in fault]


def test_what_happens_arrives_by_itself(stage, look):
    sight = look(stage)
    page = sight.go("activity")
    lines = page.get_by_role("list", name="Activity, newest first")
    job_id = stage.run("seen as it happens", stage.release)
    mine = lines.get_by_role("listitem").filter(has=page.get_by_role("link", name="seen as it happens"))
    expect(mine.filter(has_text="the job's receipt")).to_have_count(1)
    expect(mine.filter(has_text="telemetry.example")).to_contain_text("Refused")
    expect(mine.filter(has_text="Issued")).to_contain_text("https://cache.example")
    expect(mine.filter(has_text="https://deploy.example").first).to_be_visible()

    page.get_by_role("button", name="Tokens").click()
    expect(lines.get_by_role("listitem").filter(has_text="telemetry.example")).to_have_count(0)
    expect(mine.filter(has_text="Issued")).to_have_count(1)
    page.reload()
    expect(page.get_by_role("button", name="Tokens")).to_have_attribute("aria-pressed", "true")
    mine.filter(has_text="Issued").get_by_role("link").click()
    expect(page.locator(".crumb")).to_contain_text(job_id)


def test_a_new_job_appears_in_the_list(stage, look):
    sight = look(stage)
    sight.go("jobs?q=appears")
    job_id = stage.dispatch("appears by itself")
    expect(sight.row("appears by itself")).to_contain_text("Succeeded")
    assert stage.job(job_id)["result"] == "success"


def test_nothing_comes_from_elsewhere(stage, look):
    """No request to any other origin, and no answer of the page without its policy."""
    sight = look(stage)
    asked: list[str] = []
    sight.page.on("request", lambda request: asked.append(request.url))
    for route in ("", "jobs", "activity", "pools", "sources", "approvals"):
        sight.go(route, live=False)
        sight.page.reload()
        sight.live()
    assert asked
    assert {url.partition("#")[0].startswith(stage.url + "/") for url in asked} == {True}
    answer = sight.page.request.get(stage.url + "/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
