"""Rules, dashboard and guide fit the metrics and each other; Prometheus judges them in tests/interop."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.telemetry.monitoring.dashboard import dashboard
from orchestrator.telemetry.monitoring.rules import anchor, rules
from orchestrator.telemetry.monitoring.system_alerts import ALERTS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/metrics.md").read_text()
GUIDE = (ROOT / "docs/how-to/sre-guide.md").read_text()
METRIC = re.compile(r"\b(?:orchestrator|cicd|http|process)_[a-z_0-9]+\b")
ROW = re.compile(r"^\| `((?:orchestrator|cicd|http)_\w+)` \|([^|]*)\|", re.MULTILINE)
LABELS = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in ROW.findall(PAGE)}
"""Every metric of the reference page, which another test holds against what is exposed, with its labels."""
LABELS |= {"process_cpu_seconds_total": set(), "process_resident_memory_bytes": set()}
TARGETS = {"job", "instance", "le"}
"""Labels that Prometheus adds, and those of buckets."""


def metric_of(name: str) -> str:
    return name if name in LABELS else re.sub(r"_(bucket|count|sum)$", "", name)


def panels() -> list[dict]:
    return [inner for panel in dashboard()["panels"] for inner in (panel, *panel.get("panels", ()))]


def queries() -> dict[str, tuple[str, str]]:
    """Where each query stands, with its legend."""
    found = {alert.name: (alert.expr, alert.summary.replace("$labels.", "")) for alert in ALERTS}
    for panel in panels():
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = (target["expr"], target["legendFormat"])
    return found


def names_in(expr: str) -> list[str]:
    """Metrics of a query: label matchers and groupings are left out."""
    bare = re.sub(r"\{[^}]*\}|by \([^)]*\)", "", expr)
    return [name for name in METRIC.findall(bare) if not name.startswith("cicd_worker_state")]


@pytest.mark.parametrize("where", queries())
def test_every_query_is_about_metrics_that_there_are_and_labels_they_have(where: str) -> None:
    expr, legend = queries()[where]
    names = [metric_of(name) for name in names_in(expr)]
    assert names
    assert [name for name in names if name not in LABELS] == []
    known = TARGETS.union(*(LABELS[name] for name in names))
    asked = set(re.findall(r"(\w+)(?:=|!=|=~)\"", expr)) | set(re.findall(r"\{\{ ?(\w+) ?\}\}", legend))
    for group in re.findall(r"by \(([^)]*)\)", expr):
        asked |= {label.strip() for label in group.split(",")}
    assert asked - known == set()


def test_alerts_and_runbooks_belong_to_each_other_one_by_one() -> None:
    headings = re.findall(r"^### (Orchestrator\w+)$", GUIDE, re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert set(headings) == {alert.name for alert in ALERTS}
    for section in GUIDE.split("\n### ")[1:]:
        name, _, text = section.partition("\n")
        means, look, do = (text.find(f"\n**{word}:** ") for word in ("Means", "Look at", "Do"))
        assert -1 < means < look < do, name
    linked = set(re.findall(r"\(#(orchestrator\w+)\)", GUIDE))
    assert linked <= {anchor(name) for name in headings}


def test_the_guide_and_the_how_tos_name_only_metrics_that_there_are() -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        found = re.findall(r"`((?:orchestrator|cicd)_[a-z_0-9]+)(\*?)[`{]", page.read_text())
        unknown = [
            name + star
            for name, star in found
            if not (any(one.startswith(name) for one in LABELS) if star else metric_of(name) in LABELS)
            and name not in set().union(*LABELS.values())
        ]
        assert unknown == [], page.name


def test_every_group_of_metrics_is_in_the_guide() -> None:
    prefixes = [name.rstrip("*") for name in re.findall(r"`((?:orchestrator|cicd|http|process)_\w*\*?)`", GUIDE)]
    scorecard = PAGE.partition("## The scorecard")[2].partition("\n## ")[0]
    weekly = {name for name, _ in ROW.findall(scorecard)}
    daily = {name for name in LABELS if name not in weekly}
    missing = {name for name in daily if not any(name.startswith(prefix) for prefix in prefixes)}
    assert missing == set()


def test_every_rule_leads_to_its_runbook() -> None:
    document = rules("https://guide.example/sre.md")
    found = {one["alert"]: one for group in document["groups"] for one in group["rules"]}
    assert len(found) == len(ALERTS)
    for name, rule in found.items():
        assert rule["annotations"]["runbook_url"] == f"https://guide.example/sre.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_panels_have_their_own_place_and_number() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    shown = [panel["gridPos"] for panel in dashboard()["panels"]]
    for one, other in combinations(shown, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart
    assert max(place["x"] + place["w"] for place in shown) <= 24


def test_panels_say_what_they_are_and_ask_the_chosen_prometheus() -> None:
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"].endswith((".", "'s."))
        assert panel["targets"]
        assert {one["datasource"]["uid"] for one in (panel, *panel["targets"])} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_rows_of_the_dashboard_are_those_of_the_guide() -> None:
    titles = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    table = GUIDE.partition("| row | what its metrics tell |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:] == titles


@pytest.mark.parametrize("part", ["rules", "dashboard", "scrape"])
def test_the_program_prints_what_the_repository_has(part: str, tmp_path: Path) -> None:
    """Fails when alerts or panels have changed: run `make manifests`."""
    name = "dashboard.json" if part == "dashboard" else f"{part}.yaml"
    printed = CliRunner().invoke(app, ["monitoring", part])
    assert printed.exit_code == 0, printed.output
    assert (ROOT / "manifests/observability" / name).read_text() == printed.stdout
    CliRunner().invoke(app, ["monitoring", part, "--output", str(tmp_path / name)])
    assert (tmp_path / name).read_text() == printed.stdout


def test_printed_rules_link_to_the_copy_of_the_guide_that_is_named() -> None:
    printed = CliRunner().invoke(app, ["monitoring", "rules", "--runbooks", "https://wiki.example/sre"])
    links = {
        one["annotations"]["runbook_url"]
        for group in yaml.safe_load(printed.stdout)["groups"]
        for one in group["rules"]
    }
    assert all(link.startswith("https://wiki.example/sre#orchestrator") for link in links)


@pytest.mark.parametrize(
    "arguments", [["rules", "--runbooks", "javascript:alert(1)"], ["dashboard", "--runbooks", "https://wiki.example"]]
)
def test_a_link_that_is_none_is_refused(arguments: list[str]) -> None:
    refused = CliRunner().invoke(app, ["monitoring", *arguments])
    assert refused.exit_code == 2
    assert "--runbooks" in refused.stderr
    assert refused.stdout == ""


def test_the_dashboard_is_the_same_each_time() -> None:
    assert json.dumps(dashboard()) == json.dumps(dashboard())


def discovered(pod: dict, namespace: str) -> list[dict[str, str]]:
    """What Prometheus' discovery of pods tells of one: a target for each port that a container declares."""
    labels = {re.sub(r"[^a-zA-Z0-9_]", "_", key): value for key, value in pod["metadata"]["labels"].items()}
    told = {f"__meta_kubernetes_pod_label_{key}": value for key, value in labels.items()}
    told |= {"__meta_kubernetes_namespace": namespace, "__meta_kubernetes_pod_name": "a-pod"}
    ports = [port for one in pod["spec"]["containers"] for port in one.get("ports", ())]
    return [told | {"__meta_kubernetes_pod_container_port_name": port["name"]} for port in ports]


