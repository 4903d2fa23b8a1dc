"""The operator's way, on a real node: rendered manifests, both images as pods, jobs, an upgrade, the removal.

Nothing of ours runs outside the cluster here. What the node lacks and every cluster has is added beside the rendered
files and named in `Site.trial`: a resolver that knows Services (here by the addresses of their pods, since nothing
translates those of Services) and a volume.
"""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from orchestrator import __version__
from orchestrator.daemon.cluster.manifests import HEADER

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(280)]

PROJECT = Path(__file__).parents[2]
KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
BUSYBOX = "runner.local/busybox:1"
OLD = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "PodDisruptionBudget", "CronJob"}
"""Kinds that API servers older than 1.30 and 1.21 do not know in the version that is rendered."""

WAY_OUT = r"""
p=${HTTP_PROXY#http://}; credential=${p%@*}; at=${p#*@}; host=${at%%:*}; port=${at##*:}; port=${port%/}
gateway=$(awk -v h="$host" '$2 == h || $3 == h {print $1; exit}' /etc/hosts)
printf 'GET http://allowed.example:%s/ HTTP/1.1\r\nHost: allowed.example:%s\r\nProxy-Authorization: Basic %s\r\n\r\n' \
  PORT PORT "$(printf %s "$credential" | base64 | tr -d '\n')" | nc -w 10 "$gateway" "$port"
echo
nc -w 3 ADDRESS PORT </dev/null && echo direct-open || echo direct-closed
"""


def sibling(name: str) -> Any:
    """Test modules are no package."""
    return from_file(name, Path(__file__).with_name(f"{name}.py"))


