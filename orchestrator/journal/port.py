"""What readers need from a journal beyond the engine's port: lists of jobs, a feed, the trace outbox."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.lifecycle.ports import Journal
from orchestrator.model.events import Event, Fact
from orchestrator.model.job import JobId
from orchestrator.model.phase import Phase


@dataclass(frozen=True, slots=True)
class JobSummary:
    """One line of a job list. Times are Unix nanoseconds, 0 for *not yet*; `result` is empty until the end."""

    job_id: JobId
    name: str
    pool: str
    pipeline: str
    caller_id: str
    phase: Phase
    offered_at_ns: int
    finished_at_ns: int = 0
    result: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Newest first. `after` is the `job_id` of the last line of the page before; empty filters match all."""

    phase: str = ""
    result: str = ""
    pool: str = ""
    pipeline: str = ""
    caller_id: str = ""
    after: str = ""
    limit: int = 50


STRETCH = 20_000
"""Numbers that one look back goes over at most: facts of other kinds lie between those that are wanted."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Facts, newest first. All that are wanted and have a number from `floor` on are among them. `names` are those of
    their jobs; one that the platform chose stands there only when it is over."""

    facts: Sequence[Fact]
    floor: int
    names: Mapping[JobId, str]


class JournalReader(Journal, Protocol):
    """The engine's journal plus what the server and telemetry read."""

    async def jobs(self, query: JobQuery) -> Sequence[JobSummary]: ...

    def subscribe(self, feed: Callable[[Sequence[Fact]], None]) -> Callable[[], None]:
        """Call `feed` on the event loop with each batch of facts after it is durable; returns *unsubscribe*."""
        ...

    async def facts_before(self, seq: int, kinds: Collection[type[Event]], limit: int) -> Stretch:
        """The last facts before `seq` that are of these kinds: `limit` at most, and fewer when they lie far apart."""
        ...

    async def pending_traces(self, limit: int) -> Sequence[JobId]:
        """Finished jobs whose trace no exporter has confirmed yet, oldest first."""
        ...

    async def trace_exported(self, job_ids: Sequence[JobId]) -> None:
        """Take these jobs out of the outbox; called on the exporter's own success only."""
        ...
