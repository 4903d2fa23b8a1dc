"""Ten thousand jobs queued at once through the HTTP API of the real daemon: none lost, memory bounded.

The daemon is `orchestrator run` with the sandbox backend, the shipped policy and its SQLite journal. Blocking jobs
take every slot; then the others are dispatched as fast as they are taken; then the daemon is killed with SIGKILL and
started again; then some hundred of the queue really run in sandboxes and the rest is cancelled, job by job. At the
end the acknowledged ids are compared with the API's list and with the journal, which the promise checker judges.

The floor of taking a job in is a bare aiohttp server that parses the same body and appends the same offer to the
same journal, without authentication, validation, policy or a queue; rounds of it come before and after.

    python tests/benchmarks/bench_queue.py [jobs]
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import uvloop
import yaml

from orchestrator.daemon.clock import SystemClock
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.events import RunnerBound
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason
from orchestrator.model.record import fold
from orchestrator.testing.checker import World, broken_promises

CAPACITY = 4
REALLY_RUN = 300
AT_ONCE = 32
"""Requests in flight."""
FLOOR_ROUND = 2000
REPLAYED = 50
OUTPUT = Path("build/bench/queue.json")
MEBI = 1 << 20

FLOOR = """
import asyncio, pathlib, sys
import msgspec, uvloop
from aiohttp import web
from orchestrator.daemon.clock import SystemClock
from orchestrator.intake import dispatch
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.events import JobOffered
from orchestrator.model.job import Caller
CALLER = Caller('local', 'operator')
async def main():
    journal = await SqliteJournal.open(pathlib.Path(sys.argv[1]), SystemClock())
    async def handler(request):
        body = msgspec.json.decode(await request.read())
        offer = dispatch.offer(dispatch.DispatchRequest(**body), request.headers['Idempotency-Key'], CALLER)
        await journal.append([(offer.key.id, JobOffered(offer))])
        answer = msgspec.json.encode({'id': offer.key.id} | body)
        return web.Response(body=answer, status=202, content_type='application/json')
    server = await asyncio.get_running_loop().create_server(web.Server(handler, access_log=None), '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await journal.close()
sys.setswitchinterval(0.0005)
uvloop.run(main())
"""


def cpu_of(pid: int) -> float:
    """Processor seconds of a process's own threads, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Memory of a process in RAM, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


class Daemon:
    """`orchestrator run` on a state folder that outlives it."""

    def __init__(self, folder: Path, pool: dict[str, object]) -> None:
        self.state = folder / "state"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        document = {
            "state_dir": str(self.state),
            "server": {"port": port},
            "deadlines": {"drain_seconds": 1},
            "pools": [{"name": "default", **pool}],
        }
        self._config = folder / "orchestrator.yaml"
        self._config.write_text(yaml.safe_dump(document))
        self._log = (folder / "daemon.log").open("ab")
        self.url = f"http://127.0.0.1:{port}"
        self.pid = 0

    async def start(self) -> float:
        """Seconds until it takes jobs."""
        began = time.perf_counter()
        (self.state / "daemon.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "orchestrator", "run", "--config", str(self._config)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self.pid = self._process.pid
        while not (self.state / "daemon.json").exists():
            assert self._process.poll() is None, Path(self._log.name).read_text()[-2000:]
            await asyncio.sleep(0.01)
        return time.perf_counter() - began

    def end(self, number: signal.Signals) -> int:
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(60)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.state / 'caller-token').read_text()}"}


async def at_once(count: int, one) -> list:
    """The results of `one(number)` for all numbers, AT_ONCE at a time, in order."""
    numbers, results = iter(range(count)), [None] * count

    async def lane() -> None:
        for number in numbers:
            results[number] = await one(number)

    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return results


