"""The SQLite journal against its floor: the same bytes by bare `executemany` into the same table.

Lifecycles of eight facts in seven appends, as the engine makes them, by many tasks at once; then single appends
to an idle journal; then appends beside a loop that is busy with other work. CPU is the whole process's.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import uvloop

from orchestrator.journal import codec, schema
from orchestrator.journal.redact import Masker
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.journal.stream import StreamMasker
from orchestrator.model import events
from orchestrator.model.decision import Decision, Reason, Stage, Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.runner import runner_name

JOBS = 6000
IN_FLIGHT = 200
Group = list[tuple[JobId, events.Event]]
Figure = dict[str, object]


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def lifecycle(number: int) -> list[Group]:
    """The appends of one job: eight facts."""
    key = JobKey("dispatch", f"{number:032x}")
    spec = JobSpec("build", PoolName("default"), "make test\n" * 4, {"CI": "true"}, pipeline="main")
    caller = Caller("https://issuer.test", "repo:org/app", {"repository": "org/app", "ref": "refs/heads/main"})
    digest = "sha256:" + "0" * 64
    reason = Reason("pool_open", "the pool takes jobs of this repository")
    decision = Decision("0" * 26, Stage.ADMISSION, Verdict.ALLOW, (reason,), input_digest=digest, bundle_digest=digest)
    runner, uid = runner_name(key.id), "0" * 32
    groups: list[list[events.Event]] = [
        [events.JobOffered(JobOffer(key, spec, caller, "0" * 64))],
        [events.JobAdmitted(decision)],
        [events.ProvisionStarted(runner, "0" * 16)],
        [events.RunnerCreated(runner, uid)],
        [events.RunnerBound(runner, uid, EgressProof(("dns", "metadata", "raw_address")))],
        [events.JobEnded(Outcome(Result.SUCCESS, EndReason.COMPLETED, "completed", 0)), events.LogClosed(900, 0, 0)],
        [events.JobFinished()],
    ]
    return [[(key.id, event) for event in group] for group in groups]


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]


def floor(path: Path, lives: Sequence[list[Group]]) -> tuple[float, float]:
    """CPU and wall seconds of bare inserts of ready bytes, in commits of the size the journal made."""
    rows = []
    for number, life in enumerate(lives):
        for group in life:
            rows += [(number, job_id, 0, codec.kind_of(event), codec.encode(event), 1) for job_id, event in group]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 2000", "cache_size = -32768"):
            connection.execute(f"PRAGMA {pragma}")
        cpu, wall = time.process_time(), time.perf_counter()
        for start in range(0, len(rows), IN_FLIGHT):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO facts (job, job_id, at_ns, kind, data, epoch) VALUES (?, ?, ?, ?, ?, ?)",
                rows[start : start + IN_FLIGHT],
            )
            connection.execute("COMMIT")
        return time.process_time() - cpu, time.perf_counter() - wall


async def ours(path: Path, lives: Sequence[list[Group]]) -> tuple[float, float, list[float], float]:
    journal = await SqliteJournal.open(path, SystemClock())
    commits: list[int] = []
    journal.subscribe(lambda facts: commits.append(len(facts)))
    waits: list[float] = []
    todo = iter(lives)

    async def worker() -> None:
        for life in todo:
            for group in life:
                asked = time.perf_counter()
                await journal.append(group)
                waits.append(time.perf_counter() - asked)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await journal.close()
    return cpu, wall, waits, sum(commits) / len(commits)


async def idle(path: Path, lives: Sequence[list[Group]], *, busy: bool) -> list[float]:
    """Latency of one append at a time; `busy` keeps the loop at work between its turns."""
    journal = await SqliteJournal.open(path, SystemClock())
    waits: list[float] = []
    done = False

    async def work() -> None:
        while not done:
            sum(range(20_000))  # about half a millisecond that holds the interpreter
            await asyncio.sleep(0)

    other = asyncio.ensure_future(work()) if busy else None
    try:
        for life in lives:
            for group in life:
                asked = time.perf_counter()
                await journal.append(group)
                waits.append(time.perf_counter() - asked)
    finally:
        done = True
        if other:
            await other
        await journal.close()
    return waits


async def within(seconds: float, work: Coroutine[Any, Any, list[float]]) -> list[float]:
    """What the work gives; nothing when that takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return []


