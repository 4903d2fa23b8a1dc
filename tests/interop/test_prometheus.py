"""A real Prometheus scrapes a daemon: what it says to our metrics, our alerts and each query of our dashboard."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml
from installation import Installation
from interop import PROMETHEUS, Program, free_ports, needs, promtool

from orchestrator.telemetry.monitoring.dashboard import dashboard
from orchestrator.telemetry.monitoring.rules import rules
from orchestrator.telemetry.monitoring.system_alerts import ALERTS

pytestmark = [needs("prometheus"), pytest.mark.asyncio(loop_scope="module")]

BY_NAME = {alert.name: alert for alert in ALERTS}
OURS = {
    'cicd_worker_count non-histogram and non-summary metrics should not have "_count" suffix',
}
"""What promtool does not like and the semantic conventions want."""


TOKEN_AND_MORE = """
orchestrator-token --audience nobody.example || true
curl --silent --max-time 5 http://forbidden.example/ || true
"""


class Watched:
    """A daemon with jobs behind it, and a Prometheus that scrapes it."""

    def __init__(self, here: Installation, port: int) -> None:
        self.here = here
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, what: str, **query: str) -> Any:
        url = f"{self._url}/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> float:
        """Of one series; 0 where Prometheus has none yet, or does not answer yet."""
        try:
            found = self.ask("query", query=query)["result"]
        except OSError:
            return 0.0
        return float(found[0]["value"][1]) if found else 0.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules()))
    here = Installation(folder / "daemon")
    (port,) = free_ports(1)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "orchestrator", "static_configs": [{"targets": [here.url.removeprefix("http://")]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    server = Program(
        [
            str(PROMETHEUS / "prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ],
        folder,
    )
    try:
        await here.start()
        watched = Watched(here, port)
        await server.ready(lambda: watched.value("up") == 1)
        for turn in (1, 2):  # what begins with its first event shows a rate from the second on
            for name, script in (("good", TOKEN_AND_MORE), ("red", "exit 3")):
                await here.finished(await here.dispatch(f"{name}-{turn}", script), 60)
            finished = f"sum(orchestrator_job_finished_total) == {2 * turn}"
            await server.ready(lambda query=finished: watched.value(query) > 0)
        yield watched
    finally:
        server.end()
        await here.close()
    assert await here.left() == []


async def test_promtool_finds_nothing_wrong_with_a_running_daemons_metrics(watched: Watched) -> None:
    with urllib.request.urlopen(f"{watched.here.url}/metrics", timeout=20) as answer:
        found = promtool("check", "metrics", given=answer.read())
    complaints = {line for line in (found.stdout + found.stderr).decode().splitlines() if line}
    assert complaints == OURS


async def test_prometheus_scrapes_and_no_alert_fires_for_a_daemon_that_is_well(watched: Watched) -> None:
    (target,) = watched.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    evaluated = [one for group in watched.ask("rules")["groups"] for one in group["rules"]]
    assert {one["name"] for one in evaluated} == BY_NAME.keys()
    assert {one["name"]: one["lastError"] for one in evaluated if one.get("lastError")} == {}
    assert [one["labels"] for one in watched.ask("alerts")["alerts"]] == []


async def test_exemplars_lead_from_a_bucket_to_a_trace(watched: Watched) -> None:
    found = watched.ask("query_exemplars", query="orchestrator_job_start_duration_seconds_bucket", start="0", end="9e9")
    ids = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert ids
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)


def queries() -> list[tuple[str, str]]:
    """Title and query of every panel, those in collapsed rows too, as Grafana would send it for everything."""
    document = dashboard()
    panels = [inner for panel in document["panels"] for inner in (panel, *panel.get("panels", ()))]
    made = [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]
    return [
        (title, expr.replace("$job", ".*").replace("$pool", ".*").replace("$__rate_interval", "2m"))
        for title, expr in made
    ]


MAY_BE_EMPTY = {
    "Alarms",
    "Connections",
    "Errors of the system itself",
    "Failed and repeated",
    "Failing",
    "Jobs by the platform's count",
    "Jobs without a bound runner",
    "Left of the platform's limit",
    "Notifications",
    "Requests",
    "Requests to platforms",
    "Runners short or withheld",
    "Static secrets",
    "Steps that failed",
    "Table fresh, verdicts waiting",
    "Time of an answer",
    "Verdicts and strangers",
    "Wait by the platform's clock",
    "Why policy denied",
    "Would be denied, or was set aside",
}
"""Panels about what this daemon does not have: a cluster, a platform, secrets; or about what did not go wrong."""


async def test_every_query_of_the_dashboard_is_answered_and_shows_something(watched: Watched) -> None:
    shown = set()
    for title, expr in queries():
        found = watched.ask("query", query=expr)
        if {sample["value"][1] for sample in found["result"]} - {"NaN"}:
            shown.add(title)
    assert {title for title, _ in queries()} - shown - MAY_BE_EMPTY == set()
    assert len(queries()) > 60


async def test_the_variables_of_the_dashboard_have_values(watched: Watched) -> None:
    series = watched.ask("series", **{"match[]": "orchestrator_pool_capacity_runners"})
    assert {(one["job"], one["pool"]) for one in series} == {("orchestrator", "default")}
