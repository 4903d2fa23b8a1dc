"""The types of prometheus-operator, generated from its custom resource definitions, read what we render for it; and
promtool judges the rules in it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from interop import PYTHON, lost, needs, promtool

from orchestrator.daemon.cluster.manifests import MONITORING, documents
from orchestrator.settings import Settings
from orchestrator.telemetry.monitoring.system_alerts import ALERTS

SETTINGS = {
    "pools": [{"name": "default", "backend": "kubernetes"}],
    "kubernetes": {
        "image": "registry.example/orchestrator:1",
        "agent_image": "registry.example/agent:1",
        "prometheus_operator": {"enabled": True, "labels": {"release": "watching"}},
    },
}


def rendered() -> list[dict[str, Any]]:
    return documents(Settings.model_validate(SETTINGS), "")[MONITORING]


def read_by_the_operator(documents: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    program = [PYTHON, Path(__file__).with_name("operator_types.py")]
    return subprocess.run(
        program, input=json.dumps(documents), capture_output=True, text=True, timeout=120, check=False
    )


@needs("python")
def test_the_operator_knows_every_field_and_finds_out_those_that_it_does_not() -> None:
    """In one run: the types take seconds to load."""
    wrong = json.loads(json.dumps(rendered()))
    wrong[0]["spec"]["podMetricsEndpoints"][0]["intervall"] = "15s"
    wrong[2]["spec"]["groups"][0]["rules"][0]["severity"] = "page"
    done = read_by_the_operator([*rendered(), *wrong])
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert [one["kind"] for one in read[:3]] == ["PodMonitor", "PodMonitor", "PrometheusRule"]
    assert list(lost(rendered(), read[:3])) == []
    assert list(lost(wrong, read[3:])) == [
        "/0/spec/podMetricsEndpoints/0/intervall",
        "/2/spec/groups/0/rules/0/severity",
    ]


@needs("python")
def test_a_value_that_the_operator_would_not_take_is_found_out() -> None:
    monitor = json.loads(json.dumps(rendered()[0]))
    monitor["spec"]["podMetricsEndpoints"][0] |= {"interval": "often", "scheme": "gopher"}
    done = read_by_the_operator([monitor])
    assert done.returncode != 0
    assert "podMetricsEndpoints.0.interval" in done.stderr
    assert "podMetricsEndpoints.0.scheme" in done.stderr


@needs("prometheus")
def test_promtool_takes_the_rules_in_it(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rendered()[2]["spec"]))
    found = promtool("check", "rules", str(path))
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{len(ALERTS)} rules found".encode() in found.stdout
