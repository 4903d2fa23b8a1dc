"""A thousand jobs of GitHub Actions queued in one burst, run as pods on a real API server.

The daemon is `orchestrator run` with one scale set and the Kubernetes backend. Pods are really made, watched and
deleted; a scripted kubelet moves them, and in each an agent claims with the pod's own token and a runner speaks to
GitHub's test server with the registration that came with the work (`pods_node.py`). None may be lost and none may run
twice, judged as in `burst.py`; writes about pods are counted by the API server itself.

    KUBECONFIG=... python tests/benchmarks/github/pods.py [jobs] [at once]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from arena import LABEL, Daemon, Platform, send
from cluster import (
    Node,
    config,
    empty_namespace,
    figure,
    kubeconfig,
    make_namespace,
    request_counts,
    write,
    writes,
)
from verdict import Figures, figures_of, judge

from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.model.runner import RunnerName
from orchestrator.testing.ports import free_port

POOL = "pods"
HERE = Path(__file__).parent


def document(namespace: str, at_once: int, platform: Platform) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings of pool and cluster, and GitHub's hosts."""
    port = free_port()
    hosts = [{"host": "github.test.example", "port": platform.server.port, "protocol": "http"}]
    pool = {"name": POOL, "backend": "kubernetes", "capacity": at_once, "egress": hosts}
    kubernetes = {
        "kubeconfig": kubeconfig(),
        "installation": namespace,
        "lease": False,
        "agent_image": "registry.example/agent:1",
        "runner_api": {"host": "127.0.0.1", "port": port, "url": f"https://127.0.0.1:{port}"},
        "gateway": {"url": "http://127.0.0.1:3128"},
    }
    pool["kubernetes"] = {"namespace": namespace, "stream_logs": False}
    return {"pools": [pool], "kubernetes": kubernetes}, hosts


async def pods_of(admin: ApiClient, namespace: str) -> list[RunnerName]:
    answer = msgspec.json.decode(await admin.request("GET", f"/api/v1/namespaces/{namespace}/pods"))
    return [RunnerName(pod["metadata"]["name"]) for pod in answer["items"]]


async def measure(admin: ApiClient, folder: Path, platform: Platform, jobs: int, at_once: int) -> Figures:
    namespace = f"bench-{time.time_ns() // 10**6:x}-{POOL}"
    async with AsyncExitStack() as stack:
        await make_namespace(admin, namespace)
        if not os.environ.get("CLUSTER_DIR"):  # a cluster of our own forgets everything anyway
            stack.push_async_callback(empty_namespace, admin, namespace)
        given, hosts = document(namespace, at_once, platform)
        one = {"name": LABEL, "pool": POOL}
        daemon = Daemon(folder, platform, given, {"hosts": hosts, "scale_sets": [one]})
        stack.callback(daemon.end)
        await daemon.start()
        url, ca = given["kubernetes"]["runner_api"]["url"], daemon.state / "runner-api-ca.pem"
        node = Node(namespace, f"{POOL}={url}", "--ca", str(ca), program=HERE / "pods_node.py")
        stack.callback(node.end)
        before = await request_counts(admin)
        burst = await send(platform, daemon, jobs, at_once)
        asked = await request_counts(admin) - before
        code = daemon.end()
        assert code == 0, f"the daemon ended with {code}\n{daemon.last_words()}"
        remaining = await pods_of(admin, namespace)
        verdict = await judge(daemon.state, [*burst.alone, *burst.many], platform.server, remaining)
    print(f"the API server counted about pods: {dict(asked)}")
    made = len(burst.alone) + jobs
    return {
        "kubernetes_writes_per_job": figure(writes(asked) / made, None, "", aim="2", arc="about 20"),
        "kubernetes_reads_per_job": figure((asked["GET"] + asked["LIST"]) / made, None, ""),
        **figures_of(burst, verdict),
    }


async def main(jobs: int, at_once: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-github-") as name:
        platform = Platform()
        async with platform.server, await ApiClient.open(config()) as admin:
            return await measure(admin, Path(name), platform, jobs, at_once)


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    write("github_pods", uvloop.run(main(*(arguments + [1000, 64][len(arguments) :]))))