class Client:
    def __init__(self, session: aiohttp.ClientSession, daemon: Daemon) -> None:
        self._session, self._daemon = session, daemon

    async def dispatch(self, key: str, script: str) -> tuple[JobId, bool]:
        """The job's id and whether the daemon knew the key already."""
        body = {"name": "build", "pool": "default", "script": script, "environment": {"CI": "true"}}
        headers = {**self._daemon.headers, "Idempotency-Key": key}
        async with self._session.post(f"{self._daemon.url}/v1/jobs", json=body, headers=headers) as response:
            assert response.status in (200, 202), await response.text()
            return JobId((await response.json())["id"]), "Idempotency-Replayed" in response.headers

    async def cancel(self, job_id: JobId) -> None:
        url = f"{self._daemon.url}/v1/jobs/{job_id}"
        async with self._session.delete(url, headers=self._daemon.headers) as response:
            assert response.status == 202, await response.text()

    async def listed(self, **query: str) -> dict[JobId, str]:
        """Every job of the list with its phase, page by page."""
        found: dict[JobId, str] = {}
        after: dict[str, str] = {}
        while True:
            parameters = {"limit": "200", **query, **after}
            url = f"{self._daemon.url}/v1/jobs"
            async with self._session.get(url, params=parameters, headers=self._daemon.headers) as response:
                assert response.status == 200, await response.text()
                page = await response.json()
            found |= {JobId(job["id"]): job["phase"] for job in page["jobs"]}
            if page["next"] is None:
                return found
            after = {"after": page["next"]}

    async def log(self, job_id: JobId) -> str:
        url = f"{self._daemon.url}/v1/jobs/{job_id}/log"
        async with self._session.get(url, headers=self._daemon.headers) as response:
            return await response.text() if response.status == 200 else ""

    async def until(self, phase: str, count: int, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while len(await self.listed(phase=phase)) < count:
                await asyncio.sleep(0.25)


class Floor:
    """The bare server, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", FLOOR, str(folder / "floor.db")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}/v1/jobs"
        self._count = 0

    async def round(self, session: aiohttp.ClientSession, count: int) -> tuple[float, float]:
        """Wall and processor seconds for each job."""

        async def one(number: int) -> None:
            body = {"name": "build", "pool": "default", "script": f"echo {number}", "environment": {"CI": "true"}}
            headers = {"Authorization": "Bearer none", "Idempotency-Key": f"floor-{self._count + number}"}
            async with session.post(self._url, json=body, headers=headers) as response:
                assert response.status == 202
                await response.json()

        wall, cpu = time.perf_counter(), cpu_of(self._process.pid)
        await at_once(count, one)
        self._count += count
        return (time.perf_counter() - wall) / count, (cpu_of(self._process.pid) - cpu) / count

    def close(self) -> None:
        self._process.communicate()


async def journal_says(daemon: Daemon, accepted: Sequence[JobId]) -> tuple[list[str], set[JobId], set[JobId]]:
    """What the checker finds, the jobs that were bound, and those that completed."""
    journal = await SqliteJournal.open(daemon.state / "journal.db", SystemClock())
    history = {job_id: await journal.facts_of(job_id) for job_id in accepted}
    await journal.close()
    bound = {
        job_id: fact.event.uid
        for job_id, facts in history.items()
        for fact in facts
        if isinstance(fact.event, RunnerBound)
    }
    world = World(accepted=list(accepted), handed_out=list(bound.items()))
    outcomes = {job_id: fold(facts).outcome for job_id, facts in history.items() if facts}
    completed = {job_id for job_id, outcome in outcomes.items() if outcome and outcome.reason is EndReason.COMPLETED}
    return broken_promises(world, history), set(bound), completed


def figure(ours: float, floor: float | None, unit: str) -> dict[str, object]:
    ratio = round(ours / floor, 3) if floor else None
    return {"ours": round(ours, 3), "floor": round(floor, 3) if floor else None, "ratio": ratio, "unit": unit}


async def run(jobs: int, folder: Path, session: aiohttp.ClientSession) -> dict[str, dict[str, object]]:
    small = {"workspace_bytes": 8 * MEBI, "tmp_bytes": 8 * MEBI, "shm_bytes": MEBI, "max_processes": 32}
    daemon, bare = Daemon(folder, {"capacity": CAPACITY, "sandbox": small}), Floor(folder)
    floors = []
    try:
        await daemon.start()
        client = Client(session, daemon)
        await asyncio.sleep(1)
        memory = {"start": rss_mib(daemon.pid)}
        blocking = [(await client.dispatch(f"block-{n}", "sleep 600"))[0] for n in range(CAPACITY)]
        await client.until("running", CAPACITY, 30)
        floors.append(await bare.round(session, FLOOR_ROUND))

        wall, cpu = time.perf_counter(), cpu_of(daemon.pid)
        answers = await at_once(jobs, lambda n: client.dispatch(f"queue-{n}", f"echo job {n}"))
        wall, answered = time.perf_counter() - wall, cpu_of(daemon.pid) - cpu
        ids = [job_id for job_id, _ in answers]
        assert len(set(ids)) == jobs
        await client.until("waiting", jobs, 60)
        admitted = cpu_of(daemon.pid) - cpu
        memory["queued"] = rss_mib(daemon.pid)
        floors.append(await bare.round(session, FLOOR_ROUND))

        daemon.end(signal.SIGKILL)
        restarted = await daemon.start()
        assert set(ids) | set(blocking) == set(await client.listed())
        memory["queued, after SIGKILL and restart"] = rss_mib(daemon.pid)
        again = await at_once(REPLAYED, lambda n: client.dispatch(f"queue-{n}", f"echo job {n}"))
        assert again == [(job_id, True) for job_id in ids[:REPLAYED]], "a replayed dispatch made another job"

        began, before = time.perf_counter(), len(await client.listed(phase="finished"))
        await client.until("finished", before + REALLY_RUN, 60)
        ran = (len(await client.listed(phase="finished")) - before) / (time.perf_counter() - began)
        began = time.perf_counter()
        unfinished = [job_id for job_id, phase in (await client.listed()).items() if phase != "finished"]
        await at_once(len(unfinished), lambda n: client.cancel(unfinished[n]))
        await client.until("finished", jobs + CAPACITY, 60)
        cancelled = len(unfinished) / (time.perf_counter() - began)
        memory["all finished"] = rss_mib(daemon.pid)
        lost = set(ids) - set(await client.listed())
        logs = await at_once(jobs, lambda n: client.log(ids[n]))
        exits = daemon.end(signal.SIGTERM)
    finally:
        daemon.end(signal.SIGKILL)
        bare.close()
    assert exits == 0, exits
    broken, bound, completed = await journal_says(daemon, [*blocking, *ids])
    assert (broken, lost) == ([], set()), (broken[:5], len(lost))
    assert len(completed) >= REALLY_RUN - CAPACITY, len(completed)
    for number, (job_id, text) in enumerate(zip(ids, logs, strict=True)):
        said = text.count(f"job {number}\n")
        assert said == 1 if job_id in completed else said <= (job_id in bound), f"job {number} said {text!r}"
    floor_wall, floor_cpu = (sum(values) / len(floors) for values in zip(*floors, strict=True))
    print(f"{jobs} acknowledged, {jobs} listed, {len(bound)} bound, {len(completed)} completed, no promise broken")
    print("memory of the daemon in MiB: " + ", ".join(f"{when} {mib:.0f}" for when, mib in memory.items()))
    print(f"ready again {restarted:.1f} s after SIGKILL with {jobs} queued")
    return {
        "accepted_per_second": figure(jobs / wall, 1 / floor_wall, "1/s"),
        "cpu_per_accepted_job": figure(answered / jobs * 1e3, floor_cpu * 1e3, "ms"),
        "cpu_until_waiting_for_a_slot": figure(admitted / jobs * 1e3, floor_cpu * 1e3, "ms"),
        "lost": figure(len(lost), None, "jobs"),
        "memory_at_start": figure(memory["start"], None, "MiB"),
        "memory_all_queued": figure(memory["queued"], memory["start"], "MiB"),
        "memory_all_finished": figure(memory["all finished"], memory["start"], "MiB"),
        "memory_per_queued_job": figure((memory["queued"] - memory["start"]) / jobs * 1024, None, "KiB"),
        "ready_after_sigkill": figure(restarted, None, "s"),
        "really_run_per_second": figure(ran, None, "1/s"),
        "cancelled_per_second": figure(cancelled, None, "1/s"),
    }


async def main(jobs: int) -> dict[str, dict[str, object]]:
    connector = aiohttp.TCPConnector(limit=AT_ONCE * 2)
    with tempfile.TemporaryDirectory(prefix="bench-queue-") as name:
        async with aiohttp.ClientSession(connector=connector) as session:
            return await run(jobs, Path(name), session)


if __name__ == "__main__":
    figures = uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
    for name, values in figures.items():
        print(f"{name:30} {values['ours']:9} {values['unit']:4}  floor {values['floor']}  ratio {values['ratio']}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")
