"""From a dispatch that the real daemon has accepted to the first instruction of the job's script, against a bare start.

Everything lies in between: policy, journal, the sandbox, the agent's claim with its egress proof, the binding. The
daemon is `orchestrator run` with the settings it has by default. The script's first act is `exec date`, so the time
it prints is later than its first instruction by one small program's start, which counts against us; both clocks are
the machine's. The floor is bench_sandbox's: the same hardened bubblewrap command line, started by a small helper,
with the agent's interpreter saying one byte. Both are measured in turns.

    python tests/benchmarks/bench_dispatch.py [starts]
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM

import aiohttp
import uvloop
from bench_queue import Client, Daemon
from bench_sandbox import AT_ONCE, Floor

OUTPUT = Path("build/bench/dispatch.json")
SCRIPT = "exec date +%s.%N"
PARTS = ("daemon", "gateway", "launcher and sandboxes")
ASK_AFTER_SECONDS = 0.3
SETTLED_SECONDS = 0.5
"""After a round: the launcher makes the sandboxes that wait for the next start."""


def tree_cpu(pid: int) -> dict[str, float]:
    """Processor seconds of the daemon itself, and of its two helpers with all that is below them and was reaped."""
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
    total = dict.fromkeys(PARTS, 0.0)
    for process, ticks in spent.items():
        line = [process]
        while line[-1] in parents and line[-1] != pid:
            line.append(parents[line[-1]])
        if process == pid:
            total["daemon"] = sum(ticks[:2])
        elif line[-1] == pid:
            is_gateway = b"egress" in Path(f"/proc/{line[-2]}/cmdline").read_bytes()
            total["gateway" if is_gateway else "launcher and sandboxes"] += sum(ticks)
    return total


def marker_alone() -> float:
    """Seconds that the marker takes to say the time when nothing else is measured: a shell's start and `date`'s."""
    began = time.time()
    done = subprocess.run(["/bin/sh", "-e", "-c", SCRIPT], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout) - began


class Starts:
    """Dispatches jobs and reads from their own output when they began."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = itertools.count()

    async def one(self) -> dict[str, float]:
        """Seconds to the first instruction since the request was sent, and since its answer had come."""
        sent = time.time()
        job_id, _ = await self._client.dispatch(f"start-{next(self._numbers)}", SCRIPT)
        accepted = time.time()
        # Nobody asks while the job starts: the questions would be counted, and slow what they ask about.
        await asyncio.sleep(ASK_AFTER_SECONDS)
        async with asyncio.timeout(30):
            while not (text := await self._client.log(job_id)).endswith("\n"):
                await asyncio.sleep(0.1)
        first = float(text)
        return {"sent": first - sent, "accepted": first - accepted}

    async def many(self, count: int) -> list[dict[str, float]]:
        return list(await asyncio.gather(*(self.one() for _ in range(count))))

    async def quiet(self, finished: int) -> None:
        """Until so many jobs are finished and the launcher is ready for the next."""
        await self._client.until("finished", finished, 30)
        await asyncio.sleep(SETTLED_SECONDS)


def figure(ours: float, floor: float, unit: str = "ms") -> dict[str, object]:
    return {"ours": round(ours, 3), "floor": round(floor, 3), "ratio": round(ours / floor, 2), "unit": unit}


async def measure(client: Client, daemon: Daemon, floor: Floor, starts: int) -> dict[str, dict[str, object]]:
    ours, singles, bare, many, bare_many, whole = Starts(client), [], [], [], [], []
    rounds, marker, median = max(4, starts // 4), [], statistics.median
    await ours.many(2)
    floor.measure(2)
    await ours.quiet(2)
    for _ in range(starts):
        bare.append(floor.measure(1)["first"])
        singles.append(await ours.one())
        marker.append(marker_alone())
    done = 2 + starts
    await ours.quiet(done)
    for _ in range(rounds):
        bare_many.append(floor.measure(AT_ONCE))
        before = tree_cpu(daemon.pid)
        many += await ours.many(AT_ONCE)
        done += AT_ONCE
        await ours.quiet(done)
        after = tree_cpu(daemon.pid)
        whole.append({part: (after[part] - before[part]) / AT_ONCE * 1e3 for part in PARTS})
    bare_ms, bare_many_ms = median(bare) * 1e3, median(each["first"] for each in bare_many) * 1e3
    parts = {part: statistics.mean(each[part] for each in whole) for part in PARTS}
    print("CPU of a whole job: " + ", ".join(f"{part} {ms:.1f} ms" for part, ms in parts.items()))
    print(f"the marker alone takes {median(marker) * 1e3:.1f} ms, which are part of what is ours below")
    return {
        "accepted_to_first_instruction": figure(median(each["accepted"] for each in singles) * 1e3, bare_ms),
        "sent_to_first_instruction": figure(median(each["sent"] for each in singles) * 1e3, bare_ms),
        "accepted_to_first_instruction_8_at_once": figure(
            median(each["accepted"] for each in many) * 1e3, bare_many_ms
        ),
        "cpu_of_a_whole_job_8_at_once": figure(
            sum(parts.values()), statistics.mean(each["cpu"] for each in bare_many) * 1e3
        ),
    }


async def main(starts: int) -> dict[str, dict[str, object]]:
    floor = Floor()
    with tempfile.TemporaryDirectory(prefix="bench-dispatch-") as name:
        daemon = Daemon(Path(name), {"capacity": AT_ONCE})
        try:
            await daemon.start()
            async with aiohttp.ClientSession() as session:
                figures = await measure(Client(session, daemon), daemon, floor, starts)
            assert daemon.end(SIGTERM) == 0
        finally:
            daemon.end(SIGKILL)
            floor.close()
    return figures


if __name__ == "__main__":
    figures = uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 40))
    for name, values in figures.items():
        print(f"{name:40} {values['ours']:8} {values['unit']}  floor {values['floor']:8}  ratio {values['ratio']}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")