def from_file(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def kubectl(*words: str, stdin: str | None = None, code: int | None = 0, seconds: int = 60) -> str:
    assert KUBECTL is not None
    done = subprocess.run([KUBECTL, *words], input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    assert code is None or done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.5)
    return value


@dataclass
class Site:
    """One installation. `daemon` runs the program in the daemon's pod, as an operator does."""

    name: str
    folder: Path
    port: int
    address: str

    @property
    def settings(self) -> Path:
        return self.folder / "orchestrator.yaml"

    @property
    def runners(self) -> str:
        return f"runners-{self.name}"

    def kubectl(self, *words: str, **more: Any) -> str:
        return kubectl("--namespace", self.name, *words, **more)

    def daemon(self, *words: str, code: int | None = 0) -> str:
        return self.kubectl("exec", "deployment/orchestrator", "--", "orchestrator", *words, code=code, seconds=120)

    def ready(self, deployment: str, seconds: int = 150) -> None:
        try:
            self.kubectl("rollout", "status", f"deployment/{deployment}", f"--timeout={seconds}s", seconds=seconds + 10)
        except AssertionError as error:
            pods = self.kubectl("describe", "pods", code=None)
            log = self.kubectl("logs", f"deployment/{deployment}", "--tail=30", code=None)
            raise AssertionError(f"{error}\n{pods}\n{log}") from None

    def configure(self, images: dict[str, str]) -> None:
        shape = {"image": BUSYBOX, "namespace": self.runners, "cpu": "250m", "memory": "128Mi", "warm": 1}
        egress = [{"host": "allowed.example", "port": self.port, "protocol": "http"}]
        pool = {"name": "default", "backend": "kubernetes", "capacity": 3, "egress": egress}
        document = {
            "pools": [pool | {"kubernetes": shape | {"workspace": "16Mi", "tmp": "16Mi", "grace_seconds": 1}}],
            "egress": {"names": {"allowed.example": self.address}},
            "kubernetes": {
                "installation": self.name, "namespace": self.name, "image": images["daemon"],
                "agent_image": images["agent"], "image_pull_policy": "IfNotPresent", "storage_class": self.name,
                "runner_api": {"url": f"https://orchestrator-runner-api.{self.name}.svc:8456"},
                "backup": {
                    "schedule": "0 0 1 1 *", "keep": 1, "storage": "1Gi", "storage_class": f"{self.name}-backups",
                },
                "gateway": {
                    "namespace": self.name, "replicas": 1, "url": f"http://orchestrator-gateway.{self.name}.svc:3128",
                },
            },
        }  # fmt: skip
        self.settings.write_text(yaml.safe_dump(document))

    def manifests(self, *words: str) -> str:
        command = [sys.executable, "-m", "orchestrator", "manifests", "-c", str(self.settings), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def render(self) -> None:
        self.manifests("-o", str(self.folder / "cluster"))
        known = set(kubectl("api-resources", "-o", "name").split())
        if "validatingadmissionpolicies.admissionregistration.k8s.io" in known:
            return
        for path in (self.folder / "cluster").glob("*.yaml"):
            kept = [one for one in yaml.safe_load_all(path.read_text()) if one and one["kind"] not in OLD]
            path.write_text(HEADER + yaml.safe_dump_all(kept))

    def trial(self, resolver: str) -> Path:
        """What this node lacks, as an operator adds things: a kustomization over the rendered one."""
        folder = self.folder / "trial"
        folder.mkdir(exist_ok=True)
        dns = {"dnsPolicy": "None", "dnsConfig": {"nameservers": [resolver]}}
        patch = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": dns}}}
        patches = [patch | {"metadata": {"name": name, "namespace": self.name}} for name in DEPLOYMENTS]
        (folder / "patches.yaml").write_text(yaml.safe_dump_all(patches))
        made = {"resources": ["../cluster"], "patches": [{"path": "patches.yaml"}]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
        return folder


DEPLOYMENTS = ("orchestrator", "orchestrator-gateway")


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from outside\n")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    """Both images in the node's store, by reference."""
    folder = os.environ.get("CLUSTER_DIR") or "/nowhere"
    if KUBECTL is None:
        pytest.skip("NO KUBECTL: it is neither beside this Python nor on PATH")
    for process in psutil.process_iter(["name", "cwd", "exe"]):
        if process.info["name"] == "containerd" and str(process.info["cwd"]).startswith(folder):
            ctr = str(Path(process.info["exe"]).with_name("ctr"))
            break
    else:
        pytest.skip("the cluster has no node whose containerd is at $CLUSTER_DIR/containerd.sock")
    made = {name: sibling("image_files").read(name) for name in ("daemon", "agent")}
    for image in made.values():
        command = [ctr, "--address", f"{folder}/containerd.sock", "--namespace", "k8s.io", "images", "import"]
        subprocess.run([*command, str(image.archive)], check=True, capture_output=True, timeout=120)
    return {name: str(image.reference) for name, image in made.items()}


@pytest.fixture(scope="module")
def site(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    (address,) = [
        one["address"] for node in nodes for one in node["status"]["addresses"] if one["type"] == "InternalIP"
    ]
    server = http.server.ThreadingHTTPServer((address, 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = f"t{secrets.token_hex(3)}"
    made = Site(name, tmp_path_factory.mktemp("installation"), server.server_address[1], address)
    lacking = sibling("lacking")
    volumes = []
    for volume in (name, f"{name}-backups"):
        disk = Path(os.environ["CLUSTER_DIR"]) / f"volume-{volume}"
        disk.mkdir(mode=0o755)
        volumes.append(lacking.volume(volume, disk))
    extra = yaml.safe_dump_all([*lacking.resolver_pod(name, images["daemon"]), *volumes])
    try:
        kubectl("apply", "-f", "-", stdin=extra)
        where = ("--namespace", "kube-system", "get", "pod", name, "-o", "jsonpath={.status.podIP}")
        resolver = until(lambda: kubectl(*where))
        made.configure(images)
        made.render()
        kubectl("apply", "-k", str(made.trial(resolver)))
        made.ready("orchestrator")
        ca = made.daemon("runner-api-ca")
        (made.folder / "ca.pem").write_text(ca)
        ca_file = f"--from-file={made.folder}/ca.pem"
        made.kubectl("create", "configmap", "orchestrator-runner-api-ca", ca_file)
        made.ready("orchestrator-gateway")
        yield made
    finally:
        server.shutdown()
        server.server_close()
        kubectl("delete", "-k", str(made.folder / "trial"), "--ignore-not-found", "--wait=false", code=None)
        kubectl("delete", "-f", "-", "--ignore-not-found", "--wait=false", stdin=extra, code=None)


def test_a_job_is_submitted_runs_and_leaves_nothing(site: Site) -> None:
    out = site.daemon("submit", "--name", "hello", "--script", "echo hello from $(id -u)", "--follow")
    assert out == "hello from 64001\n"
    (view,) = json.loads(site.daemon("jobs", "--json"))["jobs"]
    assert (view["result"], view["reason"]) == ("success", "completed")
    left = kubectl("--namespace", site.runners, "get", "pods", "-o", "name").split()
    assert [one for one in left if not one.startswith("pod/warm-")] == []
    assert view["id"] not in kubectl("--namespace", site.runners, "get", "pods", "-o", "json")


def test_the_tutorial_prints_what_its_page_shows(site: Site) -> None:
    """Its commands as they stand, but for the namespace; what it installs, the fixture has installed."""
    steps = from_file("walkthrough", PROJECT / "tests" / "integration" / "docs" / "walkthrough.py")
    shell = steps.environment(site.folder, KUBECONFIG=os.environ["KUBECONFIG"])
    shell["PATH"] = f"{Path(KUBECTL or '').parent}:{shell['PATH']}"
    walk = steps.Walk(site.folder, shell, {"-n orchestrator ": f"-n {site.name} "})
    page = (PROJECT / "docs" / "tutorial" / "first-job-on-a-cluster.md").read_text(encoding="utf-8")
    console = "".join(f"```console\n{block}```\n" for language, block in steps.blocks(page) if language == "console")
    assert steps.follow(walk, console) >= 7


def test_its_way_out_is_the_gateway_and_nothing_else(site: Site) -> None:
    script = WAY_OUT.replace("PORT", str(site.port)).replace("ADDRESS", site.address)
    out = site.daemon("submit", "--name", "curl", "--script", script, "--follow")
    assert "from outside" in out
    assert "direct-closed" in out
    view = json.loads(site.daemon("jobs", "--json"))["jobs"][0]
    shown = json.loads(site.daemon("show", view["id"], "--json"))
    verdicts = [(one["allowed"], one["host"], one["port"]) for one in shown["egress"] if not one["canary"]]
    assert verdicts == [(True, "allowed.example", site.port)]


def preflight(site: Site, *more: str) -> list[dict[str, Any]]:
    """With the addresses of pods, since those of Services lead nowhere here."""
    selected = "jsonpath={.items[0].status.podIP}"
    where = {
        f"{name}.{site.name}.svc": [
            site.kubectl("get", "pods", "-l", f"app.kubernetes.io/component={component}", "-o", selected)
        ]
        for name, component in (("orchestrator-runner-api", "daemon"), ("orchestrator-gateway", "gateway"))
    }
    command = [sys.executable, "-m", "orchestrator", "preflight", "--config", str(site.settings), "--json", *more]
    environment = os.environ | {"ORCHESTRATOR_KUBERNETES__HOST_ADDRESSES": json.dumps(where)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    return list(json.loads(done.stdout)["findings"])


def test_the_preflight_names_what_this_server_lacks_and_nothing_else(site: Site) -> None:
    lacking = {"admission-policy", "admission-binding", "server-version", "user-namespace"}
    if "validatingadmissionpolicies." in kubectl("api-resources", "-o", "name"):
        lacking = {"canary"}  # nobody but the daemon may make pods there
    assert {one["guard"] for one in preflight(site, "--canary")} <= lacking


def test_the_canary_sees_a_network_that_denies_nothing(site: Site) -> None:
    policies = ("--namespace", site.runners, "delete", "networkpolicy", "--all")
    kubectl(*policies)
    try:
        found = [one["what"] for one in preflight(site, "--canary") if one["guard"] == "canary"]
    finally:
        kubectl("apply", "-k", str(site.folder / "trial"))
    assert any("could connect where it must not" in one and "10.96.0.1:443" in one for one in found), found


def test_a_new_daemon_reads_its_volume_and_goes_on_with_what_runs(site: Site) -> None:
    script = "echo begun; until [ -e go ]; do sleep 0.2; done; echo through"
    job = json.loads(site.daemon("submit", "--name", "job", "--script", script, "--no-follow", "--json"))
    until(lambda: json.loads(site.daemon("show", job["id"], "--json"))["phase"] == "running")
    uid = json.loads(site.daemon("show", job["id"], "--json"))["runner"]["uid"]
    site.kubectl("rollout", "restart", "deployment/orchestrator")
    site.ready("orchestrator")
    pods = json.loads(kubectl("--namespace", site.runners, "get", "pods", "-o", "json"))["items"]
    (pod,) = [one for one in pods if one["metadata"]["uid"] == uid]
    assert pod["status"]["phase"] == "Running"
    kubectl("--namespace", site.runners, "exec", pod["metadata"]["name"], "-c", "job", "--", "touch", "go")
    shown = json.loads(site.daemon("show", job["id"], "--wait", "--json"))
    assert (shown["result"], shown["runner"]["uid"]) == ("success", uid)
    assert site.daemon("logs", job["id"]) == "begun\nthrough\n"
    assert len(json.loads(site.daemon("jobs", "--json"))["jobs"]) >= 2


def test_a_new_image_is_pulled_and_started_on_the_daemons_node_before_the_upgrade(
    site: Site, images: dict[str, str]
) -> None:
    """The guide's own command, with this installation's names."""
    page = (PROJECT / "docs" / "how-to" / "operate-on-kubernetes.md").read_text(encoding="utf-8")
    (_, tail) = page.split("   image=", 1)
    command = "image=" + tail.split("   ```", 1)[0].replace("--namespace orchestrator", f"--namespace {site.name}")
    command = command.replace(command.split("\n", 1)[0], f"image={images['daemon']}")
    shell = os.environ | {"PATH": f"{Path(KUBECTL or '').parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/sh", "-euc", command], capture_output=True, text=True, timeout=90, check=False, env=shell
    )
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"orchestrator {__version__}"), done
    assert "try-orchestrator" not in kubectl("get", "pods", "-o", "name")


def test_a_version_that_cannot_start_costs_no_job_and_the_rendering_before_is_the_way_back(
    site: Site, images: dict[str, str]
) -> None:
    script = "echo begun; until [ -e go ]; do sleep 0.2; done; echo through"
    job = json.loads(site.daemon("submit", "--name", "job", "--script", script, "--no-follow", "--json"))
    until(lambda: json.loads(site.daemon("show", job["id"], "--json"))["phase"] == "running")
    runner = json.loads(site.daemon("show", job["id"], "--json"))["runner"]
    pods = json.loads(kubectl("--namespace", site.runners, "get", "pods", "-o", "json"))["items"]
    (pod,) = [one["metadata"]["name"] for one in pods if one["metadata"]["uid"] == runner["uid"]]
    gateway, before = running(site, "gateway"), site.settings.read_text()
    site.configure(images | {"daemon": "runner.local/no-such-image:1"})
    site.render()
    kubectl("apply", "-k", str(site.folder / "trial"))
    until(lambda: "ImagePull" in waits_for(site, "daemon"))
    assert set(gateway) <= set(running(site, "gateway")), "a new one that cannot start replaces none"
    site.settings.write_text(before)
    site.render()
    kubectl("apply", "-k", str(site.folder / "trial"))
    site.ready("orchestrator")
    kubectl("--namespace", site.runners, "exec", pod, "-c", "job", "--", "touch", "go")
    shown = json.loads(site.daemon("show", job["id"], "--wait", "--json"))
    assert (shown["result"], shown["runner"]) == ("success", runner)
    assert site.daemon("logs", job["id"]) == "begun\nthrough\n"
    assert json.loads(site.daemon("audit", "verify", "--json"))["ok"] is True


def test_a_backup_of_the_schedule_and_one_from_a_pipe_are_restored_by_the_rendered_jobs(site: Site) -> None:
    """With what came after each of them: jobs go, the audit log stays."""
    before = json.loads(site.daemon("submit", "--name", "before", "--script", "true", "--no-follow", "--json"))
    site.daemon("show", before["id"], "--wait")
    planned = [one for one in yaml.safe_load_all(site.manifests()) if one and one["kind"] == "CronJob"]
    template = planned[0]["spec"]["jobTemplate"]
    # As the server's controller makes it when its time has come.
    job = {"apiVersion": "batch/v1", "kind": "Job", **template, "metadata": template["metadata"] | {"name": "planned"}}
    site.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(job))
    assert "kept: orchestrator-" in ended(site, "planned")
    between = json.loads(site.daemon("submit", "--name", "between", "--script", "true", "--no-follow", "--json"))
    site.daemon("show", between["id"], "--wait")
    piped = site.folder / "piped.backup"
    with piped.open("wb") as out:
        words = (
            "exec",
            "deployment/orchestrator",
            "--",
            "orchestrator",
            "backup",
            "--scratch",
            "/var/lib/orchestrator",
        )
        command = [KUBECTL, "--namespace", site.name, *words, "--config", "/etc/orchestrator/orchestrator.yaml", "-"]
        subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=True, timeout=60)
    after = json.loads(site.daemon("submit", "--name", "after", "--script", "true", "--no-follow", "--json"))
    site.daemon("show", after["id"], "--wait")

    stopped(site)
    site.kubectl("apply", "-f", "-", stdin=site.manifests("--restore", "newest"))
    assert "whole; made at" in ended(site, "orchestrator-restore")
    site.kubectl("delete", "job", "orchestrator-restore")
    of_the_job = ("pod", "--selector", "app.kubernetes.io/component=restore", "--timeout=60s")
    site.kubectl("wait", "--for=delete", *of_the_job, seconds=70)
    site.kubectl("apply", "-f", "-", stdin=site.manifests("--restore", "-"))
    until(lambda: site.kubectl("get", *of_the_job[:3], "-o", "name"))
    site.kubectl("wait", "--for=condition=Ready", *of_the_job, seconds=70)
    with piped.open("rb") as given:
        command = [KUBECTL, "--namespace", site.name, "attach", "--stdin", "job/orchestrator-restore"]
        done = subprocess.run(command, stdin=given, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done
    assert "whole; made at" in ended(site, "orchestrator-restore")
    site.kubectl("scale", "deployment/orchestrator", "--replicas=1")
    site.ready("orchestrator")
    known = {one["name"] for one in json.loads(site.daemon("jobs", "--json"))["jobs"]}
    assert {"before", "between"} <= known
    assert "after" not in known
    assert json.loads(site.daemon("audit", "verify", "--json"))["ok"] is True
    assert after["id"] in site.daemon("audit", "show", "--json"), "the log that was newer has been taken"
    guide = (PROJECT / "docs" / "how-to" / "operate-on-kubernetes.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"-- python -c '(.+)'", guide)
    listed = (
        "exec",
        "deployment/orchestrator",
        "--",
        "python",
        "-c",
        "import os; print(os.listdir('/var/lib/orchestrator'))",
    )
    assert site.kubectl(*listed).count("state.before-") == 2
    site.kubectl("exec", "deployment/orchestrator", "--", "python", "-c", code)
    assert "state.before-" not in site.kubectl(*listed)


def stopped(site: Site) -> None:
    """No daemon, and none that is still ending: a namespace whose pods have time to end waits for all of that time."""
    site.kubectl("scale", "deployment/orchestrator", "--replicas=0")
    selector = "app.kubernetes.io/component=daemon"
    site.kubectl("wait", "--for=delete", "pod", "--selector", selector, "--timeout=120s", seconds=130)


def ended(site: Site, job: str) -> str:
    """What it printed, once it is complete."""

    def done() -> bool:
        found = json.loads(site.kubectl("get", "job", job, "-o", "json"))["status"]
        assert not found.get("failed"), site.kubectl("logs", f"job/{job}", code=None)
        return bool(found.get("succeeded"))

    until(done, 90)
    return site.kubectl("logs", f"job/{job}")


def running(site: Site, component: str) -> list[str]:
    """Pods of this component that run and are not asked to go."""
    pods = json.loads(site.kubectl("get", "pods", "-l", f"app.kubernetes.io/component={component}", "-o", "json"))
    return [
        one["metadata"]["name"]
        for one in pods["items"]
        if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]
    ]


def waits_for(site: Site, component: str) -> str:
    """Why containers of these pods do not run."""
    where = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}"
    return site.kubectl("get", "pods", "-l", f"app.kubernetes.io/component={component}", "-o", where)


def test_removal_leaves_nothing(site: Site) -> None:
    stopped(site)
    kubectl("delete", "-k", str(site.folder / "trial"), "--timeout=180s", seconds=190)
    marked = f"orchestrator.dev/installation={site.name}"
    left = []
    for kind in kubectl("api-resources", "--verbs=list", "-o", "name").split():
        left += kubectl("get", kind, "--all-namespaces", "-l", marked, "-o", "name", code=None).split()
    assert left == []
