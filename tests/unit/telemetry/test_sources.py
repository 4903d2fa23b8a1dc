"""Metrics of sources: what their states say, with labels that nobody outside can multiply."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from orchestrator.intake.github.scale_sets.demand import SlotState
from orchestrator.intake.github.scale_sets.status import Stage
from orchestrator.intake.github.tally import Tally
from orchestrator.model.source import CallLimit, SourceState
from orchestrator.telemetry.metrics import Metrics
from orchestrator.telemetry.sources import MAX_RESOURCES, STAGES
from orchestrator.testing.sources import source_state

PAGE = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text(encoding="utf-8")


def scrape(*states: SourceState) -> dict[tuple[str, ...], float]:
    """Sample name, source, and the other labels' values in the order of their names, to value."""
    registry = Metrics({"default": 1})
    registry.watch_sources(lambda: states)
    return {
        (
            sample.name.removeprefix("orchestrator_source_"),
            sample.labels["source"],
            *(value for label, value in sample.labels.items() if label != "source"),
        ): sample.value
        for family in parse_plain(registry.render()[1].decode())
        for sample in family.samples
        if sample.name.startswith("orchestrator_source_")
    }


def test_a_source_is_shown_as_it_is():
    seen = scrape(source_state())
    at = ("acme", "default/zt")
    assert seen["jobs", *at, "assigned"] == 3
    assert seen["jobs", *at, "running"] == 2
    assert seen["registered_runners", *at, "idle"] == 1
    assert seen["slots", *at, "busy"] == 2
    assert seen["short_runners", *at] == 1
    assert seen["stage", *at, "waiting"] == 1
    assert sum(value for key, value in seen.items() if key[0] == "stage") == 1
    assert seen["failing", *at] == 1
    assert seen["failing", "acme", ""] == 0
    assert seen["heard_timestamp_seconds", *at] == 1_767_000_000.0
    assert seen["event_total", "acme", "registered"] == 5
    assert seen["call_total", "acme", "poll", "2xx"] == 40
    assert seen["call_total", "acme", "poll", "none"] == 2
    assert seen["call_seconds_total", "acme", "poll"] == 1000.5
    assert seen["call_retry_total", "acme", "poll"] == 1
    assert seen["rate_limit", "acme", "core"] == 5000
    assert seen["rate_limit_remaining", "acme", "core"] == 4990
    assert seen["rate_limit_reset_timestamp_seconds", "acme", "core"] == 1_767_003_600
    assert ("queued_jobs", *at) not in seen, "GitHub lists none for a scale set"


def test_waits_are_a_histogram():
    registry = Metrics({"default": 1})
    registry.watch_sources(lambda: [source_state()])
    body = registry.render("application/openmetrics-text")[1].decode()
    (family,) = [family for family in parse_openmetrics(body) if family.name == "orchestrator_source_job_wait_seconds"]
    assert [sample.value for sample in family.samples if sample.name.endswith("_bucket")] == [1, 1, 3]
    assert {sample.name.rpartition("_")[2]: sample.value for sample in family.samples} | {"bucket": 3} == {
        "bucket": 3, "count": 3, "sum": 61.5,
    }  # fmt: skip


def test_what_is_not_known_is_left_out():
    state = source_state()
    blank = replace(state.sets[0], jobs=None, heard_at_ns=0, queued=4)
    seen = scrape(replace(state, sets=(blank,)))
    assert not [key for key in seen if key[0] in ("jobs", "registered_runners", "heard_timestamp_seconds")]
    assert seen["queued_jobs", "acme", "default/zt"] == 4


def test_a_platform_cannot_make_labels_without_bound():
    limits = {f"resource-{number}": CallLimit(1, 1, 1) for number in range(500)}
    seen = scrape(replace(source_state(), limits=limits))
    assert sum(key[0] == "rate_limit" for key in seen) == MAX_RESOURCES


def listed(heading: str) -> set[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section.partition("| event |")[2], re.MULTILINE))


def words(row: str) -> set[str]:
    """Words in the meaning of a metric's row."""
    found = re.search(rf"^\| `orchestrator_source_{row}` \|[^|]*\|(.*)\|$", PAGE, re.MULTILINE)
    assert found, row
    return set(re.findall(r"`(\w+)`", found[1]))


def lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}


def test_the_page_explains_every_word_of_ours():
    assert listed("Sources of jobs") == {field.name for field in fields(Tally)}
    assert words("stage") == set(STAGES) == {stage.value for stage in Stage}
    assert words("slots") == lower(SlotState.__members__)
