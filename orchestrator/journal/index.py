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
from orchestrator.model.platform import PlatformJob

MAX_PAGE = 500
"""Most lines one page of a job list may have; a larger `limit` is cut to this."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What one call of `compact` did: jobs cut to one line, jobs forgotten, unexported traces given up."""

    compacted: int = 0
    forgotten: int = 0
    traces_dropped: int = 0

    def __add__(self, other: Compaction) -> Compaction:
        traces = self.traces_dropped + other.traces_dropped
        return Compaction(self.compacted + other.compacted, self.forgotten + other.forgotten, traces)


def unknown_job(job_id: JobId) -> GiveUpError:
    """The answer to a fact about a job that the journal holds no offer of."""
    return GiveUpError(
        f"the journal has no offer of job {job_id}; a job's first fact must be its offer",
        reason="job_unknown",
        fix="offer the job again",
    )


def known_job(job_id: JobId) -> GiveUpError:
    """The answer to an offer of a job that the journal has already, finished or not."""
    return GiveUpError(f"the journal has job {job_id} already; a job is offered once", reason="job_known")


def damaged(job_id: JobId) -> GiveUpError:
    """The answer when a job's stored facts are not what was stored."""
    return GiveUpError(
        f"the journal's facts of job {job_id} are damaged",
        reason="journal_corrupt",
        fix="stop the daemon, keep a copy of the journal's files and put the last good backup in their place",
    )


class Line:
    """A job's line while it changes: its `JobSummary` at the offer, and what later facts changed of it.

    Mutable and small because the journal keeps one for each unfinished job and touches it with every fact.
    Legality is the engine's matter: a move that the phase table does not allow leaves the phase alone here,
    so that a list can be shown of a journal that no engine would accept.
    """

    __slots__ = ("at_ns", "finished_at_ns", "number", "offered", "open", "phase", "platform_key", "reason", "result")

    def __init__(self, number: int, offered: JobSummary, at_ns: int, *, is_open: bool = True) -> None:
        self.number = number
        self.offered = offered
        self.at_ns = at_ns
        self.open = is_open
        self.phase = offered.phase
        self.result = offered.result
        self.reason = offered.reason
        self.finished_at_ns = offered.finished_at_ns
        self.platform_key = ""

    @classmethod
    def begin(cls, number: int, job_id: JobId, event: events.JobOffered, at_ns: int) -> Line:
        """The line of a job that was just offered; `number` orders jobs by their offers."""
        spec = event.offer.spec
        caller_id = event.offer.caller.id
        offered = JobSummary(job_id, spec.name, spec.pool, spec.pipeline, caller_id, Phase.QUEUED, at_ns)
        return cls(number, offered, at_ns)

    @classmethod
    def of_compacted(cls, number: int, job_id: JobId, event: events.JobCompacted, at_ns: int) -> Line:
        """The line of a job of which only the compacted fact is left."""
        kept = JobSummary(
            job_id,
            event.name,
            event.pool,
            event.pipeline,
            event.caller_id,
            Phase.FINISHED,
            event.offered_at_ns,
            event.finished_at_ns,
            event.outcome.result.value,
            event.outcome.reason.value,
        )
        line = cls(number, kept, at_ns, is_open=False)
        line.platform_key = event.platform_key
        return line

    def copy(self) -> Line:
        twin = Line(self.number, self.offered, self.at_ns, is_open=self.open)
        twin.phase, twin.result, twin.reason = self.phase, self.result, self.reason
        twin.finished_at_ns = self.finished_at_ns
        twin.platform_key = self.platform_key
        return twin

    def follow(self, event: events.Event, at_ns: int) -> None:
        """Take one more event in; `at_ns` is its stamped time."""
        self.at_ns = at_ns
        kind = type(event)
        if kind not in MOVING_EVENTS:
            if isinstance(event, events.PlatformJobNamed) and not self.platform_key:
                self._named(event.job)
            return
        self.phase = MOVES[self.phase].get(kind, self.phase)
        if isinstance(event, events.JobEnded):
            self.result = event.outcome.result.value
            self.reason = event.outcome.reason.value
        elif isinstance(event, events.JobFinished) and self.open:
            self.open = False
            self.phase = Phase.FINISHED
            self.finished_at_ns = at_ns

    def _named(self, job: PlatformJob) -> None:
        self.platform_key = job.key
        self.offered = replace(self.offered, name=job.name, pipeline=job.pipeline, caller_id=job.caller.id)

    def summary(self) -> JobSummary:
        return replace(
            self.offered,
            phase=self.phase,
            finished_at_ns=self.finished_at_ns,
            result=self.result,
            reason=self.reason,
        )


def line_of(number: int, facts: Sequence[Fact]) -> Line:
    """A job's line from all its facts in order.

    Raises:
        GiveUpError: reason `journal_corrupt` when they do not begin with an offer or a compacted fact.
    """
    first = facts[0]
    if isinstance(first.event, events.JobCompacted):
        return Line.of_compacted(number, first.job_id, first.event, first.at_ns)
    if not isinstance(first.event, events.JobOffered):
        raise damaged(first.job_id)
    line = Line.begin(number, first.job_id, first.event, first.at_ns)
    for fact in facts:
        line.follow(fact.event, fact.at_ns)
    return line


def compacted(facts: Sequence[Fact]) -> events.JobCompacted:
    """All that is kept of a finished job, from its facts in order.

    The fingerprint stays, so that a late replay of the same dispatch call is still recognised, and the platform's
    key, so that no other runner can be given the same job.
    """
    name = pool = fingerprint = pipeline = caller_id = key = ""
    offered = finished = 0
    outcome = Outcome(Result.ERROR, EndReason.RUNNER_LOST, "the journal holds no outcome of this job")
    for fact in facts:
        match fact.event:
            case events.JobOffered(offer) if not offered:
                name, pool, fingerprint = offer.spec.name, offer.spec.pool, offer.fingerprint
                pipeline, caller_id = offer.spec.pipeline, offer.caller.id
                offered = fact.at_ns
            case events.PlatformJobNamed(job) if not key:
                key, name, pipeline, caller_id = job.key, job.name, job.pipeline, job.caller.id
            case events.JobEnded(ended):
                outcome = ended
            case events.JobFinished():
                finished = fact.at_ns
            case events.JobCompacted():
                return fact.event
            case _:
                pass
    return events.JobCompacted(name, pool, outcome, offered, finished, fingerprint, pipeline, caller_id, key)


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
