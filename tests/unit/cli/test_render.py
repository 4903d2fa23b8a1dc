"""What people see: values in place, bars on scale, and nothing that a job's texts could do to the terminal."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from orchestrator.cli import render

MS = 1_000_000
NOW = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)


def text_of(renderable, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 µs"), (0.00074, "740 µs"), (0.9996, "1.00 s"), (0.012, "12 ms"), (3.417, "3.42 s"), (59.999, "1m 00s"),
     (125, "2m 05s"), (3599.9, "1h 00m"), (11040, "3h 04m"), (183600, "2d 03h"), (-1, "-1.00 s")],
)  # fmt: skip
def test_durations(seconds, shown):
    assert render.duration(seconds) == shown


def test_short_ids_are_beginnings_that_commands_take():
    assert render.short_id("dispatch.0123456789abcdef.1") == "0123456789ab"
    assert render.short_id("dispatch.0123456789abcdef.2") == "dispatch.0123456789abcdef.2"


def test_the_job_table(make_view):
    jobs = [
        make_view("dispatch.0123456789abcdef.1", phase="waiting", why={"reason": "pool_full", "sentence": "It waits."}),
        make_view("dispatch.0123456789abcdea.1", phase="running", why={"reason": "running", "sentence": "It runs."}),
        make_view(result="denied", reason="policy_denied", finished_at="2026-01-02T03:04:07Z", pipeline="p", why=None),
    ]
    first, runs, second = text_of(render.job_table(jobs, NOW)).splitlines()[1:]
    assert first.split() == ["0123456789ab", "build", "default", "waiting", "pool_full", "1m"]
    assert runs.split() == ["0123456789ab", "build", "default", "running", "1m"], "its state says it already"
    assert second.split() == ["aa11bb22cc33", "build", "default", "p", "denied", "policy_denied", "1m", "2.00", "s"]


@pytest.mark.parametrize("width", [40, 60, 79])
def test_a_narrow_job_table_keeps_which_job_it_is_and_how_it_stands(make_view, width):
    jobs = [
        make_view(
            "dispatch.0123456789abcdef.1", phase="waiting", pipeline="a-long-pipeline", name="n" * 70,
            why={"reason": "pool_full", "sentence": "It waits."},
        ),
        make_view(result="denied", reason="policy_denied", finished_at="2026-01-02T03:04:07Z"),
    ]  # fmt: skip
    lines = text_of(render.job_table(jobs, NOW, width), width).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert re.match(r"0123456789ab nnnn\S+ +waiting +(pool_full +)?1m", lines[1]), (
        "an id that commands take, and a name"
    )
    assert re.match(r"aa11bb22cc33 build +denied", lines[2])
    assert ("policy_denied" in lines[2]) is ("pool_full" in lines[1]) is (width >= 60)


def test_the_whole_job(make_view):
    view = make_view(
        result="failure", reason="exit_nonzero", exit_code=3, wait={"reason": "pool_full", "detail": ""},
        decisions=[
            {"id": "d", "stage": "exchange", "audience": "sts.example", "verdict": "deny", "engine": "regorus",
             "bundle_digest": "sha256:" + "c" * 64, "reasons": [{"code": "prod_branch", "message": "main only"}],
             "observed": [{"code": "scan_stale", "message": "scan it again"}],
             "waivers": [{"exception": "sha256:ee", "codes": ["ticket_unfit", "sbom_unfit"]}],
             "obligations": {}},
            {"id": "e", "stage": "admission", "audience": "", "verdict": "allow", "reasons": [],
             "obligations": {"egress": ["tls://a.example:443"], "max_duration_seconds": 90,
                             "session_tags": {"k": "v"}}},
        ],
        tokens=[{"jti": "j" * 32, "audience": "sts.example", "subject": "s", "algorithm": "RS256", "key_id": "k",
                 "issued_at": 1000, "expires_at": 1300, "session_tags": []}],
        token_refusals=[{"audience": "other.example", "reason": "audience_not_allowed"}],
        egress=[
            {"host": "a.example", "port": 443, "protocol": "tls", "allowed": True, "rule": "tls://a.example:443",
             "bytes_up": 10, "bytes_down": 2048, "duration_ns": 5_000_000, "address": "192.0.2.1"},
            {"host": "169.254.169.254", "port": 80, "protocol": "http", "allowed": False, "rule": "",
             "reason": "address_forbidden", "canary": True},
            {"host": "flood.example", "port": 443, "protocol": "tls", "allowed": False, "rule": "",
             "reason": "host_not_listed", "connections": 4000},
        ],
        egress_omitted=7,
        artifacts=[{"name": "w.whl", "digest": "sha256:" + "d" * 64, "size_bytes": 1536}],
        alarms=[{"alarm": "teardown_stuck", "detail": "mount"}], leftovers=["mount x"],
        log={"bytes_kept": 2048, "bytes_dropped": 1, "secrets_masked": 2},
    )  # fmt: skip
    shown = text_of(render.job_detail(view))
    for words in (
        "pool_full", "deny", "exchange for sts.example", "main only [prod_branch]", "may reach tls://a.example:443",
        "at most 1m 30s", "tags k=v", "issued", "5m 00s", "00:21:40Z", "audience_not_allowed", "allowed", "2.0 KiB",
        "http://169.254.169.254:80", "address_forbidden (canary)", "host_not_listed ×4000", "and 7 more", "w.whl",
        "1.5 KiB", "teardown_stuck: mount", "only watched: scan it again [scan_stale]",
        "set aside by exception sha256:ee: ticket_unfit, sbom_unfit",
        "mount x", "2 secrets masked", "exit code", "bundle cccccccccccc",
    ):  # fmt: skip
        assert words in shown, words


def test_what_became_of_a_third_party_s_token_stands_before_it(make_view):
    token = {"jti": "j", "audience": "github:acme", "subject": "s", "algorithm": "", "kind": "github_installation",
             "issued_at": 1000, "expires_at": 1300}  # fmt: skip
    fates = ({}, {"not_made": True}, {"revoked_at": "2026-01-02T03:04:07Z"})
    shown = text_of(render.job_detail(make_view(tokens=[token | fate for fate in fates])))
    assert re.findall(r"(\w[\w ]*?) +github:acme", shown) == ["issued", "not made", "revoked"]


def test_sections_that_have_nothing_to_say_are_absent(make_view):
    view = make_view()
    sections = (render.decisions(view), render.tokens(view), render.egress_verdicts(view), render.artifacts(view))
    assert sections == (None, None, None, None)


def test_a_job_that_its_platform_names_shows_what_the_platform_said(make_view):
    shown = {"state": "awaited", "key": "", "proof": "", "named_at": None, "result": "", "told_by": ""}
    waiting = text_of(render.job_detail(make_view(phase="running", platform_job=shown)))
    assert re.search(r"platform's job +awaited\n", re.sub(r" +\n", "\n", waiting))
    assert "platform says" not in waiting
    shown |= {"state": "completed", "key": "github.com/1/2/1/3", "result": "succeeded", "told_by": "message"}
    ended = text_of(render.job_detail(make_view(platform_job=shown)))
    assert re.search(r"platform's job +completed \(github.com/1/2/1/3\)", ended)
    assert re.search(r"platform says +succeeded \(message\)", ended)


def test_texts_are_neither_markup_nor_control(make_view):
    evil = "[bold]x[/bold]\x1b[2J\n\u202e[link=http://e]"
    view = make_view(
        name=evil, message=evil, pool=evil, result="denied", reason=evil, caller={"issuer": evil, "subject": evil,
        "facts": {evil: evil}}, alarms=[{"alarm": evil, "detail": evil}], leftovers=[evil],
        decisions=[{"stage": evil, "audience": evil, "verdict": evil, "reasons": [{"code": evil, "message": evil}]}],
        artifacts=[{"name": evil, "digest": evil}], token_refusals=[{"audience": evil, "reason": evil}],
        egress=[{"host": evil, "port": 1, "protocol": evil, "allowed": False, "reason": evil}],
    )  # fmt: skip
    for shown in (text_of(render.job_detail(view)), text_of(render.job_table([view], NOW))):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", shown)
        assert "[bold]x[/bold]" in shown


def span(span_id: str, parent: str | None, start: int, end: int | None, **more):
    return {"name": span_id, "span_id": span_id, "parent_span_id": parent, "start_ns": start, "end_ns": end,
            "status": "ok", "attributes": {}, "events": []} | more  # fmt: skip


def test_the_waterfall_puts_spans_under_their_parents_on_one_scale():
    trace = {"trace_id": "t", "spans": [
        span("late", "root", 500 * MS, 1000 * MS, status="error", attributes={"error.type": "exit_nonzero"}),
        span("root", None, 0, 1000 * MS),
        span("early", "root", 0, 250 * MS, events=[{}, {}]),
        span("inner", "early", 125 * MS, 250 * MS),
    ]}  # fmt: skip
    lines = text_of(render.waterfall(trace, bar_width=8, ascii_only=True)).splitlines()
    assert [line.rstrip() for line in lines] == [
        "root       ########  1.00 s",
        "  early    ##        250 ms  2 events",
        "    inner   #        125 ms",
        "  late         ####  500 ms  exit_nonzero",
    ]


def test_an_open_span_reaches_to_the_newest_time_known():
    trace = {"spans": [span("root", None, 0, 10**9), span("open", "root", 5 * 10**8, None)]}
    shown = text_of(render.waterfall(trace, bar_width=10))
    assert "500 ms…" in shown
    assert " " * 5 + "█" * 5 in shown


def test_of_a_job_that_goes_on_open_spans_reach_to_now():
    """Nothing is recorded of a job that waits: its wait is no shorter for it."""
    waits = {"spans": [span("root", None, 0, None), span("wait", "root", 10**9, None)]}
    assert text_of(render.waterfall(waits, now_ns=61 * 10**9)).count("1m 00s…") == 1
    assert "1m 01s…" in text_of(render.waterfall(waits, now_ns=61 * 10**9))
    assert text_of(render.waterfall(waits, now_ns=5)) == text_of(render.waterfall(waits)), "a clock that is behind"
    over = {"spans": [span("root", None, 0, 10**9), span("left", "root", 5 * 10**8, None)]}
    assert text_of(render.waterfall(over, now_ns=61 * 10**9)) == text_of(render.waterfall(over))


def test_bars_are_drawn_in_eighths_and_never_vanish():
    trace = {"spans": [span("root", None, 0, 8_000), span("a", "root", 0, 1), span("b", "root", 7_999, 8_000)]}
    lines = text_of(render.waterfall(trace, bar_width=10)).splitlines()
    assert "█" * 10 in lines[0]
    assert "▏" in lines[1]
    assert "▏" in lines[2]


def test_too_many_spans_are_counted():
    trace = {"spans": [span(str(number), None, number, number + 1) for number in range(250)]}
    assert "and 50 more spans" in text_of(render.waterfall(trace))
    assert "no spans yet" in text_of(render.waterfall({"spans": []}))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(0, 100), st.none() | st.integers(0, 100)
        ),
        max_size=20,
    )
)
def test_any_tree_ring_or_tangle_shows_each_span_once(shape):
    spans = [span(f"s{a}", None if b is None else f"s{b}", start, end) for a, b, start, end in shape]
    shown = text_of(render.waterfall({"spans": spans}, bar_width=10), width=200)
    assert sum(bool(re.match(r" *s\d ", line)) for line in shown.splitlines()) == len(spans)
