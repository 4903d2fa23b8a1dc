import asyncio
import contextlib
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from orchestrator.daemon.notifications import NotificationDesk
from orchestrator.daemon.operations.gauges import watch_gate, watch_rooms, watch_work
from orchestrator.daemon.promotion.approvals import watch_approvals
from orchestrator.daemon.records.decision_log import watch_decisions
from orchestrator.model import events as e
from orchestrator.model.decision import CONFIGURATION, Reason, Waiver
from orchestrator.telemetry import ids
from orchestrator.telemetry.export import ExportOptions, TraceExporter
from orchestrator.telemetry.metrics import Metrics
from orchestrator.telemetry.scores.metrics import artifact_traceability, permission_scope, policy_coverage, secret_age
from orchestrator.telemetry.scores.tally import DayTally
from orchestrator.telemetry.spans import trace_of
from orchestrator.testing import stories
from orchestrator.testing.scraping import metrics, scrape
from orchestrator.testing.stories import ADMITTED, ISSUED, MARKER, MS, STARTED, T0, TO_WORK, WHOLE, facts_for, offer


def test_a_finished_job_is_counted_once_everywhere() -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), WHOLE["success"]))
    seen = scrape(registry)
    assert seen["job_offered_total", "default"] == 1
    assert seen["job_finished_total", "default", "completed", "success"] == 1
    assert seen["job_queue_duration_seconds_sum", "started", "default"] == pytest.approx(0.02)
    assert seen["job_start_duration_seconds_sum", "default"] == pytest.approx(0.05)
    assert seen["job_duration_seconds_sum", "default", "success"] == pytest.approx(0.09)
    assert seen["runner_provisioned_total", "default"] == seen["runner_destroyed_total", "default"] == 1
    assert (
        seen["policy_decision_total", "admission", "allow"] == seen["policy_decision_total", "exchange", "allow"] == 1
    )
    assert seen["policy_decision_duration_seconds_sum", "exchange"] == pytest.approx(0.002)
    assert seen["token_request_total", "issued", ""] == 1
    assert seen["egress_decision_total", "default", "not_allowed", "deny"] == 1
    assert seen["queue_depth", "default"] == 0
    assert {value for key, value in seen.items() if key[0] == "job_active"} == {0}


def test_rules_that_are_watched_or_set_aside_are_counted_by_their_codes() -> None:
    registry = metrics()
    facts = facts_for(offer(), WHOLE["success"])
    observed, waivers = (Reason("scan_stale", "x"),), (Waiver("sha256:e", ("ticket_unfit", "sbom_unfit")),)
    decision = replace(ADMITTED.decision, observed=observed, waivers=waivers)
    facts[1] = replace(facts[1], event=e.JobAdmitted(decision))
    registry.observe(facts)
    seen = scrape(registry)
    assert seen["policy_observed_total", "scan_stale", "admission"] == 1
    assert seen["policy_waived_total", "ticket_unfit", "admission"] == 1
    assert seen["policy_waived_total", "sbom_unfit", "admission"] == 1
    assert {key for key in seen if key[0] == "policy_observed_total"} == {
        ("policy_observed_total", "scan_stale", "admission")
    }


def test_a_demanded_runner_is_pending_until_its_job_is_named_and_policy_was_asked_once() -> None:
    registry = metrics()
    facts = facts_for(stories.platform_offer(), stories.PLATFORM["success"])
    admitted = replace(ADMITTED.decision, engine=CONFIGURATION)
    facts[1] = replace(facts[1], event=e.JobAdmitted(admitted))
    registry.observe(facts[:6])
    assert scrape(registry)["job_active", "pending"] == 1
    assert ("policy_decision_total", "admission", "allow") not in scrape(registry)
    registry.observe(facts[6:7])
    seen = scrape(registry)
    assert seen["job_active", "executing"] == 1
    assert seen["policy_decision_total", "admission", "allow"] == 1
    assert seen["job_naming_duration_seconds_sum", "default"] == pytest.approx(0.01)
    refused = metrics()
    refused.observe(facts_for(stories.platform_offer(), stories.PLATFORM["refused"]))
    assert scrape(refused)["policy_decision_total", "admission", "deny"] == 1


