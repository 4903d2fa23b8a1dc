"""The whole product on a real node, as an operator has it: rendered manifests, the daemon with its own account.

The manifests are applied as `orchestrator manifests` renders them, so the gateway is the rendered Deployment in its
real image. The daemon alone runs on this machine instead of in a pod, so that tests can kill it; its kubeconfig holds
the token of the ServiceAccount that the manifests give it, and nothing more.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from node import ROOT, Json, Node, kubectl

from orchestrator.identity.serving_certificate import ServingCertificate
from orchestrator.testing.ports import free_port

STAGING, PROD = "https://staging.deploy.example", "https://prod.deploy.example"
ALLOWED = "witness.test.internal"
"""The host that jobs may reach, by the gateway only: a server of the test."""
HELD = "until [ -e go ]; do sleep 0.2; done"
"""In a job's script: wait until the test lets it go on."""


class DaemonEndedError(AssertionError):
    """The daemon ended by itself; with its own last words."""


@dataclass
class Product:
    """One installation. `pools` maps a pool's name to its settings, `kubernetes` of it without the namespace."""

    node: Node
    folder: Path
    agent_image: str
    daemon_image: str
    pools: Mapping[str, Json]
    settings: Json = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    cluster: Json = field(default_factory=dict)
    installation: str = field(default_factory=lambda: f"t{secrets.token_hex(3)}")
    port: int = field(default_factory=free_port)
    daemons: list[subprocess.Popen] = field(default_factory=list)
    keys: int = 0

    def __post_init__(self) -> None:
        self.runner_port = free_port("0.0.0.0")
        self.addresses: dict[str, tuple[str, ...]] = {}

    # --- what an operator does ---

    @property
    def namespace(self) -> str:
        return f"orchestrator-{self.installation}"

    def pool_namespace(self, pool: str) -> str:
        return f"{self.installation}-{pool}"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def runner_api(self) -> str:
        return f"https://{self.node.address}:{self.runner_port}"

    @property
    def gateway_host(self) -> str:
        return f"orchestrator-gateway.{self.namespace}.svc"

    def configure(self, port: int | None = None) -> Path:
        """Write the settings; the file."""
        pools = [
            {"name": name, "backend": "kubernetes", **given,
             "kubernetes": {"namespace": self.pool_namespace(name), **given.get("kubernetes", {})}}
            for name, given in self.pools.items()
        ]  # fmt: skip
        document = {
            "state_dir": str(self.state),
            "server": {"port": port or self.port},
            "identity": {"audiences": {STAGING: {}, PROD: {}}},
            "egress": {"names": dict(self.names)},
            "deadlines": {"sweep_seconds": 1, "drain_seconds": 10},
            "telemetry": {"export_interval_seconds": 0.1},
            "pools": pools,
            "kubernetes": {
                "kubeconfig": str(self.folder / "daemon.kubeconfig"),
                "installation": self.installation, "namespace": self.namespace, "image_pull_seconds": 5,
                "agent_image": self.agent_image, "image": self.daemon_image, "image_pull_policy": "IfNotPresent",
                "host_addresses": {host: list(found) for host, found in self.addresses.items()},
                "runner_api": {"port": self.runner_port, "url": self.runner_api},
                "gateway": {
                    "url": f"http://{self.gateway_host}:3128", "namespace": self.namespace, "replicas": 1,
                    "fresh_seconds": 5,
                },
                **self.cluster,
            },
        } | self.settings  # fmt: skip
        path = self.folder / ("orchestrator.yaml" if port is None else f"orchestrator-{port}.yaml")
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def install(self) -> None:
        """Render, apply, and wait until the gateway's pod has its address."""
        rendered = self.folder / "rendered"
        config = self.configure()
        command = [
            sys.executable,
            "-m",
            "orchestrator",
            "manifests",
            "--config",
            str(config),
            "--output",
            str(rendered),
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        self._overlay(rendered)
        kubectl("apply", "-k", str(rendered))
        account = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/orchestrator/token"
        token = self.node.admin.call("POST", account, {"spec": {"expirationSeconds": 7200, "audiences": []}})
        self._kubeconfig(token["status"]["token"])
        pod = self.until(self._gateway_pod, 60)
        self.addresses[self.gateway_host] = (pod["status"]["podIP"],)
        self.configure()

    def _overlay(self, rendered: Path) -> None:
        """What a site adds: the CA's public half for gateways. What it leaves out: the daemon's own Deployment, and
        kinds that an old API server does not know."""
        self.state.mkdir(mode=0o700, exist_ok=True)
        certificate = ServingCertificate.open(self.state / "keys", self.node.address, time.time)
        known = {line.split()[-1] for line in kubectl("api-resources", "--no-headers").splitlines()}
        groups = set(kubectl("api-versions").split())
        for path in rendered.glob("*.yaml"):
            if path.name == "kustomization.yaml":
                continue
            documents = [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]
            kept = [
                one for one in documents
                if one["kind"] in known and one["apiVersion"] in groups
                and (one["kind"], one["metadata"]["name"]) != ("Deployment", "orchestrator")
            ]  # fmt: skip
            path.write_text(yaml.safe_dump_all(kept), encoding="utf-8")
        ca = {
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.pem": certificate.ca_pem},
            "metadata": {"name": "orchestrator-runner-api-ca", "namespace": self.namespace},
        }  # fmt: skip
        (rendered / "runner-api-ca.yaml").write_text(yaml.safe_dump(ca), encoding="utf-8")
        kustomization = rendered / "kustomization.yaml"
        document = yaml.safe_load(kustomization.read_text("utf-8"))
        filled = [
            name for name in document["resources"] if (rendered / name).read_text("utf-8").strip() not in ("", "[]")
        ]
        document["resources"] = [*filled, "runner-api-ca.yaml"]
        kustomization.write_text(yaml.safe_dump(document), encoding="utf-8")

    def _kubeconfig(self, token: str) -> None:
        admin = self.node.admin
        authority = self.folder / "ca.crt"
        authority.write_text(admin.ca, encoding="utf-8")
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "daemon",
            "contexts": [{"name": "daemon", "context": {"cluster": "here", "user": "daemon"}}],
            "clusters": [{"name": "here", "cluster": {"server": admin.url, "certificate-authority": str(authority)}}],
            "users": [{"name": "daemon", "user": {"token": token}}],
        }  # fmt: skip
        path = self.folder / "daemon.kubeconfig"
        path.touch(0o600)
        path.write_text(json.dumps(document), encoding="utf-8")

    def _gateway_pod(self) -> Json | None:
        selector = "app.kubernetes.io/component=gateway"
        for pod in self.node.admin.call("GET", f"{self.pods(self.namespace)}?labelSelector={selector}")["items"]:
            if pod["status"].get("podIP") and pod["status"].get("phase") == "Running":
                return pod
        return None

    def start(self, *, ready: bool = True, port: int | None = None) -> subprocess.Popen:
        """The daemon as a process; `ready` waits until it works and its gateway knows it."""
        config = self.configure(port)
        (self.state / "daemon.json").unlink(missing_ok=True) if ready else None
        with (self.folder / "daemon.log").open("ab") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "run", "--config", str(config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        self.daemons.append(daemon)
        if ready:
            self.until(lambda: self._leads(daemon), 60)
            self.until(self._gateway_ready, 60)
        return daemon

    def _leads(self, daemon: subprocess.Popen) -> bool:
        if daemon.poll() is not None:
            raise DaemonEndedError(f"the daemon ended with {daemon.returncode}: {self.log}")
        try:
            return json.loads((self.state / "daemon.json").read_bytes())["pid"] == daemon.pid
        except (OSError, ValueError):
            return False

    def _gateway_ready(self) -> bool:
        pod = self._gateway_pod()
        ready = [
            one["status"] for one in (pod or {"status": {}})["status"].get("conditions", []) if one["type"] == "Ready"
        ]
        return ready == ["True"]

    @property
    def log(self) -> str:
        """What the daemon said, requests left out; its end."""
        lines = (self.folder / "daemon.log").read_text("utf-8").splitlines()
        return "\n".join(line for line in lines if "server.access" not in line)[-5000:]

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the newest daemon; its exit code."""
        self.daemons[-1].send_signal(number)
        return self.daemons[-1].wait(60)

    def close(self) -> None:
        """End every daemon and take away all that was applied; pods too."""
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for space in (self.namespace, *map(self.pool_namespace, self.pools)):
            self.node.admin.ask("DELETE", self.pods(space), {"gracePeriodSeconds": 0})
            self.node.admin.ask("DELETE", f"/api/v1/namespaces/{space}")
        label = f"orchestrator.dev/installation={self.installation}"
        kubectl("delete", "clusterroles,clusterrolebindings", "-l", label, "--ignore-not-found", "--wait=false")

    def until(self, done: Callable[[], Any], seconds: float = 30) -> Any:
        """The first true value of `done`."""
        begun = time.monotonic()
        while not (value := done()):
            assert time.monotonic() - begun < seconds, f"not within {seconds} s; the daemon says: {self.log}"
            time.sleep(0.05)
        return value

    # --- what a caller does ---

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        given = {"Authorization": f"Bearer {(self.state / 'caller-token').read_text()}",
                 "Content-Type": "application/json"}  # fmt: skip
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), given)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Json:
        status, text = self.ask(method, path, body, **headers)
        assert status < 300, (method, path, status, text)
        return json.loads(text)

    def submit(self, pool: str, script: str, **more: Any) -> str:
        self.keys += 1
        body = {"name": f"job-{self.keys}", "pool": pool, "script": script, **more}
        return str(self.call("POST", "/v1/jobs", body, Idempotency_Key=f"key-{self.keys}")["id"])

    def cancel(self, job: str) -> None:
        self.call("DELETE", f"/v1/jobs/{job}")

    def job(self, job: str) -> Json:
        return self.call("GET", f"/v1/jobs/{job}")

    def phase(self, job: str, phase: str, seconds: float = 90) -> Json:
        """The job once it is there."""

        def there() -> Json | None:
            found = self.job(job)
            assert phase == "finished" or found["phase"] != "finished", (found, self.log)
            return found if found["phase"] == phase else None

        return self.until(there, seconds)

    def finished(self, job: str, seconds: float = 90) -> Json:
        return self.phase(job, "finished", seconds)

    def output(self, job: str) -> str:
        """The job's log as far as it has come; empty when there is none."""
        status, text = self.ask("GET", f"/v1/jobs/{job}/log")
        return text if status == 200 else ""

    def says(self, job: str, word: str, seconds: float = 60) -> None:
        """Wait until the job's log holds the word."""
        self.until(lambda: word in self.output(job), seconds)

    # --- what is in the cluster ---

    def pods(self, namespace: str) -> str:
        return f"/api/v1/namespaces/{namespace}/pods"

    def pods_of(self, pool: str) -> list[Json]:
        return self.node.admin.call("GET", self.pods(self.pool_namespace(pool)))["items"]

    def pod_of(self, job: str) -> Json:
        """The pod of a bound job, by the uid on its record."""
        found = self.job(job)
        (pod,) = [one for one in self.pods_of(found["pool"]) if one["metadata"]["uid"] == found["runner"]["uid"]]
        return pod

    def let_go(self, pod: Json) -> None:
        """End the wait of the job in this pod."""
        names = pod["metadata"]
        kubectl("--namespace", names["namespace"], "exec", names["name"], "-c", "job", "--", "touch", "go")

    def left(self) -> list[str]:
        """Pods of this installation that there still are, in all pools."""
        return [pod["metadata"]["name"] for pool in self.pools for pod in self.pods_of(pool)]


@dataclass
class Visit:
    path: str
    client: str
    headers: dict[str, str]


class Witness:
    """A server at the node's address: what a job reached is known here, not from the daemon's word."""

    def __init__(self, address: str) -> None:
        self.visits: list[Visit] = []
        visits = self.visits

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                visits.append(Visit(self.path, self.client_address[0], {k.lower(): v for k, v in self.headers.items()}))
                self.send_response(200)
                self.send_header("Content-Length", "8")
                self.end_headers()
                self.wfile.write(b"welcome\n")

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def paths(self) -> list[str]:
        return [visit.path for visit in self.visits]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def installed(product: Product, *, start: bool = True) -> Iterator[Product]:
    """Installed and running; gone afterwards, with the reason still readable when it did not come up."""
    try:
        product.install()
        if start:
            product.start()
        yield product
    finally:
        product.close()
        if os.environ.get("KEEP_LOGS"):
            shutil.copytree(product.folder, os.environ["KEEP_LOGS"], dirs_exist_ok=True)
