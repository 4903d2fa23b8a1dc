"""When a message is tried again, and how long a failing endpoint is left in peace. Pure.

Source: Standard Webhooks 1.0.0, *Deliverability and reliability*: its schedule, from 5 seconds to a day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

DELAYS: Sequence[float] = (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
"""Seconds from one try of a message to its next; after the last one it is given up."""

JITTER = 0.2
"""The most by which a delay grows, as a part of it, so that not all come back at one moment."""

LONGEST_PAUSE_SECONDS = 300.0
"""A failing endpoint gets one message at least this often, as long as one is due: healed, it is noticed soon."""

LONGEST_WISH_SECONDS = 3600.0
"""An endpoint's own `Retry-After` is followed up to this."""

SECOND = 1_000_000_000

LONGEST_DELAY_NS = int(max(DELAYS) * (1 + JITTER)) * SECOND
"""No message is put off for longer."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`chance` gives a number from 0 up to 1."""

    chance: Callable[[], float]
    delays: Sequence[float] = DELAYS

    def retry_ns(self, attempts: int) -> int | None:
        """From the failed try number `attempts` (from 1) to the next; None: there is none."""
        if attempts > len(self.delays):
            return None
        return self._spread(self.delays[attempts - 1])

    def pause_ns(self, failures: int, wish_seconds: float | None) -> int:
        """How long nothing goes to an endpoint that failed `failures` times in a row (from 1)."""
        seconds = min(self.delays[min(failures, len(self.delays)) - 1], LONGEST_PAUSE_SECONDS)
        return max(self._spread(seconds), int(min(wish_seconds or 0.0, LONGEST_WISH_SECONDS) * SECOND))

    def _spread(self, seconds: float) -> int:
        return int(seconds * (1 + JITTER * self.chance()) * SECOND)
