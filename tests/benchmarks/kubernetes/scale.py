"""Thousands of pods running: the daemon's memory, how soon a new daemon has adopted them, and what it asks when idle.

First the jobs are really brought to running: offered, each pod created, played by the scripted node, and claimed. That
process ends and the node too; the pods stay. Then `orchestrator run` starts on the same state folder, as after an
upgrade or a crash, with a Lease. *Adopted* is when it answers pods, gateways and callers, with every job recovered;
*settled* when it has also looked at each job and rests. Idle requests are counted at the API server.

    KUBECONFIG=... python tests/benchmarks/kubernetes/scale.py [pods] [idle seconds]
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
import yaml
from cluster import (
    Node,
    config,
    cpu_of,
    empty_namespace,
    figure,
    make_namespace,
    request_counts,
    rss_mib,
    write,
)
from ours import Core, settings_document

from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.testing.ports import free_port

POOL = "scale"
UNBOUND_AT_MOST = 96
FILL_SECONDS = 900
IDLE_CPU = 0.25
"""Share of a core below which the daemon rests: its sweeps and timers go on."""


class Daemon:
    """`orchestrator run` on a state folder that outlives it."""

    def __init__(self, document: dict[str, object], folder: Path) -> None:
        self._config = folder / "orchestrator.yaml"
        self._config.write_text(yaml.safe_dump({**document, "server": {"port": free_port()}}))
        self._ready = Path(str(document["state_dir"])) / "daemon.json"
        self.log = folder / "daemon.log"

    async def start(self) -> float:
        """Seconds until it serves."""
        self._ready.unlink(missing_ok=True)
        began = time.perf_counter()
        command = [sys.executable, "-m", "orchestrator", "run", "--config", str(self._config)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self._process.pid
        while not self._ready.exists():
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            await asyncio.sleep(0.02)
        return time.perf_counter() - began

    async def settled(self) -> float:
        """Seconds from now until it rests."""
        began, last = time.perf_counter(), cpu_of(self.pid)
        while True:
            await asyncio.sleep(1)
            now = cpu_of(self.pid)
            if now - last < IDLE_CPU:
                return max(0.0, time.perf_counter() - began - 1)
            last = now

    def recovered(self) -> int:
        found = re.search(r'"recovered_jobs": ?(\d+)', self.log.read_text())
        return int(found[1]) if found else -1

    def end(self) -> None:
        """Pods outlive it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


async def fill(core: Core, pods: int) -> float:
    """Bring so many jobs to running; seconds taken."""
    began = time.perf_counter()
    offered = told = 0
    while core.bound < pods:
        assert time.perf_counter() - began < FILL_SECONDS, f"only {core.bound} pods run after {FILL_SECONDS} s"
        assert not core.unhappy, core.unhappy[:3]
        if offered < pods and offered - core.bound < UNBOUND_AT_MOST:
            await core.offer()
            offered += 1
        else:
            await asyncio.sleep(0.02)
        if core.bound >= told + 1000:
            told = core.bound
            print(f"{told} pods run after {time.perf_counter() - began:.0f} s", flush=True)
    await core.engine.idle()
    return time.perf_counter() - began


async def idle(admin: ApiClient, seconds: int) -> Counter[str]:
    """What the API server was asked about pods of single namespaces, and about Leases, in this time."""
    before = await request_counts(admin)
    await asyncio.sleep(seconds)
    return await request_counts(admin) - before


async def main(pods: int, seconds: int) -> dict[str, dict[str, object]]:
    sys.setswitchinterval(0.0005)
    namespace = f"bench-{time.time_ns() // 10**6:x}-{POOL}"
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        admin = await stack.enter_async_context(await ApiClient.open(config()))
        await make_namespace(admin, namespace)
        await make_namespace(admin, "orchestrator")
        if not os.environ.get("CLUSTER_DIR"):  # a cluster of our own forgets everything anyway
            stack.push_async_callback(empty_namespace, admin, namespace)
        document = settings_document(folder / "state", POOL, namespace, pods)
        daemon = Daemon({**document, "kubernetes": {**document["kubernetes"], "lease": True}}, folder)
        empty_start = await daemon.start()
        empty_cpu = cpu_of(daemon.pid)
        await daemon.settled()
        empty = rss_mib(daemon.pid)
        daemon.end()

        core = await Core.open(document)
        node = Node("product", namespace, f"--claims={POOL}={core.claims_at}", "--hold", "--no-tokens")
        filled = await fill(core, pods)
        await core.close()
        node.end()

        adopted = await daemon.start()
        stack.callback(daemon.end)
        adopted_cpu = cpu_of(daemon.pid)
        settled = adopted + await daemon.settled()
        assert daemon.recovered() == pods, f"{daemon.recovered()} of {pods} jobs recovered"
        asked = await idle(admin, seconds)
        full = rss_mib(daemon.pid)
        print(daemon.log.read_text()[-1500:])
    print(f"{pods} pods run after {filled:.0f} s; in {seconds} s of rest the API server counted {dict(asked)}")
    about_pods = {verb: count for verb, count in asked.items() if not verb.endswith(" leases")}
    written = sum(about_pods.get(verb, 0) for verb in ("POST", "PUT", "PATCH", "DELETE"))
    watches, minutes = 1, seconds / 60
    return {
        "pods_running": figure(pods, None, "", seconds_to_get_there=round(filled, 1)),
        "memory_empty": figure(empty, None, "MiB"),
        "memory_full": figure(full, None, "MiB"),
        "memory_per_pod": figure((full - empty) * 1024 / pods, None, "KiB"),
        "start_to_adopted": figure(adopted, empty_start, "s", aim="< 10"),
        "start_to_adopted_cpu": figure(adopted_cpu, empty_cpu, "s"),
        "start_to_settled": figure(settled, None, "s"),
        "idle_writes": figure(written, None, "", aim="0"),
        "idle_requests_per_minute_and_watch": figure(
            (sum(about_pods.values()) - written) / minutes / watches, None, "", aim="<= 1"
        ),
        "idle_lease_renewals_per_minute": figure(asked["PUT leases"] / minutes, None, ""),
    }


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    write("kubernetes_scale", uvloop.run(main(*(arguments + [5000, 70][len(arguments) :]))))
