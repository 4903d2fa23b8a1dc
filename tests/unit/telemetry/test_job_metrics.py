"""Why jobs wait, what runners do, and what the semantic conventions call runs and errors."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from orchestrator.model import events as e
from orchestrator.model.decision import Reason, Stage, Verdict
from orchestrator.model.outcome import EndReason, Result
from orchestrator.telemetry.job_metrics import ALARMS
from orchestrator.telemetry.metrics import Metrics
from orchestrator.telemetry.progress import WAITS
from orchestrator.testing import stories
from orchestrator.testing.scraping import metrics, scrape
from orchestrator.testing.stories import (
    ADMITTED,
    BOUND,
    CREATED,
    DELETED,
    FINISHED,
    RUNNER,
    STARTED,
    T0,
    TO_WORK,
    WHOLE,
    decision,
    end,
    facts_for,
    offer,
)

VANISHED = e.RunnerVanished(RUNNER, "gone")


def waited(reason: e.WaitReason) -> e.JobWaited:
    return e.JobWaited(reason, "why")


def waiting(registry: Metrics) -> set[str]:
    return {key[2] for key, value in scrape(registry).items() if key[0] == "job_waiting" and value}


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "policy"),
        ([ADMITTED], "starting"),
        ([ADMITTED, waited(e.WaitReason.POOL_FULL)], "pool_full"),
        ([ADMITTED, waited(e.WaitReason.POOL_FULL), STARTED], "runner_starting"),
        ([ADMITTED, STARTED, waited(e.WaitReason.BACKEND_UNAVAILABLE)], "backend_unavailable"),
        ([ADMITTED, STARTED, CREATED, waited(e.WaitReason.IMAGE_PULL)], "image_pull"),
        (
            [ADMITTED, STARTED, CREATED, waited(e.WaitReason.IMAGE_PULL), waited(e.WaitReason.RUNNER_STARTING)],
            "runner_starting",
        ),
        ([ADMITTED, STARTED, CREATED, VANISHED], "runner_vanished"),
    ],
)
def test_a_job_without_a_bound_runner_waits_for_something(steps: list[e.Event], reason: str) -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), steps))
    assert waiting(registry) == {reason}
    assert reason in WAITS


@pytest.mark.parametrize("steps", [TO_WORK, [*TO_WORK, waited(e.WaitReason.RUNNER_STARTING)], WHOLE["denied"][:2]])
def test_a_job_that_is_bound_or_has_ended_waits_for_nothing(steps: list[e.Event]) -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), steps))
    assert waiting(registry) == set()


@pytest.mark.parametrize("story", WHOLE)
def test_the_time_of_waiting_is_that_from_the_offer_to_the_binding_or_the_end(story: str) -> None:
    registry = metrics()
    facts = facts_for(offer(), WHOLE[story])
    registry.observe(facts)
    over = next(fact for fact in facts if isinstance(fact.event, e.RunnerBound | e.JobEnded))
    total = sum(value for key, value in scrape(registry).items() if key[0] == "job_wait_seconds_total")
    assert total == pytest.approx((over.at_ns - T0) / 1e9)


def test_the_time_of_waiting_is_told_by_reason() -> None:
    registry = metrics()
    steps = [ADMITTED, waited(e.WaitReason.POOL_FULL), STARTED, CREATED, VANISHED, STARTED, BOUND]
    registry.observe(facts_for(offer(), steps))
    seen = {key[2]: value for key, value in scrape(registry).items() if key[0] == "job_wait_seconds_total"}
    expected = {"policy": 1, "starting": 1, "pool_full": 1, "runner_starting": 3, "runner_vanished": 1}
    assert seen == {reason: pytest.approx(steps / 100) for reason, steps in expected.items()}


def workers(registry: Metrics) -> dict[str, float]:
    return {
        key[1]: value
        for key, value in scrape(registry).items()
        if key[0] == "cicd_worker_count" and value and key[2] == "default"
    }


def test_runners_are_counted_by_what_they_can_do() -> None:
    registry = metrics()
    warm = {"default": 0}
    registry.watch_warm(lambda: warm)
    facts = facts_for(stories.platform_offer(), stories.PLATFORM["success"])
    bound = next(index for index, fact in enumerate(facts) if isinstance(fact.event, e.RunnerBound))
    named = next(index for index, fact in enumerate(facts) if isinstance(fact.event, e.PlatformJobNamed))
    deleted = next(index for index, fact in enumerate(facts) if isinstance(fact.event, e.RunnerDeleted))
    registry.observe(facts[:bound])
    assert workers(registry) == {"offline": 1}
    registry.observe(facts[bound : bound + 1])
    assert workers(registry) == {"available": 1}
    warm["default"] = 2
    registry.observe(facts[bound + 1 : named + 1])
    assert workers(registry) == {"busy": 1, "available": 2}
    warm["default"] = 0
    registry.observe(facts[named + 1 : deleted])
    assert workers(registry) == {"offline": 1}
    registry.observe(facts[deleted:])
    assert workers(registry) == {}


def runs(registry: Metrics) -> dict[tuple[str, ...], float]:
    names = ("cicd_pipeline_name", "cicd_pipeline_run_state", "cicd_pipeline_result", "error_type")
    return {
        (
            sample.name.removeprefix("cicd_pipeline_run_"),
            *(sample.labels[name] for name in names if name in sample.labels),
        ): sample.value
        for family in parse(registry.render()[1].decode())
        for sample in family.samples
        if sample.name.startswith("cicd_pipeline_run_") and "bucket" not in sample.name and "created" not in sample.name
    }


def test_a_dispatched_job_of_no_pipeline_is_a_run() -> None:
    registry = Metrics({"default": 1}, now_ns=lambda: T0, pipelines=("build",))
    assert {(key[1], value) for key, value in runs(registry).items() if key[0] == "active"} == {
        ("build", 0),
        ("other", 0),
    }
    steps = [*TO_WORK, end(Result.FAILURE, EndReason.EXIT_NONZERO, 1), DELETED, FINISHED]
    facts = facts_for(offer(), steps)
    registry.observe(facts[:6])
    assert runs(registry)["active", "build", "executing"] == 1
    registry.observe(facts[6:])
    seen = runs(registry)
    assert {key for key, value in seen.items() if key[0] == "active" and value} == set()
    assert seen["errors_total", "build", "exit_nonzero"] == 1
    assert seen["duration_seconds_sum", "build", "pending", "", ""] == pytest.approx(0.05)
    assert seen["duration_seconds_sum", "build", "executing", "failure", "exit_nonzero"] == pytest.approx(0.01)
    assert seen["duration_seconds_sum", "build", "finalizing", "failure", "exit_nonzero"] == pytest.approx(0.02)


def test_a_run_that_ended_before_it_was_bound_has_its_result_while_pending() -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), WHOLE["denied"]))
    seen = runs(registry)
    assert seen["duration_seconds_count", "other", "pending", "skip", ""] == 1
    assert seen["duration_seconds_count", "other", "finalizing", "skip", ""] == 1
    assert not [key for key in seen if key[0] == "errors_total"], "a denial is no error"


def test_parts_of_runs_of_others_are_no_runs() -> None:
    registry = metrics()
    registry.observe(facts_for(offer(pipeline="release-42"), WHOLE["failure"]))
    registry.observe(facts_for(stories.platform_offer(), stories.PLATFORM["success"]))
    assert {key for key, value in runs(registry).items() if value} == set()


def test_names_that_callers_choose_are_no_labels() -> None:
    registry = metrics()
    for number in range(100):
        registry.observe(facts_for(offer(str(number), name=f"mine-{number}"), WHOLE["success"]))
    assert b"mine-" not in registry.render()[1]
    assert {key[1] for key in runs(registry)} == {"other"}


def system_errors(registry: Metrics) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in scrape(registry).items() if key[0] == "cicd_system_errors_total" and value}


def test_errors_of_the_system_are_no_errors_of_runs() -> None:
    registry = metrics()
    for story in ("failure", "lost", "denied"):
        registry.observe(facts_for(offer(story), WHOLE[story]))
    assert system_errors(registry) == {}
    refused = e.JobRefused(decision(Verdict.ERROR))
    asked = e.ExchangeDecided("sts.example", decision(Verdict.UNDEFINED, Stage.EXCHANGE))
    registry.observe(facts_for(offer("1"), [refused]))
    registry.observe(facts_for(offer("2"), [*TO_WORK, asked, e.AlarmRaised("second_claim", "twice")]))
    registry.watch_errors(lambda: {("kubernetes", "api_busy"): 3})
    assert system_errors(registry) == {
        ("policy", "policy_error"): 1,
        ("policy", "policy_undefined"): 1,
        ("controller", "second_claim"): 1,
        ("kubernetes", "api_busy"): 3,
    }


def test_reasons_of_denials_are_counted_by_code_once_an_answer() -> None:
    registry = metrics()
    reasons = (Reason("scan_stale", "a"), Reason("scan_stale", "b"), Reason("no_rule", "c"))
    registry.observe(facts_for(offer(), [e.JobRefused(replace(decision(Verdict.DENY), reasons=reasons))]))
    seen = scrape(registry)
    assert seen["policy_denied_total", "scan_stale", "admission"] == 1
    assert seen["policy_denied_total", "no_rule", "admission"] == 1


def test_ends_of_every_pool_begin_at_zero_so_that_a_first_burst_of_errors_is_an_increase() -> None:
    registry = metrics(default=1)
    registry.set_pools({"default": 1, "gpu": 2})
    seen = scrape(registry)
    ends = {(pool, result) for pool in ("default", "gpu") for result in Result}
    assert {seen["job_duration_seconds_count", pool, result.value] for pool, result in ends} == {0}


def test_alarms_begin_at_zero_so_that_the_first_is_an_increase() -> None:
    seen = scrape(metrics())
    assert {key[1] for key in seen if key[0] == "alarm_total"} == set(ALARMS)
    source = "\n".join(path.read_text() for path in (Path(__file__).parents[3] / "orchestrator").rglob("*.py"))
    words = set(re.findall(r'AlarmRaised\("(\w+)"', source))
    assert len(words) > 10
    assert words <= set(ALARMS)


def test_pools_may_change_while_jobs_go_on() -> None:
    registry = metrics(old=1)
    registry.watch_pools("pool_guards_missing", "x", lambda pool: len(pool))
    facts = facts_for(offer(pool="new"), WHOLE["success"])
    registry.observe(facts[:4])
    assert scrape(registry)["job_offered_total", "other"] == 1
    registry.set_pools({"new": 3})
    registry.observe(facts[4:])
    seen = scrape(registry)
    assert (seen["pool_capacity_runners", "new"], seen["pool_guards_missing", "new"]) == (3, 3)
    assert ("pool_capacity_runners", "old") not in seen
    assert seen["job_finished_total", "new", "completed", "success"] == 1
    assert seen["job_offered_total", "new"] == 0, "counted where it was when it came"


def test_requests_are_timed_by_route() -> None:
    registry = metrics()
    registry.request_served("GET", "/v1/jobs/{job_id}", 200, 0.02)
    registry.request_served("GET", "/v1/jobs/{job_id}", 404, 0.01)
    seen = scrape(registry)
    assert seen["http_server_request_duration_seconds_count", "GET", "200", "/v1/jobs/{job_id}"] == 1
    assert seen["http_server_request_duration_seconds_sum", "GET", "404", "/v1/jobs/{job_id}"] == pytest.approx(0.01)


def stages(registry: Metrics) -> dict[str, float]:
    name = "runner_start_stage_duration_seconds_sum"
    return {key[2]: value for key, value in scrape(registry).items() if key[0] == name}


def test_the_way_of_a_bound_runner_is_timed_by_stage() -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), [ADMITTED, STARTED, CREATED, stories.POD_STARTED, stories.POD_BOUND]))
    in_ms = {"create": 7, "schedule": 2, "pod_sandbox": 1, "image_pull": 4, "start": 1, "egress_proof": 2, "claim": 11}
    assert stages(registry) == {stage: pytest.approx(ms / 1000) for stage, ms in in_ms.items()}


def test_a_runner_that_vanished_leaves_nothing_to_the_next() -> None:
    registry = metrics()
    registry.observe(facts_for(offer(), [ADMITTED, STARTED, CREATED, stories.POD_STARTED, VANISHED, STARTED, BOUND]))
    assert stages(registry) == {}
