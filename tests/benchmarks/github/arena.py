"""GitHub and the daemon, as the benchmarks of GitHub Actions see them, and the burst that they all send.

GitHub is the stateful test server (`orchestrator.testing.github`), in the benchmark's own process: nothing of it counts
as the daemon's. The daemon is `orchestrator run`, a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).parents[1] / "kubernetes"))
from cluster import rss_mib

from orchestrator.testing.github.model import Job, JobPlan, Options, Run, ScaleSet
from orchestrator.testing.github.server import GitHubServer

ORG, REPOSITORY = "acme", "acme/shop"
LABEL = "zt"
MATRIX = 250
"""Jobs of one workflow run. GitHub's own bound for a matrix is 256."""
SERVICE = ("/_apis/", "/scalesets/")
"""Calls to the Actions service, which ARC makes as well. What is left of those of the daemon is REST and OpenID."""
RUNNERS = ("/_broker/",)
"""Calls of the runner programs, and of the jobs themselves."""
STALLED_SECONDS = 150.0
"""So long nothing may happen: longer than GitHub takes to give an unclaimed job away again."""
SETTLED_SECONDS = 2.0
PAUSE_SECONDS = 1.0
"""Before each job that comes alone: what was told of the one before is worked off."""
ALONE = 12
"""Jobs that come one by one, to an idle daemon."""
STEP = "date +began=%s.%N"


class Platform:
    """The test server with one organisation's repository, and when each of its jobs changed."""

    def __init__(self, runner_host: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        runner_url = f"http://{runner_host}:{port}" if runner_host else ""
        self.server = GitHubServer(Options(rest_limit=15_000), port=port, runner_url=runner_url)
        self.server.add_repository(REPOSITORY, branches={"main": True})
        self.server.state.listeners.append(self._hear)
        self.done = 0
        self._news = asyncio.Event()

    def _hear(self, action: str, job: Job) -> None:
        self.done += action == "completed"
        self._news.set()

    def burst(self, jobs: int, plan: Callable[[int], JobPlan]) -> list[Job]:
        """So many jobs, queued at this moment, in runs of a matrix each."""
        runs: list[Run] = []
        for first in range(0, jobs, MATRIX):
            plans = [plan(number) for number in range(first, min(first + MATRIX, jobs))]
            runs.append(self.server.dispatch_workflow(REPOSITORY, plans))
        return [job for run in runs for job in run.jobs]

    async def until_done(self, jobs: Sequence[Job], daemon: Daemon) -> None:
        """Until all of them ended. SystemExit when nothing happens any more."""
        told = 0
        while True:
            self._news.clear()
            done = sum(job.done for job in jobs)
            if done == len(jobs):
                return
            if done >= told + 200:
                told = done
                print(f"{done} jobs are done", flush=True)
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                states = Counter(job.state.value for job in jobs)
                raise SystemExit(f"nothing happens any more: {dict(states)}\n{daemon.last_words()}") from None
            await asyncio.sleep(0.05)

    @property
    def calls(self) -> Counter[str]:
        """Calls of the daemon alone so far, by endpoint."""
        told = self.server.counters.items()
        return Counter({name: count for name, count in told if not any(part in name for part in RUNNERS)})


def service_calls(calls: Mapping[str, int]) -> int:
    return sum(count for name, count in calls.items() if any(part in name for part in SERVICE))


class Daemon:
    """`orchestrator run` with one GitHub source, or with none."""

    def __init__(
        self, folder: Path, platform: Platform, document: dict[str, Any], source: dict[str, Any] | None
    ) -> None:
        self.state = folder / "state"
        key = folder / "app.pem"
        key.write_text(platform.server.app.private_key)
        key.chmod(0o600)
        app = platform.server.app
        credential = {"client_id": app.client_id, "installation_id": int(app.installation_id)}
        github = {
            "name": ORG,
            "url": platform.server.config_url(ORG),
            "app": {**credential, "private_key_file": str(key)},
            "oidc": {"issuer": platform.server.oidc.issuer},
            **(source or {}),
        }
        whole = {"state_dir": str(self.state), "server": {"port": 0}, **document}
        whole |= {"github": [github]} if source else {}
        self._config = folder / "orchestrator.yaml"
        self._config.write_text(yaml.safe_dump(whole))
        self._log = folder / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Until it serves."""
        ready = self.state / "daemon.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "orchestrator", "run", "--config", str(self._config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        while not ready.exists():
            if self._process.poll() is not None:
                raise SystemExit(f"the daemon did not start\n{self.last_words()}")
            await asyncio.sleep(0.02)

    def last_words(self) -> str:
        return self._log.read_text()[-3000:]

    def end(self) -> int:
        """Its exit code, -9 when it had to be killed. Safe to call twice."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def tree_cpu(pid: int) -> dict[str, float]:
    """Processor seconds so far: `daemon` its own threads', `others` those of all below it, the reaped ones too."""
    parents: dict[int, int] = {}
    spent: dict[int, list[float]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            spent[int(entry.name)] = [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields[11:15]]
    others = sum(spent[pid][2:])
    for process, ticks in spent.items():
        above = parents.get(process)
        while above is not None and above != pid:
            above = parents.get(above)
        others += sum(ticks) if above == pid else 0.0
    return {"daemon": sum(spent[pid][:2]), "others": others}


def peak_mib(pid: int) -> float:
    """The most memory in RAM that a process had so far, in MiB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


@dataclass(frozen=True)
class Burst:
    """What was sent and what it cost. `calls`, `cpu` and `seconds` are of the burst alone, not of the single jobs."""

    at_once: int
    alone: list[Job]
    many: list[Job]
    seconds: float
    calls: Counter[str]
    cpu: dict[str, float]
    memory_before: float
    memory_peak: float


def plan(number: int) -> JobPlan:
    """Its only step says the time. Every other job may have a token of its own."""
    return JobPlan(f"job {number}", (LABEL,), (STEP,), id_token=number % 2 == 0)


async def listening(platform: Platform, sets: int = 1) -> None:
    """Until the daemon's scale sets are there and poll. The server does not tell when a poll begins to wait."""
    async with asyncio.timeout(60):
        while sum(map(_polls, platform.server.state.sets.values())) < sets:
            await asyncio.sleep(0.01)


def _polls(one: ScaleSet) -> bool:
    return one.session is not None and one.session.polls > 0


async def over(platform: Platform) -> None:
    """Until GitHub has told everything, and the daemon has tidied everything."""
    state = platform.server.state
    await platform.server.until(
        lambda: not state.runners and not any(one.events or one.messages for one in state.sets.values()), 60
    )
    await asyncio.sleep(SETTLED_SECONDS)


async def send(platform: Platform, daemon: Daemon, jobs: int, at_once: int) -> Burst:
    """Some jobs one by one, then so many at once; all of them done."""
    await listening(platform)
    memory = rss_mib(daemon.pid)
    alone: list[Job] = []
    for number in range(max(1, min(ALONE, jobs // 5))):
        await asyncio.sleep(PAUSE_SECONDS)
        alone += platform.burst(1, lambda _, number=number: plan(number))
        await platform.until_done(alone, daemon)
    await over(platform)
    calls, cpu, began = platform.calls, tree_cpu(daemon.pid), time.perf_counter()
    many = platform.burst(jobs, plan)
    await platform.until_done(many, daemon)
    seconds = time.perf_counter() - began
    await over(platform)
    spent = {part: total - cpu[part] for part, total in tree_cpu(daemon.pid).items()}
    return Burst(at_once, alone, many, seconds, platform.calls - calls, spent, memory, peak_mib(daemon.pid))