def relabelled(target: dict[str, str], config: dict) -> dict[str, str] | None:
    """The labels that a target gets, as far as the rules use what there is; None where it is not scraped."""
    labels = {"job": config["job_name"]}
    for rule in config["relabel_configs"]:
        value = ";".join(target.get(name, "") for name in rule["source_labels"])
        match = re.fullmatch(rule.get("regex", "(.*)"), value)
        if rule.get("action") == "keep":
            if match is None:
                return None
        elif match is not None:
            labels[rule["target_label"]] = rule.get("replacement", "$1").replace("$1", match[1])
    return labels


def test_the_scrape_configuration_finds_one_port_of_each_rendered_pod() -> None:
    files = [ROOT / "manifests/base" / name for name in ("daemon.yaml", "gateway.yaml")]
    objects = [one for file in files for one in yaml.safe_load_all(file.read_text()) if one]
    pods = [one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
    targets = [target for pod in pods for target in discovered(pod, "ci")]
    printed = yaml.safe_load(CliRunner().invoke(app, ["monitoring", "scrape"]).stdout)
    found = [relabelled(target, config) for config in printed["scrape_configs"] for target in targets]
    assert [labels for labels in found if labels] == [
        {"job": f"ci/{name}", "namespace": "ci", "pod_name": "a-pod"}
        for name in ("orchestrator", "orchestrator-gateway")
    ]
    assert len(targets) > 2, "others are passed over"
