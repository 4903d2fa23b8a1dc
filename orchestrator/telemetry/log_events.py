"""Points in time within a job, as log-based events of its trace. Pure.

OpenTelemetry is giving up span events (OTEP 4430), so these are log records that carry the trace and span
they belong to. Each has `log.record.uid`, derived from the fact, by which a receiver can drop a second copy.
"""

from __future__ import annotations

from collections import Counter

from orchestrator.model.events import Event, Fact
from orchestrator.model.job import JobId
from orchestrator.telemetry import attributes, ids
from orchestrator.telemetry.records import LogRecordData

MAX_EVENTS_PER_KIND = 512
"""Most events of one kind in one trace, so that what a job can cause never crowds out what happened to it."""


class EventLog:
    """The events of one job, in the order of its facts; `dropped` counts those beyond the bound."""

    def __init__(self, job_id: JobId) -> None:
        self.records: list[LogRecordData] = []
        self.dropped = 0
        self._job_id = job_id
        self._trace_id = ids.trace_id(job_id)
        self._seen: Counter[type[Event]] = Counter()

    def add(self, fact: Fact, span_id: str, at_ns: int) -> None:
        row = attributes.of_event(fact.event)
        if row is None:
            return
        kind = type(fact.event)
        ordinal = self._seen[kind]
        self._seen[kind] += 1
        if ordinal >= MAX_EVENTS_PER_KIND:
            self.dropped += 1
            return
        name, severity, values = row
        uid = ids.event_uid(self._job_id, name, ordinal)
        self.records.append(LogRecordData(name, at_ns, self._trace_id, span_id, uid, severity, values))
