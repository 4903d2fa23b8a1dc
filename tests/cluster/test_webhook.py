"""A guarded namespace on a real API server: it starts what policy lets into its environment, and nothing else.

The daemon is a process, its certificate is its own, the webhook is what `orchestrator manifests` renders, and the
evidence comes from a job that really ran.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import yaml

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.policy.bundle import default_bundle
from orchestrator.testing.ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.sandbox, pytest.mark.timeout(120)]

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
UNKNOWN = "sha256:" + "0" * 64
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "a", "version": "1"}]}
BUILD = """printf '%s' "$CONTENT" > image.json
printf '%s' "$BOM" > bom.json
orchestrator-artifact image.json --sbom bom.json
"""


@dataclass
class Site:
    """A daemon whose only tie to the cluster is the webhook."""

    world: object
    folder: Path
    port: int = field(default_factory=free_port)
    asked_at: int = field(default_factory=free_port)
    daemon: asyncio.subprocess.Process | None = None

    @property
    def guarded(self) -> str:
        return self.world.namespaces[0]

    @property
    def config(self) -> Path:
        return self.folder / "orchestrator.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def configure(self) -> None:
        """The shipped rules, and as their data only where images may come from."""
        bundle = self.folder / "policy"
        shutil.copytree(default_bundle(), bundle)
        data = json.loads((bundle / "data.json").read_text())
        data["environments"]["staging"]["registries"] = ["registry.example"]
        (bundle / "data.json").write_text(json.dumps(data))
        url = f"https://127.0.0.1:{self.asked_at}"
        webhook = {"host": "127.0.0.1", "port": self.asked_at, "url": url, "timeout_seconds": 5}
        document = {
            "state_dir": str(self.state),
            "server": {"port": self.port},
            "policy": {"bundle": str(bundle)},
            "kubernetes": {"installation": self.world.installation},
            "deployment": {"cluster": "test", "namespaces": {self.guarded: "staging"}, "webhook": webhook},
            "pools": [{"name": "build"}],
        }
        self.config.write_text(yaml.safe_dump(document))

    async def start(self) -> None:
        (self.state / "daemon.json").unlink(missing_ok=True)
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestrator", "run", "--config", str(self.config), stdout=log, stderr=log
            )
        await self.world.until(self._ready, 30)

    def _ready(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.returncode is None, (self.folder / "daemon.log").read_text()[-4000:]
        return (self.state / "daemon.json").exists()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.daemon is not None and self.daemon.returncode is None:
            self.daemon.send_signal(number)
            async with asyncio.timeout(30):
                await self.daemon.wait()

    def command(self, *words: str) -> subprocess.CompletedProcess:
        """The command line, against this daemon."""
        return subprocess.run(
            [sys.executable, "-m", "orchestrator", "--state-dir", str(self.state), *words],
            capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"NO_COLOR": "1"},
        )  # fmt: skip

    async def build(self, content: str) -> str:
        """The digest of something that a job built, with its bill of materials."""
        job = self.folder / "job.yaml"
        environment = {"CONTENT": content, "BOM": json.dumps(BOM)}
        document = {"name": "build", "pool": "build", "script": BUILD, "environment": environment}
        job.write_text(yaml.safe_dump(document))
        done = await asyncio.to_thread(self.command, "submit", str(job), "--json")
        view = json.loads(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        return view["artifacts"][0]["digest"]

    async def guard(self) -> None:
        """Apply what is rendered. This API server is older than the label that newer ones write by themselves."""
        label = {"metadata": {"labels": {"kubernetes.io/metadata.name": self.guarded}}}
        merge = "application/merge-patch+json"
        await self.world.call("PATCH", f"/api/v1/namespaces/{self.guarded}", label, content_type=merge)
        ca = str(self.state / "runner-api-ca.pem")
        done = await asyncio.to_thread(self.command, "manifests", "--config", str(self.config), "--gate-ca", ca)
        (document,) = [one for one in yaml.safe_load_all(done.stdout) if one]
        self.webhook = document["metadata"]["name"]
        await self.world.call("POST", WEBHOOKS, document)

        async def in_force() -> bool:
            return "image_not_pinned" in await self.refusal(pod("image:1"), dry_run=True)

        await self.world.until(in_force)

    async def create(self, document: dict, *, dry_run: bool = False, namespace: str = "") -> dict:
        groups = {"Pod": "/api/v1", "Deployment": "/apis/apps/v1", "Job": "/apis/batch/v1"}
        path = f"{groups[document['kind']]}/namespaces/{namespace or self.guarded}/{document['kind'].lower()}s"
        body = msgspec.json.encode(document)
        params = {"dryRun": "All"} if dry_run else {}
        return msgspec.json.decode(await self.world.admin.request("POST", path, body=body, params=params))

    async def refusal(self, document: dict, **more) -> str:
        """Why the API server does not take it; empty when it does."""
        try:
            await self.create(document, **more)
        except OrchestratorError as error:
            return str(error)
        return ""

    def judged(self) -> list[dict]:
        """What the audit log was told of workloads."""
        lines = [
            line for path in sorted((self.state / "audit").glob("*.jsonl")) for line in path.read_text().splitlines()
        ]
        return [one["data"] for one in map(json.loads, lines) if one.get("kind") == "deployment.judged"]


def spec_of(image: str, **security) -> dict:
    container = {"name": "app", "image": image} | ({"securityContext": security} if security else {})
    return {"serviceAccountName": "runner", "containers": [container]}


def pod(image: str, name: str = "shop", **security) -> dict:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec_of(image, **security)}


def deployment(image: str, name: str = "shop") -> dict:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec_of(image)}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def site(world, tmp_path):
    made = Site(world, tmp_path)
    made.configure()
    try:
        await made.start()
        made.good = f"registry.example/shop@{await made.build('one')}"
        await made.guard()
        yield made
    finally:
        if hasattr(made, "webhook"):
            await world.admin.request("DELETE", f"{WEBHOOKS}/{made.webhook}")
        await made.stop()


async def test_a_guarded_namespace_starts_what_policy_allows_and_names_what_it_does_not(site):
    assert await site.refusal(pod(site.good)) == ""
    assert "image_not_pinned" in await site.refusal(pod("registry.example/shop:1", "tag"))
    unknown = await site.refusal(pod(f"registry.example/shop@{UNKNOWN}", "unknown"))
    assert "artifact_unknown" in unknown
    assert "Pod unknown" in unknown
    privileged = await site.refusal(pod(site.good, "root", privileged=True))
    assert "[privileged]" in privileged
    assert "image_not_pinned" not in privileged
    assert await site.world.pod_names() == ["shop"]
    told = [(one["name"], one["outcome"], one["reasons"]) for one in site.judged()]
    assert [(name, outcome) for name, outcome, _ in told] == [
        ("shop", "allowed"), ("tag", "denied"), ("unknown", "denied"), ("root", "denied"),
    ]  # fmt: skip
    assert told[1][2] == ["image_not_pinned"]


async def test_templates_are_looked_at_and_so_is_each_pod_made_from_them(site):
    assert "artifact_unknown" in await site.refusal(deployment(f"registry.example/shop@{UNKNOWN}", "bad"))
    assert await site.refusal(deployment(site.good)) == ""

    async def made() -> bool:
        return len(await site.world.pod_names()) == 1

    await site.world.until(made)
    kinds = [(one["kind"], one["outcome"]) for one in site.judged()]
    assert kinds == [("Deployment", "denied"), ("Deployment", "allowed"), ("ReplicaSet", "allowed"), ("Pod", "allowed")]


async def test_an_image_cannot_be_changed_behind_the_gate(site):
    await site.create(pod(site.good))
    path = f"{site.world.pods()}/shop"
    merge = "application/strategic-merge-patch+json"
    labelled = await site.world.call("PATCH", path, {"metadata": {"labels": {"team": "a"}}}, content_type=merge)
    assert labelled["metadata"]["labels"] == {"team": "a"}
    assert len(site.judged()) == 1, "a change of labels is not judged"
    swap = {"spec": {"containers": [{"name": "app", "image": f"registry.example/evil@{UNKNOWN}"}]}}
    with pytest.raises(GiveUpError, match="artifact_unknown"):
        await site.world.call("PATCH", path, swap, content_type=merge)
    assert (await site.world.call("GET", path))["spec"]["containers"][0]["image"] == site.good
    assert {one["outcome"] for one in site.judged()[1:]} == {"denied"}, "the API server may ask again"


async def test_a_dry_run_is_judged_and_leaves_nothing(site):
    assert await site.refusal(pod(site.good), dry_run=True) == ""
    assert "artifact_unknown" in await site.refusal(pod(f"r.example/x@{UNKNOWN}"), dry_run=True)
    assert (await site.world.pod_names(), site.judged()) == ([], [])


async def test_while_the_daemon_is_away_nothing_starts_here_and_everything_elsewhere(site):
    await site.stop(signal.SIGKILL)
    assert "failed calling webhook" in await site.refusal(pod(site.good))
    other = await site.world.add_namespace()
    assert await site.refusal(pod("registry.example/shop:1"), namespace=other) == ""
    await site.start()

    async def back() -> bool:
        return await site.refusal(pod(site.good)) == ""

    await site.world.until(back)
    assert await site.world.pod_names() == ["shop"]


async def test_what_a_pull_request_is_told_is_what_the_cluster_does(site):
    """One policy at both places: the same artifact, allowed and refused for the same reasons."""
    digest = site.good.partition("@")[2]
    for asked in (digest, UNKNOWN):
        done = await asyncio.to_thread(
            site.command, "policy", "check", "--environment", "staging", "--artifact", asked, "--format", "json"
        )
        answer = json.loads(done.stdout)
        said = await site.refusal(pod(f"registry.example/shop@{asked}"))
        assert (said == "") is answer["allowed"] is (done.returncode == 0)
        # A cluster's question has no caller, whose source could be another one.
        reasons = [reason for reason in answer["reasons"] if reason["code"] != "source_mismatch"]
        assert site.judged()[-1]["reasons"] == [reason["code"] for reason in reasons]
        text = "\n- ".join(f"[{reason['code']}] {reason['message']}" for reason in reasons)
        assert text.startswith(said.partition("policy allows\n- ")[2]), "our client shows the beginning of a refusal"
