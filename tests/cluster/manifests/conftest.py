"""An installation as an operator makes it: rendered by the command, applied by kubectl, used with real tokens."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

Json = dict[str, Any]

KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")


def kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    if KUBECTL is None:
        pytest.skip("NO KUBECTL: it is neither beside this Python nor on PATH")
    return subprocess.run([KUBECTL, *arguments], capture_output=True, text=True, timeout=60)


@dataclass
class ApiServer:
    """The API server, spoken to with one bearer token."""

    url: str
    ca: str
    token: str

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Json]:
        """Status and document. A watch is asked for with a timeout, and its lines are not read."""
        parts = urlsplit(self.url)
        context = ssl.create_default_context(cadata=self.ca)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=20)
        try:
            sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, {"text": text.decode("utf-8", "replace")}

    def acting_with(self, token: str) -> ApiServer:
        return ApiServer(self.url, self.ca, token)


@pytest.fixture(scope="session", name="kubectl")
def _kubectl() -> Callable[..., subprocess.CompletedProcess[str]]:
    return kubectl


@pytest.fixture(scope="session")
def admin() -> ApiServer:
    """The cluster's administrator, by the token of KUBECONFIG."""
    view = kubectl("config", "view", "--raw", "--minify", "-o", "json")
    document = json.loads(view.stdout)
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    if "token" not in user:
        pytest.skip("NO TOKEN: the user of KUBECONFIG has no bearer token, and these tests speak HTTP themselves")
    data = cluster.get("certificate-authority-data")
    ca = base64.b64decode(data).decode() if data else Path(cluster["certificate-authority"]).read_text("utf-8")
    return ApiServer(cluster["server"], ca, user["token"])


@dataclass
class Installed:
    """What was applied, and who is who in it."""

    name: str
    namespace: str
    pools: list[str]
    runtime_class: str
    settings: Path
    folder: Path
    left_out: list[str]
    admin: ApiServer

    def token(self, account: str, namespace: str = "", audiences: list[str] | None = None) -> str:
        """A fresh token of a ServiceAccount, as its pod would get it."""
        where = f"/api/v1/namespaces/{namespace or self.namespace}/serviceaccounts/{account}/token"
        spec: Json = {"expirationSeconds": 600, "audiences": audiences or []}
        status, answer = self.admin.call("POST", where, {"spec": spec})
        assert status == 201, answer
        return str(answer["status"]["token"])

    def acting(self, account: str, namespace: str = "") -> ApiServer:
        return self.admin.acting_with(self.token(account, namespace))


@pytest.fixture(scope="session")
def installed(admin: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    name = f"t{secrets.token_hex(3)}"
    folder = tmp_path_factory.mktemp("rendered")
    settings = folder / "orchestrator.yaml"
    digest = "sha256:" + "a" * 64
    pods: Json = {
        "image": f"registry.example/job@{digest}",
        "require_digest": True,
        "runtime_class": name,
        "node_selector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "runners", "value": "yes"}],
    }
    pools = [
        {"name": "one", "backend": "kubernetes", "capacity": 3, "kubernetes": {**pods, "namespace": f"{name}-one"}},
        {"name": "two", "backend": "kubernetes", "kubernetes": {"namespace": f"{name}-two", "stream_logs": False}},
    ]
    urls = {
        "runner_api": {"url": f"https://orchestrator-runner-api.{name}.svc:8456"},
        "gateway": {"namespace": name, "url": f"http://orchestrator-gateway.{name}.svc:3128"},
    }
    images = {"image": "registry.example/orchestrator:1", "agent_image": f"registry.example/agent@{digest}"}
    cluster = {"installation": name, "namespace": name, **images, **urls}
    settings.write_text(yaml.safe_dump({"pools": pools, "kubernetes": cluster}), encoding="utf-8")
    out = folder / "out"
    command = [sys.executable, "-m", "orchestrator", "manifests", "--config", str(settings), "--output", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    left_out = leave_out_unknown(admin, out)
    status, answer = admin.call(
        "POST", "/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": name}, "handler": "runc"}
    )
    assert status == 201, answer
    applied = kubectl("apply", "-k", str(out))
    try:
        assert applied.returncode == 0, applied.stderr
        yield Installed(name, name, [f"{name}-one", f"{name}-two"], name, settings, out, left_out, admin)
    finally:
        kubectl("delete", "-k", str(out), "--wait=false", "--ignore-not-found")
        admin.call("DELETE", f"/apis/node.k8s.io/v1/runtimeclasses/{name}")


def leave_out_unknown(admin: ApiServer, folder: Path) -> list[str]:
    """Take out what an old API server has no kind for; returns `kind name` of each, for the test that names them."""
    left_out: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        if path.name == "kustomization.yaml":
            continue
        documents = [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]
        known = [one for one in documents if _knows(admin, one)]
        left_out += [f"{one['kind']} {one['metadata']['name']}" for one in documents if one not in known]
        path.write_text(yaml.safe_dump_all(known), encoding="utf-8")
    return left_out


def _knows(admin: ApiServer, document: Json) -> bool:
    group = document["apiVersion"]
    status, answer = admin.call("GET", f"/apis/{group}" if "/" in group else f"/api/{group}")
    return status == 200 and any(one["kind"] == document["kind"] for one in answer["resources"])
