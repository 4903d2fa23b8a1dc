"""What a client has counted of its requests to an API of objects: times, failures and repetitions. Standard library."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

from orchestrator.model.source import WaitCounts

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of a request's time, in seconds."""

Labels = tuple[str, str, str]


class ApiCounts:
    """Since it was made. `failures` and `retries` are by verb, resource and reason; all of them words of a closed set,
    so what is kept is bounded."""

    def __init__(self) -> None:
        self.failures: Counter[Labels] = Counter()
        self.retries: Counter[Labels] = Counter()
        self._counts: dict[Labels, list[int]] = {}
        self._seconds: dict[Labels, float] = {}

    def answered(self, verb: str, resource: str, status: int, seconds: float) -> None:
        """A request has its answer's head after so long; `status` 0 means that there was none."""
        labels = (verb, resource, f"{status // 100}xx" if status else "none")
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(BOUNDS) + 1)
        counts[bisect_left(BOUNDS, seconds)] += 1
        self._seconds[labels] = self._seconds.get(labels, 0.0) + seconds

    def times(self) -> Mapping[Labels, WaitCounts]:
        """By verb, resource and class of answer (`2xx`, …, `none`)."""
        return {
            labels: WaitCounts(BOUNDS, tuple(counts), self._seconds[labels]) for labels, counts in self._counts.items()
        }
