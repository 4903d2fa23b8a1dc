"""The cluster as the benchmarks see it: namespaces, the server's own counts, the scripted node's process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec

from orchestrator.backends.kubernetes.answers import ConflictError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.backends.kubernetes.render.groups import DEFAULT_PRIORITY_CLASS

HERE = Path(__file__).parent
BENCH = Path("build/bench")
WRITES = ("POST", "PUT", "PATCH", "DELETE")
_NODES: dict[str, int] = {}
_COUNT = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def kubeconfig() -> str:
    """The cluster that may be used.

    Raises:
        SystemExit: there is none.
    """
    path = os.environ.get("KUBECONFIG", "")
    if not path:
        raise SystemExit("SKIPPED: there is no KUBECONFIG, so nothing was measured; run: make bench-kubernetes")
    return path


def config() -> KubernetesConfig:
    """To reach the cluster, as its administrator."""
    return KubernetesConfig(
        "bench", {}, "agent", "https://127.0.0.1:1", "", "http://127.0.0.1:2", kubeconfig=kubeconfig()
    )


async def make_namespace(client: ApiClient, name: str, account: str = "runner") -> None:
    """With what pods need: their ServiceAccount, and the priority class. Idempotent."""
    priority = {"metadata": {"name": DEFAULT_PRIORITY_CLASS}, "value": 0, "preemptionPolicy": "Never"}
    for path, document in (
        ("/apis/scheduling.k8s.io/v1/priorityclasses", priority),
        ("/api/v1/namespaces", {"metadata": {"name": name}}),
        (f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": account}}),
    ):
        with contextlib.suppress(ConflictError):
            await client.request("POST", path, body=msgspec.json.encode(document))


async def empty_namespace(client: ApiClient, name: str) -> None:
    """No pod is left when the API server has worked this off."""
    await client.request("DELETE", f"/api/v1/namespaces/{name}/pods", body=b'{"gracePeriodSeconds":0}', timeout=120)


async def request_counts(client: ApiClient) -> Counter[str]:
    """Requests that the API server counted so far: by verb about pods themselves, not status and not binding; those
    about Leases as `VERB leases`. What is asked over all namespaces is the controller manager's and left out.
    """
    text = (await client.request("GET", "/metrics")).decode()
    counted: Counter[str] = Counter()
    for labels, value in _COUNT.findall(text):
        found = dict(_LABEL.findall(labels))
        if found.get("subresource") or found.get("scope") == "cluster":
            continue
        if found.get("resource") in ("pods", "leases"):
            about = "" if found["resource"] == "pods" else " leases"
            counted[found["verb"] + about] += int(float(value))
    return counted


def writes(counted: Counter[str]) -> int:
    return sum(counted[verb] for verb in WRITES)


class Node:
    """The scripted node in a process of its own, so that its processor time is nobody's."""

    def __init__(self, *arguments: str, program: Path = HERE / "node.py") -> None:
        command = [sys.executable, str(program), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        _NODES["node"] = self._process.pid
        assert line.strip() == "ready", f"the scripted node did not start: {line!r}"

    def end(self) -> None:
        """At once: its node object stays, so that nobody tidies the pods away."""
        self._process.kill()
        self._process.wait()


def cpu_of(pid: int) -> float:
    """Processor seconds of a process's own threads, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def others_cpu() -> dict[str, float]:
    """Processor seconds so far of the node's process and, where CLUSTER_DIR says which they are, of the servers."""
    pids = dict(_NODES)
    for file in Path(os.environ.get("CLUSTER_DIR") or "/nonexistent").glob("*.pid"):
        pids[file.stem] = int(file.read_text().split()[0])
    return {name: cpu_of(pid) for name, pid in pids.items() if Path(f"/proc/{pid}").exists()}


def rss_mib(pid: int) -> float:
    """Memory of a process in RAM, in MiB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def figure(ours: float, floor: float | None, unit: str, **more: object) -> dict[str, object]:
    ratio = round(ours / floor, 3) if floor else None
    return {
        "ours": round(ours, 3),
        "floor": None if floor is None else round(floor, 3),
        "ratio": ratio,
        "unit": unit,
        **more,
    }


def write(name: str, figures: dict[str, dict[str, object]]) -> None:
    """Print the figures, and keep them in `build/bench/NAME.json`."""
    for key, values in figures.items():
        print(
            f"{key:34} {values['ours']!s:>10} {values['unit']:4} floor {values['floor']!s:>9}  ratio {values['ratio']}"
        )
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
