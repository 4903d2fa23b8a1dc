"""What 25 open pages cost a daemon with ten thousand unfinished jobs, and whether they have the list.

The daemon is `orchestrator run` with its SQLite journal; one job holds the only place, the others are queued. Then
changes are made at a steady rate (a job is cancelled and another dispatched), first with nobody looking, then with
25 readers in a process of their own, who load the whole list and follow what changes. The difference is the page's
cost. At the end each reader's list is compared with the daemon's.

    python tests/benchmarks/bench_live.py [jobs] [readers]
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from bench_queue import Client, Daemon, at_once, cpu_of, rss_mib  # isort: skip

CHANGES_PER_SECOND = 40
"""Jobs that end and jobs that come, together; each is several facts."""
SECONDS = 20
OUTPUT = Path("build/bench/live.json")


class Reader:
    """Has the list as the page has it."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.rows: dict[str, Any] = {}
        self.bytes = self.frames = self.resyncs = 0

    async def load(self) -> None:
        query: dict[str, str] = {"limit": "1000"}
        rows: dict[str, Any] = {}
        while True:
            async with self._session.get(f"{self._url}/v1/live/jobs", params=query) as answer:
                assert answer.status == 200, await answer.text()
                page = json.loads(await answer.read())
            rows |= {row["id"]: row for row in page["rows"]}
            if page["next"] is None:
                self.rows = rows
                return
            query["after"] = page["next"]

    async def follow(self) -> None:
        async with self._session.get(f"{self._url}/v1/live", params={"activity": "true"}, timeout=None) as answer:
            assert answer.status == 200
            await self.load()
            print("loaded", flush=True)
            async for event, data in events(answer.content):
                self.frames += 1
                self.bytes += len(data)
                if event == b"resync":
                    self.resyncs += 1
                    await self.load()
                elif event == b"jobs":
                    told = json.loads(data)
                    self.rows |= {row["id"]: row for row in told["rows"]}
                    for gone in told["gone"]:
                        self.rows.pop(gone, None)


async def events(stream: aiohttp.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    held = b""
    while chunk := await stream.readany():
        *whole, held = (held + chunk).split(b"\n\n")
        for message in whole:
            fields = dict(line.split(b": ", 1) for line in message.splitlines() if not line.startswith(b":"))
            if b"event" in fields:
                yield fields[b"event"], fields[b"data"]


async def read_for_ever(url: str, count: int) -> None:
    """The readers' process: says when each has loaded, and at the end of its input what they have."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=1 << 20) as session:
        readers = [Reader(session, url) for _ in range(count)]
        tasks = [asyncio.create_task(reader.follow()) for reader in readers]
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        last = Reader(session, url)
        await last.load()
        told = {
            "same": sum(reader.rows == last.rows for reader in readers),
            "rows": len(last.rows),
            "bytes_each": statistics.mean(reader.bytes for reader in readers),
            "frames_each": statistics.mean(reader.frames for reader in readers),
            "resyncs": sum(reader.resyncs for reader in readers),
        }
        print(json.dumps(told), flush=True)


async def phase(session: aiohttp.ClientSession, daemon: Daemon, jobs: list[Any], name: str) -> dict[str, Any]:
    """Changes at the steady rate for a while: processor time, memory, and how long a trivial request takes."""
    client = Client(session, daemon)
    waits: list[float] = []
    over = asyncio.Event()

    async def probe() -> None:
        while not over.is_set():
            began = time.perf_counter()
            async with session.get(f"{daemon.url}/healthz") as answer:
                await answer.read()
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.02)

    probing = asyncio.create_task(probe())
    cpu, began, changes = cpu_of(daemon.pid), time.perf_counter(), 0
    while (now := time.perf_counter() - began) < SECONDS:
        if changes > now * CHANGES_PER_SECOND:
            await asyncio.sleep(0.005)
            continue
        await client.cancel(jobs.pop(0))
        job_id, _ = await client.dispatch(f"{name}-{changes}", "true")
        jobs.append(job_id)
        changes += 2
    over.set()
    await probing
    waits.sort()
    return {
        "changes_per_second": round(changes / SECONDS, 1),
        "cpu_seconds_per_second": round((cpu_of(daemon.pid) - cpu) / (time.perf_counter() - began), 3),
        "rss_mib": round(rss_mib(daemon.pid), 1),
        "request_p50_ms": round(waits[len(waits) // 2] * 1000, 2),
        "request_p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 2),
        "request_max_ms": round(waits[-1] * 1000, 2),
    }


async def main(count: int, readers: int) -> None:
    results: dict[str, Any] = {"jobs": count, "readers": readers}
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder), {"capacity": 1})
        await daemon.start()
        process = None
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                client = Client(session, daemon)
                await client.dispatch("blocker", "sleep 3000")
                await client.until("running", 1, 30)
                found = await at_once(count, lambda number: client.dispatch(f"job-{number}", "true"))
                jobs = [job_id for job_id, _ in found]
                await asyncio.sleep(2)
                results["nobody"] = await phase(session, daemon, jobs, "nobody")
                process = await asyncio.create_subprocess_exec(
                    sys.executable, __file__, "--read", daemon.url, str(readers),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                )  # fmt: skip
                assert process.stdout is not None
                cpu, began = cpu_of(daemon.pid), time.perf_counter()
                for _ in range(readers):
                    assert (await process.stdout.readline()) == b"loaded\n"
                results["loading"] = {
                    "seconds": round(time.perf_counter() - began, 2),
                    "cpu_ms_each": round((cpu_of(daemon.pid) - cpu) * 1000 / readers, 1),
                }
                results["looked_at"] = await phase(session, daemon, jobs, "looked-at")
                await asyncio.sleep(3)
                answer, _ = await process.communicate(b"")  # nothing: that ends its input
                results["readers_told"] = json.loads(answer.splitlines()[-1])
        finally:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
            daemon.end(signal.SIGKILL)
    print(json.dumps(results, indent=2))
    assert results["readers_told"]["same"] == readers, "a reader has another list than the daemon"
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        uvloop.run(read_for_ever(sys.argv[2], int(sys.argv[3])))
    else:
        given = [int(text) for text in sys.argv[1:]] + [10_000, 25][len(sys.argv) - 1 :]
        uvloop.run(main(*given))
