"""After a restart: every unfinished job stands where its facts say; nothing else is remembered."""

from __future__ import annotations

import logging

from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import Journal
from orchestrator.model.events import DaemonRestarted, Event
from orchestrator.model.job import JobId
from orchestrator.model.phase import IllegalMoveError
from orchestrator.model.record import MissingOfferError, Record, fold

_log = logging.getLogger(__name__)

_GROUP = 1000
"""Jobs whose restart becomes durable at once."""


async def recover(journal: Journal, engine: Engine, instance: str) -> int:
    """Hand every unfinished job of the journal to the engine; returns how many there were.

    Each gets a DaemonRestarted fact first, so that its trace shows the gap instead of job time. A job whose
    facts contradict each other is left out and logged: nobody can say what it may still do, and it must not
    hold up the others. Its runner is an orphan for the sweep.

    Raises:
        TryAgainError: the journal cannot be written; the daemon must not start.
    """
    records: list[Record] = []
    notes: list[tuple[JobId, Event]] = []
    for facts in await journal.live():
        last = facts[-1]
        try:
            records.append(fold(facts))
        except (IllegalMoveError, MissingOfferError) as error:
            _log.error("job %s is left out, its facts contradict each other: %s", last.job_id, error)
            continue
        notes.append((last.job_id, DaemonRestarted(instance, last.at_ns)))
    for start in range(0, len(notes), _GROUP):
        await journal.append(notes[start : start + _GROUP])
    for record in records:
        engine.adopt(record)
    return len(records)
