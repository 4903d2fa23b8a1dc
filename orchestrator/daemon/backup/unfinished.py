"""Jobs that an older journal would start again. What began after the backup is unknown, and none may run twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from orchestrator.daemon.clock import SystemClock
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.events import Fact, JobCancelRequested, JobEnded
from orchestrator.model.job import JobId

WHO: Final = "restore"


async def end_unfinished(journal: Path, made_at: str) -> list[JobId]:
    """Have each job that was not at its end cancelled by the daemon's next start; returns which.

    Raises:
        OrchestratorError: the journal cannot be opened or written.
    """
    why = f"the daemon's state was put back as it was at {made_at}; the job may have run since"
    opened = await SqliteJournal.open(journal, SystemClock())
    try:
        jobs = [facts[0].job_id for facts in await opened.live() if not _ended(facts)]
        for job_id in jobs:
            await opened.append([(job_id, JobCancelRequested(WHO, why))])
    finally:
        await opened.close()
    return jobs


def _ended(facts: Sequence[Fact]) -> bool:
    return any(isinstance(fact.event, JobEnded | JobCancelRequested) for fact in facts)