def test_phases_are_timed_by_name() -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), WHOLE["success"]))
    phases = {
        sample.labels["phase"]: sample.value
        for family in parse_plain(registry.render()[1].decode())
        for sample in family.samples
        if sample.name == "orchestrator_job_phase_duration_seconds_sum"
    }
    expected = {"queued": 1, "waiting": 1, "provisioning": 1, "binding": 2, "running": 4, "teardown": 2}
    assert phases == {phase: pytest.approx(steps / 100) for phase, steps in expected.items()}


@pytest.mark.parametrize("story", WHOLE)
def test_every_story_leaves_no_job_behind(story: str) -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), WHOLE[story]))
    seen = scrape(registry)
    assert sum(value for key, value in seen.items() if key[0] == "job_finished_total") == 1
    assert sum(value for key, value in seen.items() if key[0] == "job_queue_duration_seconds_count") == 1
    assert sum(value for key, value in seen.items() if key[0] == "job_active") == 0


def test_waiting_jobs_and_their_age_are_gauges() -> None:
    registry = metrics(now_ns=T0 + 5_000 * MS)
    registry.observe(facts_for(offer("1"), []))
    registry.observe(facts_for(offer("2"), [ADMITTED]))
    registry.observe(facts_for(offer("3"), [ADMITTED, STARTED]))
    registry.observe(facts_for(offer("4"), TO_WORK))
    seen = scrape(registry)
    assert seen["queue_depth", "default"] == 2
    assert seen["queue_oldest_age_seconds", "default"] == 5
    assert (seen["job_active", "pending"], seen["job_active", "executing"], seen["job_active", "finalizing"]) == (
        3,
        1,
        0,
    )


def test_jobs_of_an_earlier_daemon_are_followed_but_not_counted_again() -> None:
    facts = facts_for(offer(), WHOLE["success"])
    registry = metrics()
    registry.adopt([facts[:6]])
    seen = scrape(registry)
    assert seen["job_active", "executing"] == seen["job_adopted_total",] == 1
    assert seen["job_offered_total", "default"] == 0
    registry.observe(facts[6:])
    seen = scrape(registry)
    assert seen["job_duration_seconds_sum", "default", "success"] == pytest.approx(0.09)
    assert seen["job_finished_total", "default", "completed", "success"] == 1


def test_a_verdict_that_stands_for_many_connections_counts_as_many() -> None:
    registry = metrics()
    summed = e.EgressDecided("h.example", 443, "tls", False, "default deny", "host_not_listed", connections=4000)
    registry.observe(facts_for(offer(), [*TO_WORK, summed]))
    assert scrape(registry)["egress_decision_total", "default", "host_not_listed", "deny"] == 4000


def test_nothing_a_job_chooses_becomes_a_label() -> None:
    registry = metrics()
    registry.observe(facts_for(offer("1", pool=MARKER), WHOLE["success"]))
    for number in range(300):
        notes = [
            e.TokenRefused(f"https://{number}.example", f"reason_{number}"),
            e.EgressDecided(f"{number}.example", 443, "tls", False, f"rule-{number}", f"why_{number}"),
            e.AlarmRaised(f"alarm_{number}", MARKER),
        ]
        registry.observe(facts_for(offer("2", name=f"job-{number}"), notes))
    _, body = registry.render()
    assert MARKER.encode() not in body
    assert b".example" not in body
    assert b"rule-" not in body
    assert len(body) < 100_000
    seen = scrape(registry)
    assert seen["job_offered_total", "other"] == 1
    assert seen["token_request_total", "refused", "other"] == 300 - 64


