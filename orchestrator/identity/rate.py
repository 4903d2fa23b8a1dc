"""A token bucket for each key, in bounded memory. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

_MAX_BUCKETS: Final = 100_000


class RateLimit:
    """`burst` at once, then `per_second` on average, for each key. `monotonic` gives seconds."""

    def __init__(self, *, per_second: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._monotonic = monotonic
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable) -> float:
        """0 when one may pass now; else the seconds until one may, and nothing is taken."""
        now = self._monotonic()
        level, at = self._buckets.get(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_second)
        if level < 1:
            return (1 - level) / self._per_second
        if key not in self._buckets and len(self._buckets) >= _MAX_BUCKETS:
            self._forget_full(now)
            if len(self._buckets) >= _MAX_BUCKETS:
                return self._burst / self._per_second
        self._buckets[key] = (level - 1, now)
        return 0.0

    def _forget_full(self, now: float) -> None:
        """A bucket that is full again is as good as none."""
        self._buckets = {
            key: (level, at)
            for key, (level, at) in self._buckets.items()
            if level + (now - at) * self._per_second < self._burst
        }
