"""One line of the live list for a job, from its record or from the one line that the journal has of it. Pure."""

from __future__ import annotations

from typing import Any

from orchestrator.journal.port import JobSummary
from orchestrator.lifecycle.why import why
from orchestrator.model.job import JobKey
from orchestrator.model.record import Record
from orchestrator.server.views import timestamp


def row_of(record: Record) -> dict[str, Any]:
    """A job by its record; see `page.shapes.JobRow`."""
    spec, key, outcome, wait = record.offer.spec, record.offer.key, record.outcome, record.wait
    return {
        "id": record.id,
        "name": spec.name,
        "pool": spec.pool,
        "source": key.source,
        "pipeline": spec.pipeline,
        "attempt": key.attempt,
        "phase": record.phase.value,
        "wait": {"reason": wait.reason.value, "detail": wait.detail} if wait and not outcome else None,
        "why": why(record).sentence,
        "result": outcome.result.value if outcome else None,
        "reason": outcome.reason.value if outcome else None,
        "offered_at": timestamp(record.offered_at_ns),
        "since": timestamp(record.phase_since_ns),
        "finished_at": timestamp(record.finished_at_ns),
        "runner": record.runner,
    }


def row_of_summary(line: JobSummary) -> dict[str, Any]:
    """A finished job by its line: why it ended in one word, its runner not known any more."""
    key = JobKey.parse(line.job_id)
    finished_at = timestamp(line.finished_at_ns)
    return {
        "id": line.job_id,
        "name": line.name,
        "pool": line.pool,
        "source": key.source,
        "pipeline": line.pipeline,
        "attempt": key.attempt,
        "phase": line.phase.value,
        "wait": None,
        "why": "",
        "result": line.result or None,
        "reason": line.reason or None,
        "offered_at": timestamp(line.offered_at_ns),
        "since": finished_at,
        "finished_at": finished_at,
        "runner": None,
    }
