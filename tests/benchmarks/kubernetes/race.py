"""The product beside two programs that also make a pod for each job: kubespawner and Airflow's KubernetesExecutor.

All get so many jobs at once, each of a few seconds (kubespawner polls, and does not notice shorter ones), on the same
API server with the same kind of scripted node, in turns; each in its own process with its own virtual environment
(`make bench-kubernetes` makes them). The clock: from handed over until the pod is gone. Ours is the whole daemon,
claims over TLS included, and its pods are the larger ones: an init container, a token, one more status of the node.

    KUBECONFIG=... python tests/benchmarks/kubernetes/race.py [jobs] [rounds] [seconds of a job]
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from cluster import HERE, Node, config, cpu_of, empty_namespace, make_namespace, percentile, write
from ours import Daemon, settings_document

from orchestrator.backends.kubernetes.client import ApiClient

VENVS = Path("build/peers")
PEERS = {"kubespawner": "notebook", "airflow": "base"}
"""To the name of the container that says how a job ended."""


@dataclass
class Taken:
    """All rounds of one contestant; latencies in seconds."""

    rates: list[float] = field(default_factory=list)
    p95: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    jobs: int = 0

    def add(self, seconds: float, cpu: float, latencies: list[float], failures: list[str]) -> None:
        jobs = len(latencies)
        self.jobs += jobs
        self.failures.extend(failures)
        if latencies:
            self.rates.append(jobs / seconds)
            self.p95.append(percentile(latencies, 0.95))
            self.cpu_ms.append(cpu / jobs * 1e3)


def cpu_of_all(pid: int) -> float:
    """Processor seconds of a process and of all its descendants."""
    children = [child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return cpu_of(pid) + sum(cpu_of_all(int(child)) for child in children)


class Peer:
    """A peer's process. `round` has it take all its jobs."""

    def __init__(self, name: str, namespace: str, jobs: int, tuning: str, folder: Path) -> None:
        command = [str(VENVS / name / "bin" / "python"), str(HERE / "peers" / f"{name}_peer.py")]
        self._log = (folder / f"{name}-{tuning}.log").open("wb")
        arguments = [namespace, str(jobs), tuning, str(folder)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([*command, *arguments], stdin=pipe, stdout=pipe, stderr=self._log, text=True)
        line = self._process.stdout.readline()
        assert line.strip() == "ready", Path(self._log.name).read_text()[-2000:]

    def round(self) -> dict[str, object]:
        before = cpu_of_all(self._process.pid)
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, Path(self._log.name).read_text()[-2000:]
        return {**json.loads(line), "cpu": cpu_of_all(self._process.pid) - before}

    def end(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


async def our_round(daemon: Daemon, jobs: int) -> tuple[float, float, list[float], list[str]]:
    latencies: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        await daemon.job()
        latencies.append(time.perf_counter() - began)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(jobs)))
    return time.perf_counter() - began, time.process_time() - cpu, latencies, []


async def main(jobs: int, rounds: int, seconds: int) -> dict[str, dict[str, object]]:
    sys.setswitchinterval(0.0005)
    mark = f"{time.time_ns() // 10**6:x}"
    present = [name for name in PEERS if (VENVS / name / "bin" / "python").exists()]
    for name in set(PEERS) - set(present):
        print(f"LEFT OUT: {name} is not installed in {VENVS / name}")
    taken: dict[str, Taken] = {"ours": Taken()}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        admin = await stack.enter_async_context(await ApiClient.open(config()))

        async def space(name: str) -> str:
            await make_namespace(admin, f"race-{mark}-{name}", "default" if name in PEERS else "runner")
            stack.push_async_callback(empty_namespace, admin, f"race-{mark}-{name}")
            return f"race-{mark}-{name}"

        daemon = await Daemon.open(settings_document(folder / "ours", "ours", await space("ours"), jobs))
        stack.push_async_callback(daemon.close)
        claims = [f"--claims=ours={daemon.claims_at}", "--ca", str(folder / "ours" / "runner-api-ca.pem")]
        stack.callback(Node("product", f"race-{mark}-ours", *claims, "--seconds", str(seconds)).end)
        for name in present:
            node = Node("plain", await space(name), "--container", PEERS[name], "--seconds", str(seconds))
            stack.callback(node.end)
        await our_round(daemon, jobs)
        for tuning, turns in (("tuned", rounds), ("default", 1)):
            for name in present:
                (folder / f"{name}-{tuning}").mkdir()
                namespace = f"race-{mark}-{name}"
                peer = await asyncio.to_thread(Peer, name, namespace, jobs, tuning, folder / f"{name}-{tuning}")
                mine = taken.setdefault(f"{name} {tuning}", Taken())
                try:
                    for _ in range(turns):
                        taken["ours"].add(*await our_round(daemon, jobs))
                        answer = await asyncio.to_thread(peer.round)
                        mine.add(answer["seconds"], answer["cpu"], answer["latencies"], answer["failures"])
                        theirs, ours = mine, taken["ours"]
                        print(f"{name} {tuning} {theirs.rates[-1]:.1f}/s p95 {theirs.p95[-1]:.1f} s;", end=" ")
                        print(f"ours {ours.rates[-1]:.1f}/s p95 {ours.p95[-1]:.1f} s", flush=True)
                finally:
                    await asyncio.to_thread(peer.end)
        assert not daemon.unhappy, daemon.unhappy[:3]
    return figures(taken, seconds)


def figures(taken: dict[str, Taken], seconds: int) -> dict[str, dict[str, object]]:
    """Ours against each peer: `floor` is the peer here, and a ratio above 1 in rate, below 1 in time, is our lead."""
    median = statistics.median
    mine = taken.pop("ours")
    found: dict[str, dict[str, object]] = {}
    for name, peer in taken.items():
        key = name.replace(" ", "_")
        notes = {"peer": name, "failures": len(peer.failures), "of": peer.jobs}
        pairs = {
            "jobs_per_second": (median(mine.rates), median(peer.rates), "1/s"),
            "p95_latency": (median(mine.p95), median(peer.p95), "s"),
            "p95_latency_beside_the_job": (median(mine.p95) - seconds, median(peer.p95) - seconds, "s"),
            "cpu_per_job": (median(mine.cpu_ms), median(peer.cpu_ms), "ms"),
        }
        for what, (ours, theirs, unit) in pairs.items():
            values = {"ours": round(ours, 3), "floor": round(theirs, 3), "ratio": round(ours / theirs, 3), "unit": unit}
            found[f"{what}_{key}"] = {**values, **notes}
        for failure in peer.failures[:2]:
            print(f"{name}: {failure}")
    return found


if __name__ == "__main__":
    os.environ.setdefault("KUBECONFIG", "")
    arguments = [int(word) for word in sys.argv[1:]]
    write("kubernetes_peers", uvloop.run(main(*(arguments + [60, 2, 3][len(arguments) :]))))
