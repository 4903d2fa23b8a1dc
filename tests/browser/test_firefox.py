"""Each view once in another engine than that of all other tests here. What it logs as an error, or
the page's own policy refuses, fails the test."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from firefox import Firefox, executable, launched
from sight import DESKTOP, PHONE, VIEWS
from stage import UNFINISHED, Stage

TITLES = ("Overview", "Jobs", "Activity", "Pools", "Sources", "Approvals")
SHOWN = ("ended", "release", "admission", "narrow", "Jobs come by dispatch alone", "carol")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One of its own: others count what waits for a person on theirs."""
    with Stage(tmp_path_factory.mktemp("firefox")) as made:
        made.ask_for_exception()
        yield made


@pytest.fixture(scope="module")
def firefox(stage: Stage) -> Iterator[Firefox]:
    """Signed in as the operator of this machine."""
    program = executable()
    if program is None:
        said = "NOT TESTED: the page in Firefox, which is not here (Debian: apt-get install firefox-esr)"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(said)
        pytest.skip(said)
    with launched(program) as started:
        started.size(*DESKTOP)
        started.go(stage.link())
        started.until("document.querySelector('.who')?.textContent.includes('operator')")
        yield started


@pytest.fixture
def faultless(firefox: Firefox) -> Iterator[Firefox]:
    firefox.faults.clear()
    yield firefox
    refused = firefox.run("JSON.stringify(window.refusedByPolicy)")
    assert (firefox.faults, refused) == ([], "[]")


def turn(firefox: Firefox, route: str, title: str) -> None:
    firefox.run(f"location.hash = {json.dumps(f'#/{route}')}")
    firefox.until(f"document.querySelector('h1')?.textContent === {json.dumps(title)}")
    firefox.until("document.documentElement.dataset.live === 'live'")
    firefox.until("![...document.querySelectorAll('.empty')].some(one => one.textContent.startsWith('Loading'))")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_each_view_is_whole(stage: Stage, faultless: Firefox, size: tuple[int, int]) -> None:
    job_id = stage.run("release", stage.release)
    faultless.size(*size)
    for route, title, words in zip(VIEWS, TITLES, SHOWN, strict=True):
        turn(faultless, route, title)
        faultless.until(f"document.querySelector('main').textContent.includes({words!r})")
        _fits(faultless, route)
    turn(faultless, f"jobs/{job_id}", "release")
    faultless.until("document.querySelectorAll('.wf-line').length > 10")
    faultless.until("document.querySelector('main').textContent.includes('configure ok')")
    for title in ("Decisions", "Tokens", "Egress", "Artifacts", "Receipt"):
        assert faultless.run(f"[...document.querySelectorAll('h2')].some(one => one.textContent === {title!r})"), title
    _fits(faultless, "job")


def _fits(firefox: Firefox, view: str) -> None:
    wide = firefox.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, f"{view} is wider than the screen"


def test_what_happens_is_seen_and_an_operator_acts(stage: Stage, faultless: Firefox) -> None:
    faultless.size(*DESKTOP)
    turn(faultless, "jobs", "Jobs")
    job_id = stage.dispatch("comes while firefox looks", UNFINISHED)
    link = f"document.querySelector('a[href$={json.dumps(job_id)}]')"
    faultless.until(link)
    stage.reached(job_id, "running")
    faultless.until(f"{link}.closest('[role=row]').textContent.includes('Running')")
    faultless.run(f"{link}.focus()")
    faultless.press("\ue007")  # Enter (WebDriver, section 17.4.2)
    faultless.until("document.querySelector('h1')?.textContent === 'comes while firefox looks'")
    button = "[...document.querySelectorAll('button')].find(one => one.textContent === {!r})"
    faultless.until(button.format("Cancel job"))
    faultless.run(button.format("Cancel job") + ".click()")
    faultless.run(button.format("Yes, cancel it") + ".click()")
    stage.reached(job_id, "finished")
    faultless.until("document.querySelector('.job-title .badge')?.textContent === 'Cancelled'")
    assert stage.job(job_id)["cancel"]["by"].startswith("local operator")