def test_openmetrics_carries_the_trace_as_exemplar() -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), WHOLE["success"]))
    content_type, body = registry.render("application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    exemplars = {
        sample.exemplar.labels["trace_id"]
        for family in parse_openmetrics(body.decode())
        for sample in family.samples
        if sample.exemplar
    }
    assert exemplars == {ids.trace_id(offer().key.id)}
    assert registry.render()[0].startswith("text/plain")


def exemplars(registry: Metrics) -> dict[str, str]:
    """Of each histogram, the trace that its newest exemplar leads to."""
    body = registry.render("application/openmetrics-text")[1].decode()
    samples = [sample for family in parse_openmetrics(body) for sample in family.samples if sample.exemplar]
    return {one.name.removesuffix("_bucket"): one.exemplar.labels["trace_id"] for one in samples}


def test_exemplars_of_joined_traces_lead_to_where_these_are() -> None:
    """Before its platform has named the job nobody can say where that will be."""
    facts = {"repository": "octo/site", "run_id": "9753949763", "run_attempt": "1", "check_run_id": "26920038674"}
    job = replace(stories.PLATFORM_JOB, caller=replace(stories.PLATFORM_JOB.caller, facts=facts))
    steps = [
        e.PlatformJobNamed(job, one.decision) if one is stories.NAMED else one for one in stories.PLATFORM["success"]
    ]
    history = facts_for(stories.platform_offer(), steps)
    joined, apart = (Metrics({"default": 1}, now_ns=lambda: T0, join=join) for join in (True, False))
    sent = trace_of(history, join=True).spans[0].trace_id
    assert sent != ids.trace_id(history[0].job_id)
    for registry in (joined, apart):
        registry.observe(history)
    assert exemplars(joined) == {f"orchestrator_job_{name}_seconds": sent for name in ("naming_duration", "duration")}
    assert set(exemplars(apart).values()) == {ids.trace_id(history[0].job_id)}
    assert len(exemplars(apart)) == 4


@given(st.text())
def test_any_accept_header_gets_an_answer(accept: str) -> None:
    assert metrics().render(accept)[1]


def test_gauges_read_when_scraped() -> None:
    registry = metrics(default=2, gpu=8)
    depth = [3.0]
    registry.watch("telemetry_outbox_jobs", "Finished jobs whose trace waits.", lambda: depth[0])
    assert scrape(registry)["telemetry_outbox_jobs",] == 3
    depth[0] = 0
    seen = scrape(registry)
    assert seen["telemetry_outbox_jobs",] == 0
    assert seen["pool_capacity_runners", "gpu"] == 8
    assert seen["build_info", "1.2.3"] == 1
    assert seen["queue_depth", "gpu"] == 0


def test_facts_of_a_job_never_seen_do_no_harm() -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), WHOLE["success"])[4:])
    assert scrape(registry)["token_request_total", "issued", ""] == 1
    registry.observe([e.Fact(offer().key.id, T0, ISSUED)])


async def test_a_late_event_loop_is_measured() -> None:
    registry = metrics()
    task = asyncio.create_task(registry.sample_loop_lag(0.01))
    await asyncio.sleep(0)
    time.sleep(0.05)  # blocks the loop, which is what is to be measured
    while not scrape(registry)["event_loop_lag_seconds_count",]:
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert scrape(registry)["event_loop_lag_seconds_sum",] >= 0.03


class Idle:
    """A journal and a sweep that have seen nothing."""

    healthy = True
    waiting = untold = 0
    orphans_deleted = 0


ENGINE: Any = SimpleNamespace(slots=lambda _: SimpleNamespace(held=0), failed={})
"""An engine, and its hands, that have done nothing."""

AUDIT: Any = SimpleNamespace(
    log=SimpleNamespace(healthy=True, waiting=0, size=0, checkpoint=SimpleNamespace(size=0)),
    anchors=SimpleNamespace(age_seconds=lambda: 0.0, names=["file"], size_of=lambda _: 0.0, failures_of=lambda _: 0.0),
)
"""A log that has written nothing, and one anchor."""

