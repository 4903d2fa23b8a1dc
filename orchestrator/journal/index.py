"""The line a job has in lists, and what is kept of it for ever: pure folds over facts.

Every implementation of the journal shares these, so that they cannot differ in what they list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import GiveUpError
from orchestrator.journal.port import JobQuery, JobSummary
from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import MOVES, MOVING_EVENTS, Phase

MAX_PAGE = 500
"""Most lines one page of a job list may have; a larger `limit` is cut to this."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What one call of `compact` did: jobs cut to one line, jobs forgotten, unexported traces given up."""

    compacted: int = 0
    forgotten: int = 0
    traces_dropped: int = 0


def unknown_job(job_id: JobId) -> GiveUpError:
    """The answer to a fact about a job that the journal holds no offer of."""
    return GiveUpError(
        f"the journal has no offer of job {job_id}; a job's first fact must be its offer",
        reason="job_unknown",
        fix="offer the job again",
    )


def begin(job_id: JobId, offer: events.JobOffered, at_ns: int) -> JobSummary:
    """The line of a job that was just offered."""
    spec = offer.offer.spec
    return JobSummary(
        job_id=job_id,
        name=spec.name,
        pool=spec.pool,
        pipeline=spec.pipeline,
        caller_id=offer.offer.caller.id,
        phase=Phase.QUEUED,
        offered_at_ns=at_ns,
    )


def follow(summary: JobSummary, event: events.Event, at_ns: int) -> JobSummary:
    """The line after one more event; the same object when the event does not show on it.

    Legality is the engine's matter: a move that the phase table does not allow leaves the phase alone here,
    so that a list can be shown of a journal that no engine would accept.
    """
    kind = type(event)
    if kind not in MOVING_EVENTS:
        return summary
    phase = MOVES[summary.phase].get(kind, summary.phase)
    if isinstance(event, events.JobEnded):
        outcome = event.outcome
        return replace(summary, phase=phase, result=outcome.result.value, reason=outcome.reason.value)
    if isinstance(event, events.JobFinished):
        return replace(summary, phase=Phase.FINISHED, finished_at_ns=at_ns)
    return summary if phase is summary.phase else replace(summary, phase=phase)


def closes(event: events.Event) -> bool:
    """Whether the job needs no recovery after this event."""
    return isinstance(event, events.JobFinished | events.JobCompacted)


def compacted(facts: Sequence[Fact]) -> events.JobCompacted:
    """All that is kept of a finished job, from its facts in order.

    The fingerprint stays, so that a late replay of the same dispatch call is still recognised.
    """
    name = pool = fingerprint = ""
    offered = finished = 0
    outcome = Outcome(Result.ERROR, EndReason.RUNNER_LOST, "the journal holds no outcome of this job")
    for fact in facts:
        match fact.event:
            case events.JobOffered(offer) if not offered:
                name, pool, fingerprint = offer.spec.name, offer.spec.pool, offer.fingerprint
                offered = fact.at_ns
            case events.JobEnded(ended):
                outcome = ended
            case events.JobFinished():
                finished = fact.at_ns
            case events.JobCompacted():
                return fact.event
            case _:
                pass
    return events.JobCompacted(name, pool, outcome, offered, finished, fingerprint)


def page_size(query: JobQuery) -> int:
    """The lines a page of this query may have: at least 1, at most `MAX_PAGE`."""
    return max(1, min(query.limit, MAX_PAGE))


def matches(summary: JobSummary, query: JobQuery) -> bool:
    """Whether a line passes the query's filters."""
    return (
        (not query.phase or summary.phase.value == query.phase)
        and (not query.result or summary.result == query.result)
        and (not query.pool or summary.pool == query.pool)
        and (not query.pipeline or summary.pipeline == query.pipeline)
        and (not query.caller_id or summary.caller_id == query.caller_id)
    )
