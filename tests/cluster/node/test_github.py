"""A job of GitHub's that truly runs in a pod: its registration in memory only, its name, its way out, nothing left."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from node import PYTHON, RUN_SH, Node
from product import ALLOWED, Product, installed

from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import JobPlan, Run
from orchestrator.testing.github.routes_service import jit_blob
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(240)]

HOST = "github.test.internal"
REPORT = "/_broker/complete"
TOKEN_FILE = "github-token"
PROBE = """
import os, socket, urllib.error, urllib.request

def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

def connect(host, port):
    try:
        socket.create_connection((host, port), 3).close()
    except TimeoutError:
        return "timeout"
    return "connected"

print("github by the gateway", fetch("http://HOST:PORT/rate_limit"))
print("another host by the gateway", fetch("http://ALLOWED:WITNESS/no"))
print("github directly", connect("ADDRESS", PORT))
"""


class Platform:
    """GitHub's test server in a thread: for the daemon at loopback, for the gateway at the node's address."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.secrets: set[str] = set()
        self.runs: list[Run] = []
        self.server = self.do(lambda: self._open(address))

    def do(self, make: Callable[[], Any]) -> Any:
        """What `make` gives, called and awaited where the server lives."""

        async def called() -> Any:
            made = make()
            return await made if asyncio.iscoroutine(made) else made

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(60)

    async def _open(self, address: str) -> GitHubServer:
        port = free_port(address)
        server = GitHubServer(port=port, runner_url=f"http://{HOST}:{port}")
        await server.start()
        assert server._runner is not None
        await web.TCPSite(server._runner, address, port).start()
        server.add_repository("acme/shop", branches={"main": True})
        register = server.state.register

        def noted(*given: Any, **named: Any) -> Any:
            runner = register(*given, **named)
            self.secrets |= {runner.secret, jit_blob(runner, f"http://{HOST}:{port}")}
            return runner

        server.state.register = noted  # type: ignore[method-assign]
        return server

    def dispatch(self, *plans: JobPlan) -> Run:
        run: Run = self.do(lambda: self.server.dispatch_workflow("acme/shop", plans))
        self.runs.append(run)
        return run

    def reporting(self) -> bool:
        """A runner has done its steps and reports."""
        return bool(self.server.counters[f"POST {REPORT}"])

    def close(self) -> None:
        self.do(self.server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def platform(node: Node) -> Iterator[Platform]:
    made = Platform(node.address)
    yield made
    made.close()


@pytest.fixture(scope="module")
def site(
    node: Node, described: Callable[..., Product], platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    """One installation that listens to GitHub; its pool reaches GitHub and nothing else."""
    folder: Path = tmp_path_factory.mktemp("github")
    secret = folder / TOKEN_FILE
    secret.touch(0o600)
    secret.write_text(platform.server.personal_token, encoding="ascii")
    rule = {"host": HOST, "port": platform.server.port, "protocol": "http"}
    scale_set = {"name": "zt", "pool": "python", "runner_command": [RUN_SH]}
    source = {
        "name": "acme", "url": platform.server.config_url("acme"), "token_file": str(secret), "hosts": [rule],
        "scale_sets": [scale_set],
    }  # fmt: skip
    settings = {"github": [source], "egress": {"names": {HOST: node.address, ALLOWED: node.address}}}
    pools = {"python": {"egress": [rule], "kubernetes": {"image": PYTHON}}}
    with installed(described(folder, pools, settings=settings)) as made:
        yield made


@pytest.fixture(autouse=True)
def a_quiet_end(site: Product, platform: Platform) -> Iterator[None]:
    """A test that fails half-way leaves nothing running that the next one would take for its own."""
    yield
    platform.server.faults.clear()
    platform.do(lambda: platform.server.cut(REPORT))
    for run in platform.runs:
        if not run.done:
            platform.do(lambda run=run: platform.server.state.cancel(run))
    platform.runs.clear()


def the_job(site: Product) -> str:
    """The newest record of the source."""
    found = [one["id"] for one in site.call("GET", "/v1/jobs")["jobs"] if one["id"].startswith("acme.")]
    return str(found[0])


@pytest.mark.parametrize("id_token", [True, False], ids=["by its token", "by the API"])
def test_a_job_of_githubs_runs_in_a_pod(site: Product, platform: Platform, witness, id_token: bool):
    server, before = platform.server, len(witness.visits)
    server.counters.clear()
    server.state.assignment.hold_started = 3600  # GitHub's own message stays out: the hook alone can name the job
    server.faults.add(Fault.HANG, REPORT)  # so that the pod can be looked at after its steps
    probe = PROBE.replace("HOST", HOST).replace("PORT", str(server.port)).replace("ALLOWED", ALLOWED)
    probe = probe.replace("WITNESS", str(witness.port)).replace("ADDRESS", site.node.address)
    steps = (
        'echo "step of $ORCHESTRATOR_JOB_ID in $TRACEPARENT"',
        'echo "variables $(env | grep -c JITCONFIG || true)"',
        'find / -xdev -name jitconfig -readable -size +0 2>/dev/null | sed "s/^/left: /"',
        f"python3 - <<'END'\n{probe}\nEND",
    )
    run = platform.dispatch(JobPlan("build", steps=steps, id_token=id_token))
    site.until(platform.reporting, 90)

    job = the_job(site)
    (pod,) = site.pods_of("python")
    space, name = site.pool_namespace("python"), pod["metadata"]["name"]
    _, log = site.node.admin.ask("GET", f"{site.pods(space)}/{name}/log?container=job")
    places = {"pod": json.dumps(pod), "pod's log": json.dumps(log), "Secrets": contents_of_secrets(site.node)}
    assert "Connected to GitHub" in places["pod's log"], log
    uid = site.job(job)["runner"]["uid"]
    assert uid == pod["metadata"]["uid"]

    platform.do(lambda: server.cut(REPORT))
    site.until(lambda: run.done, 60)
    assert run.jobs[0].conclusion == "success", run.jobs[0].log
    found = site.finished(job)
    assert (found["result"], found["reason"]) == ("success", "completed"), found
    assert (found["alarms"], found["leftovers"]) == ([], [])
    site.until(lambda: not site.left())
    site.until(lambda: not server.state.runners)
    assert run.jobs[0].starts == 1

    said = run.jobs[0].log
    assert f"step of {job} in 00-{found['trace_id']}-" in said
    assert "variables 0" in said
    assert "github by the gateway 401" in said
    assert "another host by the gateway 403" in said
    assert "github directly timeout" in said
    assert witness.visits[before:] == []
    facts = json.dumps(site.job(job))
    assert '"proof": "oidc"' in facts if id_token else '"proof": "api"' in facts
    places |= {path.name: path.read_bytes().decode("utf-8", "replace") for path in files_of(site)}
    assert "daemon.log" in places
    leaks = [place for place, text in places.items() if any(secret in text for secret in platform.secrets)]
    assert leaks == []


def contents_of_secrets(node: Node) -> str:
    """What the Secrets of all namespaces hold, decoded; one made here must be among it, or the look is none."""
    mark, secrets = f"planted-{uuid.uuid4().hex}", "/api/v1/namespaces/default/secrets"
    planted = node.admin.call("POST", secrets, {"metadata": {"generateName": "look-"}, "stringData": {"mark": mark}})
    found = node.admin.call("GET", "/api/v1/secrets")["items"]
    node.admin.call("DELETE", f"{secrets}/{planted['metadata']['name']}")
    values = [value for one in found for value in (one.get("data") or {}).values()]
    text = "\n".join(base64.b64decode(value).decode("utf-8", "replace") for value in values)
    assert mark in text
    return text


def files_of(site: Product) -> list[Path]:
    """All that the daemon has written."""
    found = [path for path in site.folder.rglob("*") if path.is_file() and path.name != TOKEN_FILE]
    return [path for path in found if path.stat().st_size < 64 << 20]


def test_a_job_is_cancelled_at_github(site: Product, platform: Platform):
    """The pod ends as its runner says so; GitHub has no registration and the cluster no pod."""
    platform.server.state.assignment.hold_started = 0.0
    run = platform.dispatch(JobPlan("long", steps=("sleep 600",)))
    site.until(lambda: bool(run.jobs[0].starts), 90)
    site.until(lambda: site.job(the_job(site))["name"] == "long", 30)
    job = the_job(site)
    platform.do(lambda: platform.server.state.cancel(run))
    found = site.finished(job)
    assert (found["result"], found["reason"]) == ("cancellation", "cancelled"), found
    assert run.jobs[0].conclusion == "cancelled"
    site.until(lambda: not site.left() and not platform.server.state.runners)


def test_at_the_end_nothing_is_left(site: Product, platform: Platform):
    assert site.end() == 0
    assert site.left() == []
    assert not platform.server.state.runners
    assert [one.name for one in platform.server.state.sets.values() if one.session] == []
