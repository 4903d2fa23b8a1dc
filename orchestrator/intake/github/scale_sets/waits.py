"""How long jobs waited at GitHub until a runner of ours had them, by GitHub's own clock."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from orchestrator.intake.github.scale_sets.messages import JobMessage
from orchestrator.model.job import JobId
from orchestrator.model.source import WaitCounts

BOUNDS: Final = (1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
_MOST_REMEMBERED: Final = 4096
"""Records already counted: a message comes again until it is acknowledged."""


class Waits:
    """By set. Each record counts once."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._counted: dict[JobId, None] = {}

    def saw(self, key: str, record: JobId, message: JobMessage) -> None:
        """A runner of the set got a job; without both times nothing is known of its wait."""
        queued, began = message.queued_at_ns, message.runner_assigned_at_ns
        if queued is None or began is None or record in self._counted:
            return
        self._counted[record] = None
        if len(self._counted) > _MOST_REMEMBERED:
            del self._counted[next(iter(self._counted))]
        seconds = max(began - queued, 0) / 1e9
        counts = self._counts.setdefault(key, [0] * (len(BOUNDS) + 1))
        counts[bisect_left(BOUNDS, seconds)] += 1
        self._seconds[key] = self._seconds.get(key, 0.0) + seconds

    def of(self, key: str) -> WaitCounts:
        counts = self._counts.get(key, [0] * (len(BOUNDS) + 1))
        return WaitCounts(BOUNDS, tuple(counts), self._seconds.get(key, 0.0))
