"""A daemon whose GitHub is away says so everywhere, serves all else, and says when it is back."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import orchestrator.testing.github
from orchestrator.testing.github.model import JobPlan
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.ports import free_port

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]  # the client tries for some ten seconds before it gives up

HOST = "github.test"
PACKAGE = Path(orchestrator.testing.github.__file__).parent
RUN_SH = f"""#!/bin/sh
exec python3 -I -S {PACKAGE / "runner.py"} "$@"
"""
POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "no_rule", "message": "only acme/shop runs here"}]}

decision := {"allow": true} if input.caller.facts.repository == "acme/shop"
"""
POLICY_TEST = """package orchestrator_test

import data.orchestrator

test_allow if {
	orchestrator.decision.allow == true with input as {"caller": {"facts": {"repository": "acme/shop"}}}
}

test_deny if orchestrator.decision.allow == false with input as {"caller": {"facts": {"repository": "acme/other"}}}
"""


def settings(folder: Path, port: int, token: str) -> dict[str, Any]:
    """One scale set of a GitHub that is expected on this port."""
    rules, tools, secret = folder / "rules", folder / "runner", folder / "github-token"
    rules.mkdir()
    (rules / "decision.rego").write_text(POLICY)
    (rules / "decision_test.rego").write_text(POLICY_TEST)
    tools.mkdir()
    (tools / "run.sh").write_text(RUN_SH)
    (tools / "run.sh").chmod(0o755)
    secret.write_text(token)
    secret.chmod(0o600)
    hosts = [{"host": HOST, "port": port, "protocol": "http"}]
    return {
        "policy": {"bundle": str(rules)},
        "pools": [{"name": "default", "egress": hosts, "sandbox": {"toolchain": [str(tools), str(PACKAGE)]}}],
        "egress": {"names": {HOST: "127.0.0.1"}},
        "github": [
            {
                "name": "acme",
                "url": f"http://127.0.0.1:{port}/acme",
                "token_file": str(secret),
                "hosts": hosts,
                "scale_sets": [{"name": "zt", "pool": "default", "runner_command": [str(tools / "run.sh")]}],
            }
        ],
    }


class Asked:
    """The daemon's API as an operator asks it."""

    def __init__(self, state: Path) -> None:
        self._url = json.loads((state / "daemon.json").read_text())["url"]
        self._token = state / "caller-token"

    def get(self, path: str) -> str:
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}"}
        with urllib.request.urlopen(urllib.request.Request(self._url + path, headers=headers), timeout=10) as answer:
            return str(answer.read().decode())

    def scale_set(self) -> dict[str, Any]:
        (source,) = json.loads(self.get("/v1/sources"))["sources"]
        (one,) = source["sets"]
        return dict(one)


async def test_away_and_back(program, tmp_path):
    port = free_port()
    github = GitHubServer(port=port, runner_url=f"http://{HOST}:{port}")
    daemon = program(**settings(tmp_path, port, github.personal_token))

    def away() -> None:
        daemon.start()
        line = daemon.said("listening to scale set default/zt of GitHub source acme fails: ")
        assert (line["level"], line["reason"]) == ("warning", "github_unavailable")
        assert "[github_unavailable]; fix: see whether GitHub and the way to it" in line["event"]
        asked = Asked(tmp_path / "state")
        assert json.loads(asked.get("/readyz"))["ready"] is True
        one = asked.scale_set()
        assert (one["stage"], one["waiting_for"]) == ("waiting", "github_unavailable")
        assert one["failure"]["fix"]
        assert 'orchestrator_source_failing{set="default/zt",source="acme"} 1.0' in asked.get("/metrics")

    def back() -> None:
        assert daemon.said("listening to scale set default/zt of GitHub source acme works again")["level"] == "info"
        warnings = [line for line in daemon.log if "GitHub source acme fails" in line["event"]]
        assert len(warnings) == 1, "an outage is told once"
        named, completed = daemon.said("a platform's job is named"), daemon.said("a platform's job is completed")
        assert named["level"] == completed["level"] == "info"
        assert named["repository"] == completed["repository"] == "acme/shop"
        assert named["platform_key"] == completed["platform_key"] != ""
        assert named["job_id"] == completed["job_id"]
        assert named["trace_id"] == completed["trace_id"] != ""
        asked = Asked(tmp_path / "state")
        assert asked.scale_set()["failure"] is None
        metrics = asked.get("/metrics")
        assert 'orchestrator_source_job_wait_seconds_count{set="default/zt",source="acme"} 1.0' in metrics
        assert 'orchestrator_source_event_total{event="registered",source="acme"} 1.0' in metrics

    await asyncio.to_thread(away)
    async with github:
        github.add_repository("acme/shop", branches={"main": True})
        run = github.dispatch_workflow("acme/shop", [JobPlan("build", steps=("true",))])
        await github.until(lambda: run.jobs[0].done, 60)
        assert run.jobs[0].conclusion == "success", run.jobs[0].log
        await asyncio.to_thread(back)
        assert await asyncio.to_thread(daemon.end) == 0
