"""Whole lifecycles of the engine: in-memory backend, the SQLite journal on a file, traces exported to a receiver.

Everything of ours runs in this process, pinned to one core; the OTLP receiver is a process of its own and not
counted. The floor does what no engine could leave out, with the same parts on the same core: it stores the same
facts in the same number of appends, as many jobs at once, makes and encodes each job's trace and sends it.
A third kind of round has the audit log before everything, as the daemon has. Rounds alternate. The printed profile is
of a round of its own, since profiling slows what it looks at.

    python tests/benchmarks/bench_engine.py [jobs of a round]
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.records.audit import FactTrail
from orchestrator.daemon.records.receipt import Receipts
from orchestrator.evidence.audit.facts import JobFacts
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.evidence.audit.log import AuditLog
from orchestrator.evidence.audit.note import NoteKey
from orchestrator.evidence.receipts.making import Signer
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.journal.audited import AuditedJournal
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import Event, Fact, RunnerCreated
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import Result
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.telemetry import ids
from orchestrator.telemetry.export import ExportOptions, TraceExporter
from orchestrator.telemetry.otlp_http import Receiver
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource

ROUNDS = 5
AT_ONCE = 64
"""Jobs in flight, and the pool's capacity."""
AUDITED = 4
"""Facts of a job here that the audit log is told: admitted, bound, ended, finished."""
OUTPUT = Path("build/bench/engine.json")
THREADS = {
    "MainThread": "event loop: engine, work queue, feed",
    "journal-write": "journal's writer: stamping, SQLite",
    "audit-write": "audit log's writer: chain, tree, sync",
}
POOL = Pool(PoolName("default"), "memory", TrustTier.STANDARD, AT_ONCE, "memory", "none")
EVIDENCE_KEY, SIGNER = generate_evidence_key(), Signer("http://127.0.0.1:8455", "0", 60)
PROOF = EgressProof(denied=("metadata", "direct", "resolver"), reached=())
RESOURCE = {"service.name": "orchestrator", "service.version": "0", "service.instance.id": "bench"}

RECEIVER = """
import asyncio, sys, uvloop
from orchestrator.testing.otlp import OtlpReceiver
async def main():
    async with OtlpReceiver() as receiver:
        print(receiver.endpoint, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(len({span.trace_id for span in receiver.spans}), len(receiver.spans), flush=True)
            receiver.trace_requests.clear(); receiver.log_requests.clear(); receiver.bodies.clear()
uvloop.run(main())
"""


class ReceiverProcess:
    """The OTLP receiver, on the other core where there is one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", RECEIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint = self._process.stdout.readline().strip()

    def taken(self) -> tuple[int, int]:
        """Traces and spans since the last question."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        traces, spans = self._process.stdout.readline().split()
        return int(traces), int(spans)

    def close(self) -> None:
        self._process.communicate()


def offer(number: int) -> JobOffer:
    spec = JobSpec("build", POOL.name, "make wheel", {"CI": "true", "BUILD": str(number)}, pipeline="bench")
    caller = Caller("https://issuer.example", "repo:octo/app", {"repository": "octo/app", "ref": "refs/heads/main"})
    return JobOffer(JobKey("dispatch", f"{number:032x}"), spec, caller, f"{number:064x}")


class Agents:
    """Each runner claims as soon as it is recorded as created, and exits once the claim is durable."""

    def __init__(self, engine: Engine, backend: MemoryBackend) -> None:
        self._engine, self._backend = engine, backend
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact.event, RunnerCreated):
                task = asyncio.get_running_loop().create_task(self._live(fact.event))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _live(self, created: RunnerCreated) -> None:
        await self._engine.claim(RunnerIdentity(created.runner, created.uid), PROOF)
        self._backend.exit(created.runner)


@dataclass(frozen=True)
class Round:
    """Jobs a second by the wall clock, processor milliseconds a job, and those by kind of thread."""

    rate: float
    cpu_ms: float
    threads_ms: dict[str, float]