DECISIONS: Any = SimpleNamespace(
    log=SimpleNamespace(healthy=True, size=0, cut=0, written=0, lost=0),
    candidate_configured=True,
    candidate=SimpleNamespace(digest="", count=lambda _: 0.0),
    jump=None,
    jumps=0,
)
"""A log of decisions, with a candidate that is not loaded."""

APPROVALS: Any = SimpleNamespace(
    book=SimpleNamespace(
        use_count=0, ledger=SimpleNamespace(open_exceptions=lambda _: (), unreviewed=lambda _, overdue=False: ())
    ),
    clock=SimpleNamespace(now_ns=lambda: T0),
)

NOTHING_COUNTED: Any = {
    "secret_age": secret_age([]),
    "permission_scope": permission_scope([], DayTally.read(None, 1), 1),
    "artifact_traceability": artifact_traceability(DayTally.read(None, 1), 1),
    "policy_coverage": policy_coverage(DayTally.read(None, 1), None, ["default"], 1),
}


def test_the_reference_page_lists_every_metric_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text().partition("\n## The egress gateway")[0]
    listed = set(re.findall(r"^\| `((?:orchestrator|cicd|http)_\w+)` \|", page, re.MULTILINE))
    registry = metrics()
    watch_rooms(registry, Idle(), AUDIT, TraceExporter(None, ExportOptions(None), {}), Idle())  # type: ignore[arg-type]
    watch_work(registry, ENGINE, ENGINE, (), tuple)
    NotificationDesk(None, {}).watch(registry)
    registry.watch_words("check_ok", "Checks.", "check", dict)
    registry.watch_scores(lambda: NOTHING_COUNTED)
    watch_gate(registry, {True: 0, False: 0})
    watch_decisions(registry, DECISIONS)
    watch_approvals(registry, APPROVALS)
    for accept, parse, plain in (("", parse_plain, True), ("application/openmetrics-text", parse_openmetrics, False)):
        exposed = {
            family.name + ("_total" if family.type == "counter" else "")
            for family in parse(registry.render(accept)[1].decode())
            if family.name.startswith(("orchestrator_", "cicd_", "http_"))
            and not (plain and family.name.endswith("_created"))
        }
        assert listed == exposed


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", True),
        ("text/plain, Application/OpenMetrics-Text", True),
        ("application/openmetrics-text;q=0.001", True),
        ("application/openmetrics-text;q=0, text/plain", False),
        ("application/openmetrics-text; q=0.000", False),
        ("application/openmetrics-textual", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_openmetrics_only_when_it_is_accepted(accept: str, wanted: bool) -> None:
    content_type, body = metrics().render(accept)
    assert content_type.startswith("application/openmetrics-text") is wanted
    assert body.endswith(b"# EOF\n") is wanted


def test_a_counter_of_another_room_is_read_when_scraped() -> None:
    registry = metrics()
    deleted = [2.0]
    registry.watch_count("orphan_deleted", "Runners of no job.", lambda: deleted[0])
    assert scrape(registry)["orphan_deleted_total",] == 2
    deleted[0] = 3
    assert scrape(registry)["orphan_deleted_total",] == 3


def test_reloads_are_counted_and_a_refused_one_stands_out() -> None:
    registry = metrics()
    assert scrape(registry)["policy_reload_failed",] == 0
    registry.policy_reloaded("refused")
    assert scrape(registry)["policy_reload_failed",] == 1
    registry.policy_reloaded("loaded")
    seen = scrape(registry)
    assert seen["policy_reload_failed",] == 0
    assert seen["policy_reload_total", "refused"] == seen["policy_reload_total", "loaded"] == 1


def test_the_wait_for_the_journal_is_measured_by_commit() -> None:
    registry = metrics(now_ns=T0 + 80 * MS)
    registry.observe(facts_for(offer(), [])[:1])
    registry.observe([])
    seen = scrape(registry)
    assert seen["journal_append_duration_seconds_count",] == 1
    assert seen["journal_append_duration_seconds_sum",] == pytest.approx(0.08)
