"""`/metrics` of the daemon itself, in both formats."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from orchestrator.telemetry import ids
from tests.integration.daemon.conftest import AUDIENCE, POLICY, write_bundle
from tests.integration.daemon.test_audit import records

pytestmark = pytest.mark.sandbox

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
WHERE_CONFIGURED = {
    *(f"orchestrator_policy_candidate_{name}" for name in ("loaded", "answers")),
    *(f"orchestrator_deployment_{name}_total" for name in ("allowed", "denied")),
}
"""Of a candidate bundle and of a cluster's gate."""
OURS, _, GATEWAYS = PAGE.read_text(encoding="utf-8").partition("\n## The egress gateway")


async def test_the_daemon_exposes_what_the_page_lists_with_a_jobs_trace_as_exemplar(world):
    job_id = await world.offer("job", "true")
    await world.finished(job_id)
    async with world.client.get(world.url + "/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert answer.headers["Vary"] == "Accept"
        plain = await answer.text()
    async with world.client.get(world.url + "/metrics", headers={"Accept": "application/openmetrics-text"}) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        modern = list(parse_openmetrics(await answer.text()))
    listed = set(re.findall(r"^\| `(orchestrator_\w+)` \|", OURS, re.MULTILINE))
    for families, odd in ((modern, ()), (list(parse_plain(plain)), "_created")):
        exposed = {
            family.name + ("_total" if family.type == "counter" else "")
            for family in families
            if family.name.startswith("orchestrator_") and not family.name.endswith(odd)
        }
        assert exposed == listed - WHERE_CONFIGURED
    exemplars = {
        (family.name, sample.exemplar.labels["trace_id"])
        for family in modern
        for sample in family.samples
        if sample.exemplar
    }
    with_exemplars = ("queue_duration", "start_duration", "duration")
    assert exemplars == {(f"orchestrator_job_{name}_seconds", ids.trace_id(job_id)) for name in with_exemplars}
    values = {sample.name: sample.value for family in modern for sample in family.samples if not sample.labels}
    assert values["orchestrator_journal_healthy"] == 1
    assert values["orchestrator_journal_append_duration_seconds_count"] > 3


async def test_decisions_are_counted_as_the_audit_log_tells_them(open_world, tmp_path):
    rule = 'if {\n\tinput.job.source == "dispatch"\n\tnot input.request.deployment_environment == "prod"\n}'
    rules = write_bundle(tmp_path / "rules", POLICY.replace('if input.job.source == "dispatch"', rule))
    ask = f"orchestrator-token --audience {AUDIENCE} >/dev/null"
    async with open_world(policy={"bundle": str(rules)}) as world:
        for number, more in enumerate(({}, {}, {"deployment_environment": "prod"})):
            await world.finished(await world.offer(f"job-{number}", f"{ask}\n{ask}", **more))
        families = list(parse_plain(await world.get("/metrics")))
        told = records(world.state)
    counted = {
        (sample.labels["stage"], sample.labels["verdict"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "orchestrator_policy_decision_total"
    }
    stages = {"job.admitted": "admission", "job.refused": "admission", "token.decided": "exchange"}
    recorded = Counter((stages[one["kind"]], one["outcome"]) for one in told if one["kind"] in stages)
    assert counted == recorded == {("admission", "allow"): 2, ("admission", "deny"): 1, ("exchange", "allow"): 4}
