"""How far a job's runner is, told to one reader between the job's facts: what is in memory only, and changes often."""

from __future__ import annotations

from typing import Final

import msgspec

from orchestrator.model.job import JobId
from orchestrator.model.journey import StageBegan
from orchestrator.server.deps import JobEngine
from orchestrator.server.views import timestamp
from orchestrator.telemetry.stages import STAGE_NAMES

LOOK_SECONDS: Final = 0.5
"""How often is looked, and so the least time between two marks. A look asks nobody and costs microseconds; a runner has
at most ten stages."""


class StageMarks:
    """Of one job, for one reader."""

    def __init__(self, engine: JobEngine, job_id: JobId) -> None:
        self._engine = engine
        self._job_id = job_id
        self._told: tuple[str, tuple[StageBegan, ...]] = ("", ())

    def news(self) -> bytes:
        """A server-sent event with all stages that are not on record yet; empty when they were told.

        It has no `id`: it is no fact, and nobody can go on from it.
        """
        record = self._engine.record(self._job_id)
        note = self._engine.under_way(record) if record is not None else None
        if note is None or (note.uid, note.stages) == self._told:
            return b""
        self._told = note.uid, note.stages
        stages = [
            {"name": STAGE_NAMES[one.stage], "began_at": timestamp(one.at_ns), "time_source": one.source.value}
            for one in note.stages
        ]
        data = {"job_id": self._job_id, "runner": note.runner, "machine": note.place.machine, "stages": stages}
        return b"event: stages\ndata: %s\n\n" % msgspec.json.encode(data)
