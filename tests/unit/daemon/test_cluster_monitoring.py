"""What a Prometheus operator reads of us fits pods, alerts and metrics; tests/interop asks its own types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from orchestrator.daemon.cluster.manifests import MONITORING, documents
from orchestrator.settings import Settings
from orchestrator.telemetry.monitoring.rules import rules
from orchestrator.telemetry.monitoring.scraping import scrape_configs

PAGE = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text(encoding="utf-8")
CLUSTER = {"image": "registry.example/orchestrator:1", "agent_image": "registry.example/agent:1"}
GUIDE = "https://guide.example/sre.md"


def rendered(**operator: Any) -> dict[str, list[dict[str, Any]]]:
    given = {"pools": [{"name": "default", "backend": "kubernetes"}], "kubernetes": {**CLUSTER, **operator}}
    return documents(Settings.model_validate(given), "")


def watched(**more: Any) -> list[dict[str, Any]]:
    return rendered(prometheus_operator={"enabled": True, **more})[MONITORING]


def test_nothing_of_it_is_rendered_unless_it_is_asked_for() -> None:
    assert MONITORING not in rendered()
    files = rendered(prometheus_operator={"enabled": True})
    assert [one["kind"] for one in files[MONITORING]] == ["PodMonitor", "PodMonitor", "PrometheusRule"]
    assert f"{MONITORING}.yaml" in files["kustomization"][0]["resources"]


def test_the_alerts_are_those_that_the_program_prints() -> None:
    *_, alerts = watched(runbooks=GUIDE)
    assert alerts["spec"] == rules(GUIDE)


def test_each_monitor_chooses_the_pods_of_one_deployment_and_a_port_that_they_have() -> None:
    files = rendered(prometheus_operator={"enabled": True}, namespace="ci", gateway={"namespace": "ways-out",
                     "url": "http://orchestrator-gateway.ways-out.svc:3128"},
                     runner_api={"url": "https://orchestrator-runner-api.ci.svc:8456"})  # fmt: skip
    pods = [
        (one["metadata"]["namespace"], one["spec"]["template"])
        for group in files.values()
        for one in group
        if one["kind"] == "Deployment"
    ]
    chosen = []
    for monitor in files[MONITORING][:2]:
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        chosen += [
            (space, container["name"])
            for space, pod in pods
            for container in pod["spec"]["containers"]
            if space == monitor["metadata"]["namespace"]
            and wanted <= pod["metadata"]["labels"].items()
            and endpoint["port"] in {port["name"] for port in container["ports"]}
        ]
    assert chosen == [("ci", "daemon"), ("ways-out", "gateway")]


def test_job_is_what_the_scrape_configuration_makes_of_it() -> None:
    """The operator's own is namespace and name of the monitor; dashboards and silences stay as they are."""
    theirs = [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in watched()[:2]]
    ours = [
        rule["replacement"].replace("$1", "orchestrator")
        for config in scrape_configs()["scrape_configs"]
        for rule in config["relabel_configs"]
        if rule.get("target_label") == "job"
    ]
    assert theirs == ours


def test_no_label_of_a_target_takes_the_place_of_one_of_a_metric() -> None:
    """The operator gives each target these labels; a metric's own would be renamed to `exported_…`."""
    for monitor in watched()[:2]:
        kept = {"namespace", "container", "pod", "job", "instance", "endpoint"}
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        for rule in endpoint["relabelings"]:
            assert rule["action"] == "labeldrop"
            kept = {label for label in kept if not re.fullmatch(rule["regex"], label)}
        rows = re.findall(r"^\| `\w+` \|([^|]*)\|", PAGE, re.MULTILINE)
        of_metrics = {label for row in rows for label in re.findall(r"`(\w+)`", row)}
        assert "endpoint" in of_metrics, "or nothing has to be dropped"
        assert kept & of_metrics == set()
        assert "job" in kept


def test_labels_are_added_and_ours_stay() -> None:
    labels = {"release": "watching", "orchestrator.dev/installation": "another"}
    for one in watched(labels=labels):
        assert one["metadata"]["labels"] == {
            "app.kubernetes.io/managed-by": "orchestrator-manifests",
            "orchestrator.dev/installation": "default",
            "release": "watching",
        }
    assert yaml.safe_load(yaml.safe_dump(watched())) == watched()


@pytest.mark.parametrize(
    "unfit",
    [
        {"labels": {"bad key": "x"}},
        {"labels": {"release": "two words"}},
        {"labels": {"release": "x" * 64}},
        {"runbooks": "javascript:alert(1)"},
        {"runbooks": "https://guide.example/a b"},
    ],
)
def test_what_no_cluster_or_browser_takes_is_refused(unfit: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        watched(**unfit)
    assert f"prometheus_operator.{next(iter(unfit))}" in str(refused.value)
