"""After a restart: every unfinished job stands where its facts say; nothing else is remembered."""

from __future__ import annotations

from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import Journal
from orchestrator.model.events import DaemonRestarted
from orchestrator.model.record import fold


async def recover(journal: Journal, engine: Engine, instance: str) -> int:
    """Hand every unfinished job of the journal to the engine; returns how many there were.

    Each gets a DaemonRestarted fact first, so that its trace shows the gap instead of job time.

    Raises:
        TryAgainError: the journal cannot be written; the daemon must not start.
    """
    histories = await journal.live()
    for facts in histories:
        last = facts[-1]
        await journal.append([(last.job_id, DaemonRestarted(instance, last.at_ns))])
        engine.adopt(fold(facts))
    return len(histories)
