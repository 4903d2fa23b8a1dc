"""The audit log against its floor: the same bytes hashed once, written and synced in groups of the same size.

Records as a daemon tells them, by many tasks at once; then one at a time, in turns with the floor; then the offline
verification of what was written, against reading the lines and hashing each once. CPU is the whole process's.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import uvloop

from orchestrator.evidence.audit.log import AuditLog
from orchestrator.evidence.audit.note import NoteKey
from orchestrator.evidence.audit.record import FIRST_PREV, AuditEvent, prepare
from orchestrator.evidence.audit.segments import lines_of, segments_of
from orchestrator.evidence.audit.verify import verify

RECORDS = 100_000
IN_FLIGHT = 100
SINGLE = 100
TURNS = 5
OUTPUT = Path("build/bench/audit.json")
Figure = dict[str, object]


def event(number: int) -> AuditEvent:
    return AuditEvent(
        kind="token.issued",
        at_ns=1_800_000_000_000_000_000 + number,
        actor="hmac-sha256:" + "a" * 64,
        workflow="release",
        commit="c" * 40,
        environment="prod",
        outcome="allow",
        job_id=f"dispatch.{number // 10:032x}.1",
        trace_id=f"{number // 10:032x}",
        data={
            "audience": "sts.amazonaws.com",
            "jti": f"{number:032x}",
            "rule": "prod/app-release",
            "expires_at": 1_800_000_300,
            "subject": "hmac-sha256:" + "b" * 64,
            "bundle": "sha256:" + "d" * 64,
        },
        journal_seq=number,
    )


async def many(log: AuditLog) -> tuple[float, float]:
    """CPU and wall seconds of all records, `IN_FLIGHT` at a time."""
    numbers = iter(range(1, RECORDS + 1))

    async def worker() -> None:
        for number in numbers:
            await log.submit([event(number)])

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return time.process_time() - cpu, time.perf_counter() - wall


def many_floor(folder: Path, lines: Sequence[bytes]) -> tuple[float, float]:
    descriptor = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, len(lines), IN_FLIGHT):
        group = lines[start : start + IN_FLIGHT]
        for line in group:
            sha256(line).digest()
        os.write(descriptor, b"".join(group))
        os.fdatasync(descriptor)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    os.close(descriptor)
    return cpu, wall


async def single(log: AuditLog, first: int, waits: list[float]) -> float:
    cpu = time.process_time()
    for number in range(first, first + SINGLE):
        asked = time.perf_counter()
        await log.submit([event(number)])
        waits.append(time.perf_counter() - asked)
    return time.process_time() - cpu


def single_floor(folder: Path, line: bytes, waits: list[float]) -> float:
    descriptor = os.open(folder / "floor", os.O_WRONLY | os.O_APPEND)
    cpu = time.process_time()
    for _ in range(SINGLE):
        asked = time.perf_counter()
        sha256(line).digest()
        os.write(descriptor, line)
        os.fdatasync(descriptor)
        waits.append(time.perf_counter() - asked)
    cpu = time.process_time() - cpu
    os.close(descriptor)
    return cpu


def verified(folder: Path, key: NoteKey) -> tuple[float, int]:
    """CPU seconds and records of an offline verification."""
    began = time.process_time()
    report = verify(folder, key.verifier)
    took = time.process_time() - began
    assert report.ok, report
    return took, report.records


def read_and_hashed(folder: Path) -> float:
    began = time.process_time()
    for segment in segments_of(folder):
        for line in lines_of(segment.path):
            sha256(line).digest()
    return time.process_time() - began


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]


def compared(ours: float, floor: float, unit: str) -> Figure:
    return {"ours": ours, "floor": floor, "ratio": ours / floor, "unit": unit}


async def reopened(folder: Path, key: NoteKey) -> float:
    began = time.perf_counter()
    log = await AuditLog.open(folder, key)
    took = time.perf_counter() - began
    await log.close()
    return took


def main() -> None:
    key = NoteKey.generate("ci.example/audit")
    lines = [prepare(event(number)).line(number, FIRST_PREV)[0] + b"\n" for number in range(1, RECORDS + 1)]
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folder = Path(name)
        log = runner.run(AuditLog.open(folder / "audit", key))
        cpu, wall = runner.run(many(log))
        floor_cpu, floor_wall = many_floor(folder, lines)
        waits: list[float] = []
        floor_waits: list[float] = []
        single_cpu = floor_single_cpu = 0.0
        for turn in range(TURNS):  # by turns, so that a disk busy with other work is unfair to both alike
            floor_single_cpu += single_floor(folder, lines[0], floor_waits)
            single_cpu += runner.run(single(log, RECORDS + 1 + turn * SINGLE, waits))
        runner.run(log.close())
        checks = [verified(folder / "audit", key) for _ in range(3)]
        took, records = min(checks)
        floor_took = min(read_and_hashed(folder / "audit") for _ in range(3))
        start = runner.run(reopened(folder / "audit", key))
        size = sum(path.stat().st_size for path in (folder / "audit").glob("*.jsonl"))
    count = TURNS * SINGLE
    figures: dict[str, Figure] = {
        "audit_cpu_per_record": compared(cpu / RECORDS * 1e6, floor_cpu / RECORDS * 1e6, "microseconds of CPU"),
        "audit_records_per_second": compared(RECORDS / wall, RECORDS / floor_wall, "records per second"),
        "audit_single_cpu_per_record": compared(
            single_cpu / count * 1e6, floor_single_cpu / count * 1e6, "microseconds of CPU"
        ),
        "audit_single_write_p50": compared(percentile(waits, 0.5) * 1e6, percentile(floor_waits, 0.5) * 1e6, "us"),
        "audit_single_write_p99": compared(percentile(waits, 0.99) * 1e6, percentile(floor_waits, 0.99) * 1e6, "us"),
        "audit_verify_records_per_cpu_second": compared(records / took, records / floor_took, "records per second"),
        "audit_start": {"ours": start * 1e3, "floor": None, "ratio": None, "unit": "ms"},
    }
    for figure, values in figures.items():
        floor = "          -" if values["floor"] is None else f"{values['floor']:>11.1f}"
        ratio = "   -" if values["ratio"] is None else f"{values['ratio']:.2f}"
        sys.stdout.write(f"{figure:36} ours {values['ours']:>11.1f}  floor {floor}  ratio {ratio}  {values['unit']}\n")
    sys.stdout.write(f"{records} records, {size / records:.0f} bytes each\n")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
