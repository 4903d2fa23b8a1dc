"""promtool judges our rules: each alert fires when it should, and none when all is well."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_cases import FIRING, WELL, Case
from interop import needs, promtool

from orchestrator.telemetry.monitoring.rules import rules
from orchestrator.telemetry.monitoring.scraping import scrape_configs
from orchestrator.telemetry.monitoring.system_alerts import ALERTS

pytestmark = needs("prometheus")

BY_NAME = {alert.name: alert for alert in ALERTS}
MINUTES = (*range(0, 60, 3), 110)
REMEMBER = {"OrchestratorAlarm", "OrchestratorPolicyFails"}
"""Alerts that tell at first what was before Prometheus began to look (docs/decisions/0212)."""


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(rules("https://runbooks.example/sre-guide.md"), sort_keys=False))
    return path


def test_promtool_takes_the_rules(rules_file: Path) -> None:
    found = promtool("check", "rules", str(rules_file))
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{len(ALERTS)} rules found".encode() in found.stdout


def test_promtool_takes_the_scrape_configuration(tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    document = scrape_configs()
    for config in document["scrape_configs"]:
        # Debian builds it without the discovery of pods.
        assert config.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    path.write_text(yaml.safe_dump(document))
    found = promtool("check", "config", str(path))
    assert found.returncode == 0, found.stdout + found.stderr


def expected(case: Case) -> dict[str, Any]:
    alert = BY_NAME[case.alert]
    written = {
        "summary": alert.summary,
        "description": alert.why,
        "runbook_url": f"https://runbooks.example/sre-guide.md#{alert.name.lower()}",
    }
    return {
        "exp_labels": {"severity": alert.severity.value, **case.labels},
        "exp_annotations": {
            name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels.get(found[1], ""), text)
            for name, text in written.items()
        },
    }


def unit_test(series: dict[str, str], looks: list[dict[str, Any]]) -> dict[str, Any]:
    given = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "1m", "input_series": given, "alert_rule_test": looks}


def test_each_alert_fires_when_it_should_and_none_when_all_is_well(rules_file: Path) -> None:
    assert {case.alert for case in FIRING} == BY_NAME.keys(), "each alert has a case"
    tests = [
        unit_test(case.series, [{"eval_time": f"{case.at}m", "alertname": case.alert, "exp_alerts": [expected(case)]}])
        for case in FIRING
    ]
    quiet = [
        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
        for name in BY_NAME
        for minute in MINUTES
        if minute > 15 or name not in REMEMBER
    ]
    tests.append(unit_test(WELL, quiet))
    path = rules_file.with_name("tests.yaml")
    path.write_text(yaml.safe_dump({"rule_files": [rules_file.name], "tests": tests}))
    found = promtool("test", "rules", str(path))
    assert found.returncode == 0, (found.stdout + found.stderr).decode()
