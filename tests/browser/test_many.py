"""Ten thousand unfinished jobs: few elements, short frames, bounded memory, and any of them found at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect
from sight import PHONE
from stage import UNFINISHED

MANY = 10_000
MOST_ELEMENTS = 1500
MOST_HEAP = 150 << 20
LONGEST_FRAME_MS = 250
"""Of a machine that draws without a graphics processor, and runs the daemon besides."""
TRIES = 4
"""What is measured counts by its best: a machine that has something else to do is slow at any page."""

FRAMES = """async () => {
  const list = document.querySelector(".list-scroll");
  list.scrollTop = 0;
  const step = list.scrollHeight / 60;
  const took = [];
  let before = performance.now();
  for (let number = 0; number < 60; number += 1) {
    list.scrollTop += step;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    took.push(now - before);
    before = now;
  }
  return took.sort((a, b) => a - b);
}"""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    from stage import Stage

    with Stage(tmp_path_factory.mktemp("crowd")) as stage:
        first = stage.dispatch("the very first", UNFINISHED, "narrow")
        stage.reached(first, "running")
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: stage.dispatch(f"job {number:05}", UNFINISHED, "narrow"), range(MANY)))
        yield stage


@pytest.mark.timeout(400)
def test_ten_thousand_jobs_are_a_list_like_any_other(crowd, look):
    sight = look(crowd)
    begun = time.monotonic()
    page = sight.go("jobs")
    grid = page.get_by_role("grid", name="Jobs")
    expect(grid).to_have_attribute("aria-rowcount", str(MANY + 2))
    print(f"seconds_to_live: {round(time.monotonic() - begun, 2)}")
    assert page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS
    assert page.evaluate("performance.memory.usedJSHeapSize") < MOST_HEAP

    for _ in range(TRIES):
        frames = page.evaluate(FRAMES)
        if frames[-1] < LONGEST_FRAME_MS:
            break
    print(f"median_frame_ms: {round(frames[30], 1)}")
    print(f"longest_frame_ms: {round(frames[-1], 1)}")
    assert frames[30] < LONGEST_FRAME_MS / 4
    assert frames[-1] < LONGEST_FRAME_MS
    expect(sight.row("the very first")).to_be_visible()
    assert page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS

    page.get_by_role("searchbox", name="Search").fill("job 07777")
    expect(sight.row("job 07777")).to_be_visible()
    expect(grid).to_have_attribute("aria-rowcount", "2")
    search = """() => { const box = document.querySelector("#find"); const before = performance.now();
        box.value = "job 0"; box.dispatchEvent(new Event("input")); return performance.now() - before; }"""
    found = min(page.evaluate(search) for _ in range(TRIES))
    print(f"search_ms: {round(found, 1)}")
    assert found < LONGEST_FRAME_MS


@pytest.mark.timeout(400)
def test_the_overview_sums_them_up(crowd, look):
    sight = look(crowd, size=PHONE)
    page = sight.go()
    card = sight.card("Waiting, and why")
    expect(card).to_contain_text(f"{MANY:,}")
    expect(card).to_contain_text("The pool is full")
    assert page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS


@pytest.mark.timeout(400)
def test_a_wave_of_changes_is_drawn_a_few_times(crowd, look):
    """Each change is pushed; the page draws at most a few times a second, and stays at its size."""
    sight = look(crowd)
    page = sight.go("jobs")
    page.evaluate(
        """() => { window.draws = 0; new MutationObserver(() => { window.draws += 1; })
        .observe(document.querySelector(".list-total"), {childList: true, characterData: true, subtree: true}); }"""
    )
    ids = [row["id"] for row in crowd.ask("GET", "/v1/live/jobs?limit=500")["rows"] if row["phase"] == "waiting"]
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(crowd.cancel, ids))
    chip = page.get_by_role("button", name="Cancelled")
    expect(chip).to_contain_text(str(len(ids)), timeout=60_000)
    took = time.monotonic() - begun
    assert page.evaluate("window.draws") <= 4 * took + 4
    assert page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS
