"""The whole program on a real control plane: dispatch to verified-gone, with agents as processes and a real gateway.

The node is a script; everything else is what runs in production: the daemon's process, the pod's agent with a
bound token that the API server issued, TokenReview, TLS, the gateway's process, the job's shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.backends.kubernetes.config import RUNNER_AUDIENCE
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.evidence.receipts.document import Receipt
from orchestrator.evidence.receipts.judging import judge
from orchestrator.evidence.receipts.signing import open_receipt
from orchestrator.evidence.signing_key import open_evidence_key
from orchestrator.testing.kubelet import Script
from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.pod_states import End
from orchestrator.testing.ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "no_rule", "message": "nothing applies"}]}

decision := {"allow": true} if {
    input.pool.base == "IMAGE"
    input.pool.isolation == "restricted"
    input.request.deployment_environment != "prod"
}
"""
POLICY_TEST = """package orchestrator_test

import data.orchestrator

pod := {"base": "IMAGE", "isolation": "restricted"}

test_allow if orchestrator.decision.allow == true with input as {"pool": pod, "request": {"deployment_environment": ""}}

test_deny if orchestrator.decision.allow == false with input as {"pool": {"base": "other"}}
"""
AGENT = (
    "import sys, socket; import orchestrator.agent.egress_proof as e; import orchestrator.agent.pod as p; "
    "e.FORBIDDEN = (('tcp:closed', socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', {closed})),); "
    "sys.exit(p.main())"
)


@dataclass
class Installation:
    """A daemon and a gateway as processes, and a scripted node whose pods are real agents and real shells."""

    world: object
    folder: Path
    receiver: OtlpReceiver
    settings: dict = field(default_factory=dict)
    cluster: dict = field(default_factory=dict)
    processes: list = field(default_factory=list)
    daemon: asyncio.subprocess.Process | None = None
    gateway: asyncio.subprocess.Process | None = None
    address: str = "127.0.0.1"
    image: str = "registry.example/job:1"
    port: int = field(default_factory=free_port)
    runner_port: int = field(default_factory=free_port)
    gateway_port: int = field(default_factory=free_port)
    tokens: dict = field(default_factory=dict)
    agents: dict = field(default_factory=dict)
    hold: set = field(default_factory=set)
    api_port: int = 0
    """What pods are told is the API server's port, on loopback; 0 for one where nobody listens."""

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def runner_api(self) -> str:
        return f"https://{self.address}:{self.runner_port}"

    def configure(self, **pod) -> None:
        bundle = self.folder / "policy"
        bundle.mkdir(exist_ok=True)
        (bundle / "decision.rego").write_text(POLICY.replace("IMAGE", self.image))
        (bundle / "decision_test.rego").write_text(POLICY_TEST.replace("IMAGE", self.image))
        namespace = self.world.namespaces[0]
        shape = {
            "namespace": namespace, "image": self.image, "cpu": "10m", "memory": "16Mi",
            "grace_seconds": 1, "stream_logs": False, "priority_class": f"runner-{self.world.installation}",
        }  # fmt: skip
        document = {
            "state_dir": str(self.state),
            "server": {"port": self.port},
            "identity": {"audiences": {"cloud": {}}},
            "policy": {"bundle": str(bundle)},
            "telemetry": {"otlp_endpoint": self.receiver.endpoint, "export_interval_seconds": 0.1},
            "deadlines": {"sweep_seconds": 1},
            "pools": [
                {
                    "name": "default", "backend": "kubernetes", "kubernetes": shape | pod,
                    "egress": [{"host": "allowed.example", "port": 80, "protocol": "http"}],
                }
            ],
            "kubernetes": {
                "installation": self.world.installation, "namespace": namespace,
                "kubeconfig": os.environ["KUBECONFIG"], "agent_image": "registry.example/agent:1", **self.cluster,
                "runner_api": {"host": self.address, "port": self.runner_port, "url": self.runner_api},
                "gateway": {
                    "url": f"http://{self.address}:{self.gateway_port}", "namespace": namespace,
                    "service_account": "orchestrator-gateway", "fresh_seconds": 3,
                },
            },
        } | self.settings  # fmt: skip
        (self.folder / "orchestrator.yaml").write_text(yaml.safe_dump(document))

    async def run(self, *words: str, log: str, **environment: str) -> asyncio.subprocess.Process:
        with (self.folder / log).open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *words, stderr=errors, stdout=errors, cwd=ROOT, start_new_session=True,
                env={**os.environ, **environment},
            )  # fmt: skip
        self.processes.append(process)
        return process

    async def start(self, *, ready: bool = True) -> None:
        (self.state / "daemon.json").unlink(missing_ok=True)
        words = ("-m", "orchestrator", "run", "--config", str(self.folder / "orchestrator.yaml"))
        self.daemon = await self.run(*words, log="daemon.log")
        if ready:
            await self.until((self.state / "daemon.json").exists)

    async def start_gateway(self) -> None:
        token = self.folder / "gateway-token"
        name = "orchestrator-gateway"
        space = self.world.namespaces[0]
        await self.world.ensure(f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": name}})
        pod = await self.world.call(
            "POST",
            self.world.pods(),
            {
                "metadata": {"name": "gateway-1"},
                "spec": {"serviceAccountName": name, "containers": [{"name": "g", "image": "registry.example/g:1"}]},
            },
        )
        token.write_text(await self.token(space, name, "gateway-1", pod["metadata"]["uid"]))
        self.gateway = await self.run(
            "-m", "orchestrator", "gateway", "--daemon-url", self.runner_api, "--ca-file",
            str(self.state / "runner-api-ca.pem"), "--token-file", str(token), "--host", self.address,
            "--port", str(self.gateway_port), "--probe-port", str(free_port()), log="gateway.log",
        )  # fmt: skip

    async def token(self, namespace: str, account: str, pod: str, uid: str, audience: str = RUNNER_AUDIENCE) -> str:
        """What the kubelet projects into the pod."""
        spec = {
            "audiences": [audience],
            "expirationSeconds": 600,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return (await self.world.call("POST", path, {"spec": spec}))["status"]["token"]

    async def until(self, done, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not (await value if asyncio.iscoroutine(value := done()) else value):
                if self.daemon is not None and self.daemon.returncode is not None:
                    pytest.fail(f"the daemon ended with {self.daemon.returncode}: {self.log}")
                await asyncio.sleep(0.05)

    @property
    def log(self) -> str:
        """What the daemon said, requests left out; its end."""
        lines = (self.folder / "daemon.log").read_text().splitlines()
        return "\n".join(line for line in lines if "server.access" not in line)[-6000:]

    # The node.

    async def agent(self, pod: Pod) -> int:
        """The init container: a process with a bound token, in the pod's own memory volume."""
        space = self.world.namespaces[0]
        home = self.folder / pod.name
        for name in ("work", "job"):
            (home / name).mkdir(parents=True, exist_ok=True)
        self.tokens[pod.name] = token = home / "token"
        token.write_text(await self.token(space, "runner", pod.name, pod.uid))
        found = await self.world.call("GET", f"{self.world.pods()}/{pod.name}")
        given = {one["name"]: one["value"] for one in found["spec"]["initContainers"][0]["env"]}
        status = {"status": {"podIP": "127.0.0.1"}}
        await self.world.admin.request(
            "PATCH", f"{self.world.pods()}/{pod.name}/status", body=msgspec.json.encode(status),
            content_type="application/merge-patch+json",
        )  # fmt: skip
        process = await self.run(
            "-c", AGENT.format(closed=free_port()), "--work", str(home / "work"), "--workspace", str(home / "job"),
            log=f"{pod.name}.agent",
            **given | {
                "ORCHESTRATOR_TOKEN_FILE": str(token), "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(self.api_port or free_port()),
            },
        )  # fmt: skip
        self.agents[pod.name] = await process.wait()
        return self.agents[pod.name]

    async def job(self, pod: str) -> tuple[int, str]:
        """The job's container."""
        start = self.folder / pod / "work" / "start"
        await self.until(lambda: self.agents.get(pod) == 0)
        text = start.read_text().replace("/run/orchestrator-identity/token", str(self.tokens[pod]))
        start.chmod(0o600)
        start.write_text(text)
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", str(start), env={"PATH": os.environ["PATH"]}, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    # The API.

    async def call(self, method: str, path: str, **more):
        headers = {"Authorization": f"Bearer {(self.state / 'caller-token').read_text()}"} | more.pop("headers", {})
        async with (
            aiohttp.ClientSession() as client,
            client.request(method, self.url + path, headers=headers, **more) as answer,
        ):
            text = await answer.text()
            assert answer.status < 300, text
            return json.loads(text)

    async def receipt(self, job: str) -> Receipt:
        """The finished job's, which must hold and break no promise."""
        key = open_evidence_key(self.state / "keys" / "evidence")
        envelope = await self.call("GET", f"/v1/jobs/{job}/receipt")
        receipt, _ = open_receipt(json.dumps(envelope), {key.id: key.public})
        assert all(found.holds for found in judge(receipt)), judge(receipt)
        return receipt

    async def submit(self, key: str, script: str, **more) -> str:
        body = {"name": "job", "script": script, "pool": "default"} | more
        answer = await self.call("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key})
        return answer["id"]

    async def phase(self, job: str, phase: str, seconds: float = 60) -> dict:
        found: dict = {}

        async def there() -> bool:
            found.update(await self.call("GET", f"/v1/jobs/{job}"))
            if found["phase"] == "finished" != phase:
                pytest.fail(f"{job} is finished: {found}; {self.log}")
            return found["phase"] == phase

        try:
            await self.until(there, seconds)
        except TimeoutError:
            pytest.fail(f"{job} is not {phase}: {found}; {self.log}")
        return found

    async def pod_of(self, job: str) -> str:
        found = await self.call("GET", f"/v1/jobs/{job}")
        return found["runner"] if isinstance(found["runner"], str) else found["runner"]["name"]

    async def close(self) -> None:
        if self.gateway is not None and self.gateway.returncode is None:
            self.gateway.kill()  # it holds nothing, and would let its connections go on for a while
        for process in self.processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


@pytest.fixture
async def installed(world, tmp_path) -> AsyncIterator[Installation]:
    async with OtlpReceiver() as receiver:
        made = Installation(world, tmp_path, receiver)
        made.configure()
        world.script = lambda _name: Script(End.HOLD)
        made.kubelet = await world.kubelet(agent=made.agent)
        classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
        name = f"runner-{world.installation}"
        await world.call("POST", classes, {"metadata": {"name": name}, "value": 0, "preemptionPolicy": "Never"})
        try:
            yield made
        finally:
            await made.close()
            await world.call("DELETE", f"{classes}/{name}")


async def test_from_dispatch_to_verified_gone(installed):
    here = installed
    await here.start()
    await here.start_gateway()
    script = (
        "orchestrator-token --audience cloud | cut -c1-3; echo artifact > f; orchestrator-artifact f | cut -c1-7; "
        'echo "$GREETING"; echo "${HTTPS_PROXY%%:*}"'
    )
    job = await here.submit("k1", script, environment={"GREETING": "it's\nhere"})
    await here.phase(job, "running")
    pod = await here.pod_of(job)
    document = await here.world.call("GET", f"{here.world.pods()}/{pod}")
    assert "GREETING" not in json.dumps(document), "no job text in the pod"
    assert job not in json.dumps(document), "no identity in the pod"
    code, said = await here.job(pod)
    assert (code, said.splitlines()) == (0, ["eyJ", "sha256:", "it's", "here", "http"]), here.log
    here.kubelet.end(pod, 0)
    finished = await here.phase(job, "finished")
    assert (finished["result"], finished["exit_code"]) == ("success", 0)
    assert [one["name"] for one in finished["artifacts"]] == ["f"]
    assert [one["audience"] for one in finished["tokens"]] == ["cloud"]
    await here.until(lambda: _gone(here, pod))
    receipt = await here.receipt(job)
    assert [(use.uid, bool(use.bound)) for use in receipt.runner.uses] == [(document["metadata"]["uid"], True)]
    assert (receipt.runner.backend, receipt.runner.seen_by) == ("kubernetes", "api_server")
    assert [(one.what, one.how) for one in receipt.access] == [
        ("runner_api", "withdrawn"),
        ("egress_gateways", "withdrawn"),
    ]
    assert [token.audience for token in receipt.tokens] == ["cloud"]
    assert receipt.artifacts == [one["digest"] for one in finished["artifacts"]]
    denied = await here.submit("k2", "true", deployment_environment="prod")
    refused = await here.phase(denied, "finished")
    assert refused["result"] == "denied", refused
    assert (await here.receipt(denied)).runner is None
    await here.until(lambda: _exported(here, job))


async def _gone(here: Installation, pod: str) -> bool:
    return pod not in await here.world.pod_names()


async def _exported(here: Installation, job: str) -> bool:
    """One root, and every span ended: the receiver only ever gets ended ones."""
    trace = (await here.call("GET", f"/v1/jobs/{job}"))["trace_id"]
    spans = [span for span in here.receiver.spans if span.trace_id.hex() == trace]
    return len([span for span in spans if not span.parent_span_id]) == 1 and any("bind" in span.name for span in spans)


CONNECT = """
import base64, os, socket, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
word = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
for host, header in ((sys.argv[1], f"Proxy-Authorization: Basic {word}\\r\\n"), (sys.argv[1], "")):
    with socket.create_connection((proxy.hostname, proxy.port), 10) as to:
        to.sendall(f"CONNECT {host}:443 HTTP/1.1\\r\\nHost: {host}\\r\\n{header}\\r\\n".encode())
        print(to.makefile().readline().split(" ", 2)[1])
"""


async def scraped(here: Installation) -> Callable[..., float]:
    """A question to the daemon's metrics as they are now: the sum of all samples of a name that have these labels."""
    async with aiohttp.ClientSession() as client, client.get(f"{here.url}/metrics") as answer:
        text = await answer.text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    return value


async def test_the_metrics_tell_of_the_runners_way_and_of_every_request_to_the_cluster(installed):
    here = installed
    await here.start()
    await here.start_gateway()
    job = await here.submit("k1", "true")
    await here.phase(job, "running")
    value = await scraped(here)
    assert value("cicd_worker_count", pool="default", cicd_worker_state="busy") == 1
    assert value("orchestrator_pool_used_runners", pool="default") == 1
    assert value("orchestrator_job_waiting") == 0
    assert value("orchestrator_job_wait_seconds_total", pool="default", reason="runner_starting") > 0
    pod = await here.pod_of(job)
    assert (await here.job(pod))[0] == 0
    here.kubelet.end(pod, 0)
    await here.phase(job, "finished")
    denied = await here.submit("k2", "true", deployment_environment="prod")
    await here.phase(denied, "finished")
    value = await scraped(here)
    requests = "orchestrator_kubernetes_request_duration_seconds_count"
    for verb in ("create", "delete"):
        assert value(requests, verb=verb, resource="pods", status="2xx") == 1, "two writes for a job"
    assert value(requests, verb="create", resource="tokenreviews", status="2xx") > 0
    assert value(requests, verb="watch", resource="pods", status="2xx") > 0
    assert value(requests, status="5xx") == value(requests, status="none") == 0
    assert value("cicd_system_errors_total") == 0
    assert value("cicd_worker_count") == 0
    runs = "cicd_pipeline_run_duration_seconds_count"
    assert (value(runs, cicd_pipeline_result="success"), value(runs, cicd_pipeline_result="skip")) == (2, 2)
    assert value("orchestrator_policy_denied_total", stage="admission", code="no_rule") == 1
    for stage in ("create", "start", "egress_proof", "claim"):
        name = "orchestrator_runner_start_stage_duration_seconds_count"
        assert value(name, pool="default", stage=stage) == 1, f"stage {stage}"


async def test_egress_is_the_gateways_word_and_stands_on_the_jobs_record(installed):
    here = installed
    await here.start()
    await here.start_gateway()
    job = await here.submit("k1", f"cat > c.py <<'END'\n{CONNECT}\nEND\n{sys.executable} c.py forbidden.example")
    await here.phase(job, "running")
    pod = await here.pod_of(job)
    _, said = await here.job(pod)
    assert said.split() == ["403", "407"], said
    here.kubelet.end(pod)
    finished = await here.phase(job, "finished")
    verdicts = {(one["host"], one["allowed"]) for one in finished["egress"]}
    assert ("forbidden.example", False) in verdicts
    _, said = await here.job(pod)
    assert set(said.split()) <= {"403", "407"}, "its credential is worth nothing any more"
    later = (await here.call("GET", f"/v1/jobs/{job}"))["egress"]
    assert later == finished["egress"]


async def test_a_daemon_killed_in_the_middle_leaves_the_pod_and_the_next_one_takes_it_over(installed):
    here = installed
    await here.start()
    await here.start_gateway()
    job = await here.submit("k1", "orchestrator-token --audience cloud | cut -c1-3")
    await here.phase(job, "running")
    pod = await here.pod_of(job)
    uid = (await here.world.call("GET", f"{here.world.pods()}/{pod}"))["metadata"]["uid"]
    # Bound is not yet served: who is killed in between leaves an agent that never gets its work, and a lost runner.
    await here.until(lambda: here.agents.get(pod) == 0)
    here.daemon.kill()
    await here.daemon.wait()
    await here.start()
    assert (await here.call("GET", f"/v1/jobs/{job}"))["phase"] == "running"
    code, said = await here.job(pod)
    assert (code, said) == (0, "eyJ\n"), here.log
    assert (await here.world.call("GET", f"{here.world.pods()}/{pod}"))["metadata"]["uid"] == uid
    here.kubelet.end(pod, 3)
    finished = await here.phase(job, "finished")
    assert (finished["result"], finished["exit_code"]) == ("failure", 3)
    assert list(here.agents) == [pod], "it never ran twice"
    receipt = await here.receipt(job)
    assert (receipt.daemon.restarts, receipt.runner.uses[0].uid, len(receipt.tokens)) == (1, uid, 1)
    await here.until(lambda: _exported(here, job))


async def test_a_drained_daemon_leaves_running_pods_alone(installed):
    here = installed
    await here.start()
    await here.start_gateway()
    job = await here.submit("k1", "true")
    await here.phase(job, "running")
    pod = await here.pod_of(job)
    here.daemon.terminate()
    async with asyncio.timeout(40):
        assert await here.daemon.wait() == 0
    assert pod in await here.world.pod_names()
    here.kubelet.end(pod)  # it ends while nobody looks
    await here.start()
    assert (await here.phase(job, "finished"))["result"] == "success"


async def test_who_claims_again_or_with_a_wrong_token_gets_nothing(installed):
    here = installed
    await here.start()
    await here.start_gateway()
    job = await here.submit("k1", "echo secret-work")
    await here.phase(job, "running")
    name = await here.pod_of(job)
    space = here.world.namespaces[0]
    uid = (await here.world.call("GET", f"{here.world.pods()}/{name}"))["metadata"]["uid"]
    await here.world.ensure(f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "other"}})
    good = await here.token(space, "runner", name, uid)
    foreign = await here.token(space, "runner", name, uid, audience="somebody-else")
    unbound = (
        await here.world.call(
            "POST",
            f"/api/v1/namespaces/{space}/serviceaccounts/runner/token",
            {"spec": {"audiences": [RUNNER_AUDIENCE]}},
        )
    )["status"]["token"]
    forged = good[: good.rindex(".") + 1] + "A" * len(good[good.rindex(".") + 1 :])
    assert (await claim(here, good)) == (409, "already_bound")
    assert [one["alarm"] for one in (await here.call("GET", f"/v1/jobs/{job}"))["alarms"]] == ["second_claim"]
    for wrong in (foreign, unbound, forged, "x.y.z", good + "x"):
        assert (await claim(here, wrong)) == (401, "runner_unknown")
    here.kubelet.end(name)
    await here.phase(job, "finished")
    assert (await claim(here, good)) == (401, "runner_unknown"), "our record knows at once"


async def claim(here: Installation, token: str) -> tuple[int, str]:
    trust = ssl.create_default_context(cafile=str(here.state / "runner-api-ca.pem"))
    body = {"proof": {"denied": ["all"], "reached": []}}
    async with (
        aiohttp.ClientSession() as client,
        client.post(
            f"{here.runner_api}/runner/v1/claim", json=body, headers={"Authorization": f"Bearer {token}"}, ssl=trust
        ) as answer,
    ):
        return answer.status, (await answer.json()).get("reason", "")


async def test_a_warm_runner_gets_its_job_by_its_open_claim_and_is_never_used_again(installed):
    here = installed
    here.configure(warm=1)
    await here.start()
    await here.start_gateway()

    async def warm() -> list[dict]:
        pods = (await here.world.call("GET", here.world.pods()))["items"]
        return [pod for pod in pods if pod["metadata"]["name"].startswith("warm-")]

    async def one_is_ready() -> bool:
        return [pod["status"].get("podIP") for pod in await warm()] == ["127.0.0.1"]

    await here.until(one_is_ready)
    (pod,) = await warm()
    await asyncio.sleep(1)  # its agent has proven and asks
    job = await here.submit("k1", "echo $ORCHESTRATOR_JOB_ID; orchestrator-token --audience cloud | cut -c1-3")
    running = await here.phase(job, "running")
    assert running["runner"]["uid"] == pod["metadata"]["uid"]
    name = pod["metadata"]["name"]
    assert job not in json.dumps(await here.world.call("GET", f"{here.world.pods()}/{name}"))
    await here.until(lambda: here.agents.get(name) == 0)  # it has its work
    here.daemon.kill()
    await here.daemon.wait()
    await here.start()
    assert await here.job(name) == (0, f"{job}\neyJ\n"), here.log
    here.kubelet.end(name)
    assert (await here.phase(job, "finished"))["result"] == "success"

    async def replaced() -> bool:
        names = [one["metadata"]["name"] for one in await warm()]
        return len(names) == 1 and name not in names

    await here.until(replaced)


async def test_one_daemon_leads_and_another_waits_and_says_so(installed):
    here = installed
    await here.start()
    await here.start_gateway()
    leader = here.daemon
    job = await here.submit("k1", "true")
    await here.phase(job, "running")
    here.port = free_port()
    here.configure()
    await here.start(ready=False)
    standby = here.daemon

    async def waiting() -> bool:
        try:
            return await readiness(here) == (503, "leads")
        except aiohttp.ClientConnectionError:
            return False

    await here.until(waiting)
    async with aiohttp.ClientSession() as client:
        assert (await client.get(f"{here.url}/healthz")).status == 200
        assert (await client.post(f"{here.url}/v1/jobs", json={})).status == 503
    leader.terminate()
    assert await leader.wait() == 0
    await here.until((here.state / "daemon.json").exists)
    assert standby.returncode is None
    assert (await here.call("GET", f"/v1/jobs/{job}"))["phase"] == "running"
    here.kubelet.end(await here.pod_of(job))
    assert (await here.phase(job, "finished"))["result"] == "success"


async def test_a_standby_that_is_told_to_stop_stops(installed):
    here = installed
    await here.start()
    leader = here.daemon
    here.port = free_port()
    here.configure()
    await here.start(ready=False)

    async def waiting() -> bool:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            return await readiness(here) == (503, "leads")
        return False

    await here.until(waiting)
    here.daemon.terminate()
    async with asyncio.timeout(40):
        assert await here.daemon.wait() == 0
    assert leader.returncode is None


async def readiness(here: Installation) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(f"{here.url}/readyz") as answer:
        leader = (await answer.json())["checks"].get("leader", "")
        return answer.status, leader.rpartition(" ")[2]


async def test_a_daemon_that_lost_the_lease_stops_at_once(installed):
    here = installed
    await here.start()
    path = (
        f"/apis/coordination.k8s.io/v1/namespaces/{here.world.namespaces[0]}/leases/"
        f"orchestrator-{here.world.installation}"
    )
    lease = await here.world.call("GET", path)
    lease["spec"]["holderIdentity"] = "another"
    await here.world.call("PUT", path, lease)
    async with asyncio.timeout(40):
        assert await here.daemon.wait() == 1
    assert "another holds the Lease now [lease_lost]" in here.log


async def test_an_image_without_a_digest_is_refused_at_start_where_the_pool_demands_one(installed):
    here = installed
    here.configure(require_digest=True)
    await here.start(ready=False)
    async with asyncio.timeout(40):
        assert await here.daemon.wait() == 1
    assert "[image_not_pinned]" in here.log


# --- on a real node: kubelet, projected tokens, NetworkPolicies, logs -----------------------------------------

BUSYBOX = "runner.local/busybox:1"


def _sibling(name: str):
    """Test modules are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def containerd(folder: str) -> list[str]:
    """The command that gives the node's containerd an image."""
    for process in psutil.process_iter(["name", "cwd", "exe"]):
        if process.info["name"] == "containerd" and str(process.info["cwd"]).startswith(folder):
            command = Path(process.info["exe"]).with_name("ctr")
            return [str(command), "--address", f"{folder}/containerd.sock", "--namespace", "k8s.io", "images"]
    pytest.skip("the cluster has no node whose containerd is at $CLUSTER_DIR/containerd.sock")


@pytest.fixture
async def noded(world, tmp_path) -> AsyncIterator[Installation]:
    """A daemon and a gateway at the node's own address, for pods that really run."""
    command = containerd(os.environ.get("CLUSTER_DIR") or "/nowhere")
    agent = _sibling("image_files").read("agent")
    subprocess.run([*command, "import", agent.archive], check=True, capture_output=True, timeout=60)
    nodes = (await world.call("GET", "/api/v1/nodes"))["items"]
    (address,) = [
        one["address"] for node in nodes for one in node["status"]["addresses"] if one["type"] == "InternalIP"
    ]
    async with OtlpReceiver() as receiver:
        made = Installation(
            world, tmp_path, receiver, address=address, image=BUSYBOX,
            cluster={"agent_image": agent.reference, "image_pull_policy": "IfNotPresent"},
        )  # fmt: skip
        made.configure(memory="128Mi", cpu="50m", workspace="16Mi", tmp="16Mi", stream_logs=True)
        classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
        name = f"runner-{world.installation}"
        await world.call("POST", classes, {"metadata": {"name": name}, "value": 0, "preemptionPolicy": "Never"})
        try:
            yield made
        finally:
            await made.close()
            await world.call("DELETE", f"{classes}/{name}")


def policies(here: Installation) -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/{here.world.namespaces[0]}/networkpolicies"


async def guard(here: Installation) -> None:
    """Runners reach gateway and runner API, and nothing else."""
    ports = [{"protocol": "TCP", "port": port} for port in (here.runner_port, here.gateway_port)]
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": f"{here.address}/32"}}], "ports": ports}],
    }
    await here.world.call("POST", policies(here), {"metadata": {"name": "runners"}, "spec": spec})


async def log_of(here: Installation, job: str) -> str:
    headers = {"Authorization": f"Bearer {(here.state / 'caller-token').read_text()}"}
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{here.url}/v1/jobs/{job}/log", headers=headers) as answer,
    ):
        return await answer.text()


async def test_jobs_truly_run_on_a_node(noded):
    here = noded
    await guard(here)
    await here.start()
    await here.start_gateway()
    script = (
        'echo "$GREETING"; id -u; pwd; touch /x 2>&1 || true; touch f && echo written; '
        "i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); done; exit 3"
    )
    job = await here.submit("k1", script, environment={"GREETING": "it's\nhere ü"})
    finished = await here.phase(job, "finished", 60)
    assert (finished["result"], finished["exit_code"]) == ("failure", 3), (finished, here.log)
    lines = (await log_of(here, job)).splitlines()
    assert lines[:4] == ["it's", "here ü", "64001", "/job"]
    assert "Read-only file system" in lines[4]
    assert lines[5:] == ["written", *map(str, range(500))]
    assert finished["log"]["bytes_kept"] > 0
    running = await here.submit("k2", "echo begun; sleep 600")
    await here.phase(running, "running", 60)

    async def begun() -> bool:
        return "begun" in await log_of(here, running)

    await here.until(begun)
    await here.call("DELETE", f"/v1/jobs/{running}")
    cancelled = await here.phase(running, "finished", 60)
    assert cancelled["result"] == "cancellation", cancelled


async def test_without_its_network_policy_a_pool_hands_out_no_work(noded):
    here = noded
    await here.start()
    await here.start_gateway()
    job = await here.submit("k1", "echo never")
    finished = await here.phase(job, "finished", 60)
    assert finished["reason"] == "egress_unproven", (finished, here.log)
    assert "443" in finished["message"]
    await guard(here)
    again = await here.submit("k2", "echo now")
    assert (await here.phase(again, "finished", 60))["result"] == "success"
    assert await log_of(here, again) == "now\n"
    assert await log_of(here, job) == ""


async def test_a_log_goes_on_under_the_next_daemon(noded):
    here = noded
    await guard(here)
    await here.start()
    await here.start_gateway()
    script = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.2; done"
    job = await here.submit("k1", script)
    await here.phase(job, "running", 60)

    async def talks() -> bool:
        return "line 10" in await log_of(here, job)

    await here.until(talks)
    here.daemon.terminate()
    assert await here.daemon.wait() == 0
    await asyncio.sleep(2)
    await here.start()
    finished = await here.phase(job, "finished", 60)
    assert finished["result"] == "success", (finished, here.log)
    assert (await log_of(here, job)).splitlines() == [f"line {number}" for number in range(60)]
