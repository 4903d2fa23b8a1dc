"""`orchestrator top`: one screen that says what is going on, also when the daemon does not answer."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli.exits import AnswerError, UnreachableError
from orchestrator.cli.operations import top
from orchestrator.cli.render.top import Look, top_screen
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.server.page.live_shapes import JobRow, OverviewView
from orchestrator.server.sources.handlers import source_view
from orchestrator.server.views import pool_view
from orchestrator.testing.sources import source_state

NOW = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)
AT = "2026-01-02T03:04:05.000000Z"


def row(number: int, phase: str, why: str = "", **more: Any) -> dict[str, Any]:
    return {
        "id": f"dispatch.{number:04d}{'f' * 12}.1", "name": f"job-{number}", "pool": "default", "source": "dispatch",
        "pipeline": "", "attempt": 1, "phase": phase, "wait": None, "why": why, "result": None, "reason": None,
        "offered_at": f"2026-01-02T03:04:{number % 60:02d}.000000Z", "since": AT, "finished_at": None, "runner": None,
    } | more  # fmt: skip


def over(number: int) -> dict[str, Any]:
    at = f"2026-01-02T03:04:{number:02d}.000000Z"
    return row(number, "finished", result="failure", reason="exit_nonzero", finished_at=at)


def overview(**more: Any) -> dict[str, Any]:
    pool = Pool("default", "sandbox", TrustTier.STANDARD, 2, "host-toolchain", "namespaces")  # type: ignore[arg-type]
    ages = {"oldest_wait_since": AT, "oldest_wait_seconds": 60.0}
    return {
        "at": AT, "version": "0.1.0", "instance": "abc", "draining": False,
        "checks": {"journal": "ok", "intake": "ok"},
        "counts": {"queued": 0, "waiting": 2, "provisioning": 0, "binding": 0, "running": 1, "teardown": 0},
        "finished_last_hour": {"success": 12, "failure": 1, "error": 0},
        "pools": [pool_view(pool, 2, 2) | ages], "sources": [], "approvals_waiting": None, "alarms": [],
    } | more  # fmt: skip


ROWS = [over(7), row(3, "waiting", "The job waits for a place."), row(2, "waiting"), over(9), row(1, "running")]


def drawn(look: Look, height: int = 0, trouble: str = "", width: int = 140) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(top_screen(look, NOW, width, height, trouble))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def busy(local_daemon):
    local_daemon.documents["/v1/overview"] = overview()
    local_daemon.documents["/v1/live/jobs"] = {"rows": ROWS, "next": None, "seq": 9}
    return local_daemon


def test_what_these_tests_show_fits_the_schema():
    OverviewView.model_validate(overview())
    for one in ROWS:
        JobRow.model_validate(one)


def test_what_has_a_runner_comes_first_and_what_is_over_last():
    lines = drawn(Look(overview(), ROWS))
    jobs = lines[next(at for at, line in enumerate(lines) if line.startswith("STATE")) + 1 :]
    assert [line.split()[3] for line in jobs] == ["job-1", "job-2", "job-3", "job-9", "job-7"]
    assert jobs[0].split()[:3] == ["running", "1m", "0001ffffffff"]
    assert jobs[2].endswith("The job waits for a place.")
    assert jobs[3].endswith("exit_nonzero")
    assert "waiting 2" in lines[1]
    assert "last hour: 12 success, 1 failure" in lines[1]


def test_what_does_not_work_is_said_first():
    broken = overview(
        draining=True, checks={"journal": "the journal cannot store facts", "intake": "draining"},
        sources=[source_view(source_state())], approvals_waiting=2,
        alarms=[{"at": AT, "job_id": ROWS[0]["id"], "alarm": "second_claim", "detail": "uid\x1b 7"}],
    )  # fmt: skip
    text = "\n".join(drawn(Look(broken, [])))
    assert "DRAINING" in text
    assert "check journal: the journal cannot store facts" in text
    assert "check intake" not in text
    assert "set default/zt of acme: " in text
    assert "approvals waiting: 2" in text
    assert "alarm second_claim (0007ffffffff, 1m ago): uid? 7" in text
    assert drawn(Look(broken, []), trouble="the connection was lost")[0] == "NOT LIVE since 1m: the connection was lost"


@pytest.mark.parametrize("height", [12, 24, 50])
def test_ten_thousand_jobs_fit_one_screen(height: int):
    counts = {"queued": 0, "waiting": 9_999, "provisioning": 0, "binding": 0, "running": 1, "teardown": 0}
    rows = [row(number, "waiting", "w" * 500) for number in range(9_999)]
    lines = drawn(Look(overview(counts=counts), [*rows, row(5, "running")]), height, width=80)
    assert len(lines) <= height
    jobs = lines[lines.index("") + 1 :]
    shown = sum(line.startswith(("running", "waiting")) for line in jobs)
    assert lines[-1] == f"… and {10_000 - shown} more that are not finished"
    assert any(line.startswith("running") for line in lines)


@pytest.mark.parametrize(("width", "height"), [(30, 10), (40, 24), (60, 12), (80, 24), (79, 40), (200, 60)])
def test_many_pools_and_troubles_leave_room_for_jobs_on_any_screen(width: int, height: int):
    base = overview()["pools"][0]
    pools = [
        base | {"name": f"pool-{number}-with-a-name-that-is-long", "waiting": 0, "in_use": 0} for number in range(30)
    ]
    pools[17] |= {"waiting": 4}
    pools[23] |= {"guards_missing": ["NetworkPolicy runners"]}
    checks = {f"check-{number}": "it does not answer" for number in range(4)}
    look = Look(overview(pools=pools, checks=checks), [row(number, "waiting", "It waits.") for number in range(40)])
    lines = drawn(look, height, "the connection was lost", width)
    assert len(lines) <= max(height, 15)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert re.search(r"^pool-23.* 1 m", text, re.MULTILINE), "what lacks protection is seen first"
    assert re.search(r"^waiting +1m .*It waits\.|^waiting +1m .*It…", text, re.MULTILINE)
    shown = len(re.findall(r"^pool-", text, re.MULTILINE))
    assert f"… and {30 - shown} more pools" in text


def test_on_a_narrow_screen_why_a_job_waits_matters_more_than_its_id():
    lines = drawn(Look(overview(), ROWS), 24, width=60)
    assert [line.split() for line in lines if line.startswith(("POOL", "STATE"))] == [
        ["POOL", "IN", "USE", "WAITING", "OLDEST", "GUARDS"], ["STATE", "FOR", "NAME", "WHY"],
    ]  # fmt: skip
    assert lines[1] == "waiting 2   running 1   last hour: 12 success, 1 failure"
    assert any(line.endswith("The job waits for a place.") for line in lines)


def test_more_broken_things_than_fit_are_counted():
    checks = {f"check-{number}": "it does not answer" for number in range(40)}
    text = "\n".join(drawn(Look(overview(checks=checks), ROWS), 24))
    assert "… and 35 more that do not work" in text
    assert "job-1" in text


@pytest.mark.parametrize("dumb", [False, True])
def test_into_a_pipe_it_is_drawn_once(cli, busy, monkeypatch, dumb: bool):
    if dumb:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "dumb")

    def sleep(_: float) -> None:
        raise AssertionError("nobody sees a second one")

    monkeypatch.setattr("time.sleep", sleep)
    done = cli("top")
    assert done.exit_code == 0, done.output
    assert "job-1" in done.stdout
    assert "\x1b" not in done.stdout


def test_once_and_json(cli, busy):
    assert "job-1" in cli("top", "--once").stdout
    assert json.loads(cli("top", "--json").stdout) == {"overview": overview(), "jobs": ROWS}


def test_pages_are_read_until_all_that_is_unfinished_is_there(busy):
    asked: list[dict[str, str]] = []

    class Pages:
        def read(self, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
            if query is None:
                return overview()
            asked.append(dict(query))
            return {"rows": [row(len(asked), "waiting")], "next": f"{len(asked)}:x", "seq": 1}

    look = top._look(Pages())  # type: ignore[arg-type]
    assert [len(look.jobs), [query.get("after") for query in asked]] == [3, [None, "1:x", "2:x"]]


def test_rows_that_are_dear_are_asked_for_less_often_than_the_overview(monkeypatch):
    now = [100.0]
    asked: list[str] = []

    class Slow:
        def read(self, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
            asked.append(path.rpartition("/")[2])
            if query is None:
                return overview(version=f"{len(asked)}")
            now[0] += 0.3
            return {"rows": ROWS, "next": None, "seq": 1}

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    glance = top._Glance(Slow(), Look(overview(), []))  # type: ignore[arg-type]
    assert glance.again().jobs == ROWS
    for _ in range(5):
        now[0] += 0.5
        assert glance.again().jobs == ROWS
    now[0] += 0.6
    assert glance.again().overview["version"] == "8"
    assert asked == ["overview", "jobs", *["overview"] * 5, "overview", "jobs"]


def test_a_daemon_that_is_away_is_waited_for_and_one_that_refuses_is_not():
    old, new = Look(overview(), []), Look(overview(), ROWS)

    def raises(error: Exception) -> Any:
        def look() -> Look:
            raise error

        return look

    assert top._look_again(lambda: new, old) == (new, "")
    assert top._look_again(raises(UnreachableError("gone", sent=True)), old) == (old, "gone")
    assert top._look_again(raises(AnswerError("busy", status=503, reason="draining")), old) == (old, "busy")
    with pytest.raises(AnswerError):
        top._look_again(raises(AnswerError("no", status=403, reason="operators_only")), old)


def test_it_draws_until_it_is_interrupted(cli, busy, monkeypatch):
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            busy.problem = (503, {"reason": "journal_unavailable", "detail": "Try again.", "status": 503}, {})
        if len(pauses) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes it a terminal to whoever draws
    done = cli("top", "--interval", "0.2")
    assert done.exit_code == 0, done.output
    assert "NOT LIVE" in done.stdout
    assert pauses[3] >= 2 * pauses[2]
