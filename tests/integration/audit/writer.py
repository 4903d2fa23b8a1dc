"""Writes to the log in its folder until it is killed: `writer.py <folder>`. Prints the `journal_seq` of each confirmed
record, one a line, once it is confirmed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from orchestrator.evidence.audit.log import AuditLog
from orchestrator.evidence.audit.note import open_note_key
from orchestrator.evidence.audit.record import AuditEvent
from orchestrator.evidence.audit.store import Pace


async def main(folder: Path) -> None:
    key = open_note_key(folder / "audit.key", "ci.example/audit")
    log = await AuditLog.open(folder / "audit", key, pace=Pace(checkpoint_records=20, segment_bytes=20_000))
    number = log.last_journal_seq
    os.write(1, f"from {number}\n".encode())

    async def confirmed(one: int) -> None:
        told = AuditEvent(
            kind="job.admitted",
            at_ns=one,
            actor="policy",
            workflow="",
            commit="",
            environment="",
            outcome="allow",
            data={"n": one},
            journal_seq=one,
        )
        await log.submit([told])
        os.write(1, f"{one}\n".encode())

    while True:
        await asyncio.gather(*(confirmed(number := number + 1) for _ in range(8)))


asyncio.run(main(Path(sys.argv[1])))
