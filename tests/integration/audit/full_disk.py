"""Runs on a real small disk, or under a real file size limit: `full_disk.py <folder> tmpfs|limit`.

Exit code 0: all held.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from orchestrator.evidence.audit import log as log_module
from orchestrator.evidence.audit.log import AuditLog
from orchestrator.evidence.audit.note import NoteKey
from orchestrator.evidence.audit.record import AuditEvent
from orchestrator.evidence.audit.store import Pace
from orchestrator.evidence.audit.verify import verify

log_module.PROBE_SECONDS = 0.02


def event(number: int) -> AuditEvent:
    return AuditEvent(
        kind="job.admitted", at_ns=number, actor="policy", workflow="", commit="", environment="", outcome="allow",
        data={"filler": "x" * 2000}, journal_seq=number,
    )  # fmt: skip


def take_space(folder: Path, kind: str) -> None:
    if kind == "limit":
        largest = max(file.stat().st_size for file in (folder / "audit").iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 50_001, resource.RLIM_INFINITY))


def give_space(folder: Path, kind: str) -> None:
    if kind == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        (folder / "ballast").unlink()


async def main(folder: Path, kind: str) -> None:
    key = NoteKey.generate("ci.example/audit")
    if kind == "tmpfs":
        (folder / "ballast").write_bytes(b"b" * 2_000_000)
    log = await AuditLog.open(folder / "audit", key, pace=Pace(checkpoint_records=7))
    await log.submit([event(1)])
    take_space(folder, kind)
    number, waiting = 1, []
    while log.healthy:
        waiting = [log.submit([event(number := number + 1), event(number)]) for _ in range(3)]
        await asyncio.wait(waiting, timeout=0.05)
        assert number < 5000, "the disk never got full"
    assert log.problem is not None
    assert log.problem.reason == "audit_unavailable"
    confirmed = log.size
    waiting += [log.submit([event(number := number + 1)]) for _ in range(5)]
    await asyncio.wait(waiting, timeout=0.1)
    assert log.size == confirmed > 1
    report = verify(folder / "audit", key.verifier)
    assert report.ok, report
    assert report.records == confirmed, "an offline look counts what was confirmed, and nothing half written"

    give_space(folder, kind)
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
        while not log.healthy:
            await asyncio.sleep(0.005)
    await log.close()
    report = verify(folder / "audit", key.verifier)
    assert report.ok, report
    [path] = (folder / "audit").glob("*.jsonl")
    told = [json.loads(line)["journal_seq"] for line in path.read_bytes().splitlines()]
    assert list(dict.fromkeys(told)) == list(range(1, number + 1)), "in order, none left out"
    assert report.vouched == report.records == len(told)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