class Spent:
    """Wall and processor seconds (all threads) since it was made."""

    def __init__(self) -> None:
        self._threads = cpu_of_threads()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def of(self, jobs: int) -> Round:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        threads = {
            kind: (seconds - self._threads.get(kind, 0.0)) / jobs * 1e3 for kind, seconds in cpu_of_threads().items()
        }
        return Round(jobs / wall, cpu / jobs * 1e3, threads)


def cpu_of_threads() -> dict[str, float]:
    """Processor seconds so far of each kind of thread of this process, by its name without its number."""
    spent: dict[str, float] = {}
    for thread in threading.enumerate():
        schedule = Path(f"/proc/self/task/{thread.native_id}/schedstat")
        if schedule.exists():
            kind = THREADS.get(thread.name.split("_")[0], "trace encoding, compression, reads")
            spent[kind] = spent.get(kind, 0.0) + int(schedule.read_text().split()[0]) / 1e9
    return spent


async def in_flight(jobs: int, one) -> None:
    """Run `one(number)` for all numbers, AT_ONCE at a time."""
    numbers = iter(range(jobs))

    async def lane() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))


def exporter_for(journal, receiver: ReceiverProcess) -> TraceExporter:
    return TraceExporter(journal, ExportOptions(Receiver(receiver.endpoint)), RESOURCE)


