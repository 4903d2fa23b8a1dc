"""The log of decisions on a real small disk, or under a real file size limit: `full_disk.py <folder> tmpfs|limit`.

Exit code 0: all held.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
import sys
import time
from pathlib import Path

from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.events import Fact, JobOffered
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.record import begin
from orchestrator.policy.decide import Answered
from orchestrator.policy.decision_log import writer
from orchestrator.policy.decision_log.reading import SegmentReader, missing_between
from orchestrator.policy.decision_log.segments import segments_of
from orchestrator.policy.decision_log.shadow import Candidate
from orchestrator.policy.decision_log.writer import Bounds, DecisionLog
from orchestrator.policy.document import Evaluation

writer._LINGER_SECONDS = 0.001
BOUNDS = Bounds(1 << 30, 1 << 62, segment_bytes=64 << 10)


def answered(number: int) -> Answered:
    offer = JobOffer(JobKey("dispatch", f"j{number}"), JobSpec("b", PoolName("p"), "x"), Caller("i", "s"))
    record = begin(Fact(offer.key.id, 1, JobOffered(offer)))
    # Random, so that it stays large.
    text = b'{"job":{"id":"%d"},"noise":"%s"}' % (number, os.urandom(10_000).hex().encode())
    decision = Decision(f"d{number}", Stage.ADMISSION, Verdict.ERROR, input_digest=digest_of(text))
    return Answered(decision, Evaluation(Verdict.ERROR, detail="x"), record, time.time_ns(), text)


def digest_of(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def fill(folder: Path, kind: str) -> None:
    if kind == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
        return
    with (folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(b"b" * 4096)


def free(folder: Path, kind: str) -> None:
    if kind == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        (folder / "ballast").unlink()


async def settled(log: DecisionLog, count: int) -> None:
    async with asyncio.timeout(20):
        while log.written + log.lost < count:
            await asyncio.sleep(0.002)


async def main(folder: Path, kind: str) -> None:
    log = DecisionLog(folder / "decisions", {}, BOUNDS, Candidate())
    number = 0

    async def offer(count: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            log.offer(answered(number))
            await settled(log, number)

    await offer(3)
    assert (log.written, log.lost, log.healthy) == (3, 0, True)
    fill(folder, kind)
    await offer(20)
    assert log.lost > 0, "the disk never got full"
    assert not log.healthy
    free(folder, kind)
    await offer(3)
    assert log.healthy
    await log.close()
    kept, findings, spans = [], [], []
    for segment in segments_of(folder / "decisions"):
        reader = SegmentReader(segment)
        kept += [entry.custom.number for entry in reader.entries()]
        findings += reader.findings
        spans.append(reader.span)
    findings += missing_between(spans)
    assert len(kept) == log.written == number - log.lost
    assert kept == sorted(kept)
    assert kept[-3:] == [number - 2, number - 1, number]
    assert {1, 2, 3} <= set(kept)
    assert findings, "what is missing is told"
    assert all("missing" in finding.what for finding in findings), findings

    if kind == "tmpfs":
        fill(folder, kind)
        refused = DecisionLog(folder / "other", {}, BOUNDS, Candidate())
        refused.offer(answered(1))
        await settled(refused, 1)
        assert refused.lost == 1, "a start on a full disk stops nothing"
        await refused.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
