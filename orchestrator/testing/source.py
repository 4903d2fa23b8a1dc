"""A source that remembers what was reported to it."""

from __future__ import annotations

from orchestrator.model.job import JobId
from orchestrator.model.outcome import Outcome
from orchestrator.model.record import Record
from orchestrator.testing.faults import FaultPlan, raise_for


class MemorySource:
    """`reports` holds every report that arrived, in order; a report may come twice."""

    def __init__(self) -> None:
        self.faults = FaultPlan()
        self.reports: list[tuple[JobId, Outcome]] = []

    async def report(self, record: Record) -> None:
        fault = self.faults.next()
        assert record.outcome is not None
        if fault.value != "failed":
            self.reports.append((record.id, record.outcome))
        raise_for(fault)