async def lifecycles(
    jobs: int, folder: Path, receiver: ReceiverProcess, *, audited: bool = False, sealed: bool = False
) -> tuple[Round, list[Sequence[Fact]]]:
    """What a round took, and the facts of some of its jobs."""
    clock, backend, source = SystemClock(), MemoryBackend(), MemorySource()
    journal = await SqliteJournal.open(folder / "journal.db", clock)
    log = await AuditLog.open(folder / "audit", NoteKey.generate("bench/audit"))
    if audited:
        journal = AuditedJournal(journal, FactTrail(log, JobFacts(KeyedHash(bytes(32)), ids.trace_id)), clock)
    sealer = Receipts(journal, lambda: engine, EVIDENCE_KEY, SIGNER, clock) if sealed else None
    performer = Performer(FixedPolicy(), {"memory": backend}, {"dispatch": source}, sealer=sealer)
    engine = Engine(journal=journal, performer=performer, pools={POOL.name: POOL}, clock=clock)
    backend.subscribe(engine.runner_changed)
    journal.subscribe(Agents(engine, backend).follow)
    finished: dict[JobId, asyncio.Event] = {}

    def ends(facts: Sequence[Fact]) -> None:
        for fact in facts:
            if type(fact.event).__name__ == "JobFinished":
                finished.pop(fact.job_id).set()

    journal.subscribe(ends)
    exporter = exporter_for(journal, receiver)
    exporter.start()

    async def one(number: int) -> None:
        offered = offer(number)
        done = finished[offered.key.id] = asyncio.Event()
        await engine.offer(offered)
        await done.wait()

    spent = Spent()
    await in_flight(jobs, one)
    while await exporter.export_pending():
        pass
    await exporter.stop()
    taken = spent.of(jobs)
    assert len(source.reports) == jobs
    assert all(outcome.result is Result.SUCCESS for _, outcome in source.reports)
    assert (list(backend.names()), engine.live_count) == ([], 0)
    facts = [await journal.facts_of(job_id) for job_id, _ in source.reports[:: max(1, jobs // 50)]]
    await engine.close()
    await journal.close()
    assert log.size == (AUDITED * jobs if audited else 0)
    await log.close()
    traces, _ = await asyncio.to_thread(receiver.taken)
    assert traces == jobs, f"{traces} traces of {jobs} jobs arrived"
    return taken, facts


def appends_of(facts: Sequence[Fact]) -> list[list[Event]]:
    """A job's events as the engine stored them: those of one commit carry one time stamp."""
    groups: dict[int, list[Event]] = {}
    for fact in facts:
        groups.setdefault(fact.at_ns, []).append(fact.event)
    return list(groups.values())


async def floor(jobs: int, folder: Path, receiver: ReceiverProcess, appends: list[list[Event]]) -> Round:
    """What storing the same facts and sending the same traces takes."""
    journal = await SqliteJournal.open(folder / "floor.db", SystemClock())
    exporter = exporter_for(journal, receiver)
    exporter.start()

    async def one(number: int) -> None:
        offered = offer(number)
        job_id = offered.key.id
        first = type(appends[0][0])(offered)
        await journal.append([(job_id, first)])
        for group in appends[1:]:
            await journal.append([(job_id, event) for event in group])

    spent = Spent()
    await in_flight(jobs, one)
    while await exporter.export_pending():
        pass
    await exporter.stop()
    taken = spent.of(jobs)
    await journal.close()
    traces, _ = await asyncio.to_thread(receiver.taken)
    assert traces == jobs
    return taken


async def profile(jobs: int, folder: Path, receiver: ReceiverProcess) -> None:
    """Print where the loop's thread spends its own time; the writer's and encoder's threads are not in it."""
    profiler = cProfile.Profile()
    profiler.enable()
    await lifecycles(jobs, folder, receiver)
    profiler.disable()
    stats = pstats.Stats(profiler)
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][2])
    total = sum(row[1][2] for row in rows)
    print(f"\nprofile of the loop's thread, own time, {jobs} jobs (profiled: slower than the figures above)")
    for (path, line, name), (_, calls, own, _, _) in rows[:20]:
        where = f"{'/'.join(Path(path).parts[-2:])}:{line}" if path != "~" else "built-in"
        print(f"{own / total:6.1%} {own / jobs * 1e6:7.1f} µs a job {calls / jobs:6.1f} calls  {name[:60]}  ({where})")


def figure(ours: float, bare: float, unit: str) -> dict[str, object]:
    return {"ours": round(ours, 3), "floor": round(bare, 3), "ratio": round(ours / bare, 3), "unit": unit}


async def main(jobs: int) -> dict[str, dict[str, object]]:
    receiver = ReceiverProcess()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    # As the daemon sets it: sqlite3 gives up the interpreter lock at every row.
    sys.setswitchinterval(0.0005)
    ours, bare, audited = [], [], []
    try:
        with tempfile.TemporaryDirectory() as name:

            def folder() -> Path:
                return Path(tempfile.mkdtemp(dir=name))

            _, facts = await lifecycles(jobs // 4, folder(), receiver)
            appends = appends_of(facts[len(facts) // 2])
            for _ in range(ROUNDS):
                ours.append((await lifecycles(jobs, folder(), receiver))[0])
                bare.append(await floor(jobs, folder(), receiver, appends))
                audited.append((await lifecycles(jobs, folder(), receiver, audited=True))[0])
            await profile(jobs // 2, folder(), receiver)
    finally:
        receiver.close()
    median = statistics.median
    facts_of_one = sum(map(len, appends))
    print(f"\n{facts_of_one} facts of a job in {len(appends)} appends, {AT_ONCE} jobs in flight, {jobs} a round")
    for kind in audited[0].threads_ms:
        mine, least, with_log = (
            median(taken.threads_ms.get(kind, 0.0) for taken in rounds) for rounds in (ours, bare, audited)
        )
        print(f"  {kind:38} {mine * 1e3:6.0f} µs CPU a job  floor {least * 1e3:6.0f}  audited {with_log * 1e3:6.0f}")
    cpu, floor_cpu = median(taken.cpu_ms for taken in ours), median(taken.cpu_ms for taken in bare)
    return {
        "lifecycles_per_second": figure(
            median(taken.rate for taken in ours), median(taken.rate for taken in bare), "1/s"
        ),
        "lifecycles_per_cpu_second": figure(1e3 / cpu, 1e3 / floor_cpu, "1/s"),
        "cpu_per_lifecycle": figure(cpu, floor_cpu, "ms"),
        "audited_lifecycles_per_second": figure(
            median(taken.rate for taken in audited), median(taken.rate for taken in ours), "1/s"
        ),
        "audited_cpu_per_lifecycle": figure(median(taken.cpu_ms for taken in audited), cpu, "ms"),
    }


if __name__ == "__main__":
    figures = uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
    for name, values in figures.items():
        print(f"{name:28} {values['ours']:9} {values['unit']}  floor {values['floor']:9}  ratio {values['ratio']}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")