def idle_floor(path: Path, lives: Sequence[list[Group]]) -> list[float]:
    waits: list[float] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for life in lives:
            for group in life:
                rows = [(0, job_id, 0, codec.kind_of(event), codec.encode(event), 1) for job_id, event in group]
                asked = time.perf_counter()
                connection.execute("BEGIN IMMEDIATE")
                statement = "INSERT INTO facts (job, job_id, at_ns, kind, data, epoch) VALUES (?, ?, ?, ?, ?, ?)"
                connection.executemany(statement, rows)
                connection.execute("COMMIT")
                waits.append(time.perf_counter() - asked)
    return waits


def masking() -> Figure:
    """Log masking against a plain search for the same number of byte strings."""
    masker = Masker()
    secrets = [f"secret-number-{n}-0123456789abcdef" for n in range(4)]
    for secret in secrets:
        masker.register("a", secret)
    text = b"".join(
        b"2026-01-01T00:00:00Z step %d of the build: compiled a file and went on\n" % n for n in range(20_000)
    )
    pieces = [text[at : at + 16_384] for at in range(0, len(text), 16_384)]
    forms = list(masker._of_job["a"])
    flow = StreamMasker(masker, "a")
    took = timed(lambda: [flow.feed(piece) for piece in pieces])
    least = timed(lambda: [form in piece for piece in pieces for form in forms])
    return {"ours": len(text) / took / 1e6, "floor": len(text) / least / 1e6, "ratio": least / took, "unit": "MB/s"}


def timed(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return max(time.process_time() - began, 1e-9)


def main() -> None:
    lives = [lifecycle(number) for number in range(JOBS)]
    facts = sum(len(group) for life in lives for group in life)
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folder = Path(name)
        floor_cpu, floor_wall = floor(folder / "floor.db", lives)
        cpu, wall, waits, group = runner.run(ours(folder / "ours.db", lives))
        few = lives[:20]
        single_floor: list[float] = []
        single: list[float] = []
        for turn in range(5):  # by turns, so that a disk busy with other work is unfair to both alike
            single_floor += idle_floor(folder / f"single-floor-{turn}.db", few)
            single += runner.run(idle(folder / f"single-{turn}.db", few, busy=False))
        beside = runner.run(within(20, idle(folder / "beside.db", few[:10], busy=True)))
    figures: dict[str, Figure] = {
        "journal_cpu_per_fact": compared(cpu / facts * 1e6, floor_cpu / facts * 1e6, "microseconds of CPU"),
        "journal_facts_per_second": compared(facts / wall, facts / floor_wall, "facts per second"),
        "journal_idle_append_p50": compared(percentile(single, 0.5) * 1e6, percentile(single_floor, 0.5) * 1e6, "us"),
        "journal_idle_append_p99": compared(percentile(single, 0.99) * 1e6, percentile(single_floor, 0.99) * 1e6, "us"),
        "log_masking": masking(),
    }
    if beside:
        slower = compared(percentile(beside, 0.5) * 1e6, percentile(single, 0.5) * 1e6, "us")
        figures["journal_busy_loop_append_p50"] = slower
    else:
        # Where a waiting thread wakes slower than the loop comes back for the interpreter's lock, it never gets it.
        sys.stdout.write(
            "journal_busy_loop_append_p50     NOT TO BE HAD here: a loop without any rest starves the writer\n"
        )
    for figure, values in figures.items():
        sys.stdout.write(
            f"{figure:32} ours {values['ours']:>12.1f}  floor {values['floor']:>12.1f}  ratio {values['ratio']:.2f}"
            f"  {values['unit']}\n"
        )
    sys.stdout.write(
        f"{facts} facts, {JOBS / wall:.0f} lifecycles/s, {group:.0f} facts a commit; append with {IN_FLIGHT} in flight:"
        f" p50 {percentile(waits, 0.5) * 1e3:.1f} ms, p99 {percentile(waits, 0.99) * 1e3:.1f} ms\n"
    )
    out = Path("build/bench/journal.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")


def compared(ours_: float, floor_: float, unit: str) -> Figure:
    return {"ours": ours_, "floor": floor_, "ratio": ours_ / floor_, "unit": unit}


if __name__ == "__main__":
    main()
