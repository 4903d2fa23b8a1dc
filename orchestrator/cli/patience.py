"""How long to go on trying: exponential back-off under one bound, reset by each success."""

from __future__ import annotations

import time
from collections.abc import Callable


class Patience:
    """Keeps count of failures in a row. `seconds` bounds the time from the first of them to giving up."""

    def __init__(
        self,
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep or time.sleep
        self._since: float | None = None
        self._next = 0.1

    @property
    def tried(self) -> bool:
        """Whether something has failed since the last success."""
        return self._since is not None

    def succeeded(self) -> None:
        self._since, self._next = None, 0.1

    def failed(self, error: Exception, wish_seconds: float | None = None) -> None:
        """Wait before the next try, for as long as the other side wishes if it said so.

        Raises:
            `error` itself, when the wait would end after the bound.
        """
        now = self._clock()
        self._since = now if self._since is None else self._since
        pause = self._next if wish_seconds is None else max(0.05, wish_seconds)
        if now + pause > self._since + self._seconds:
            raise error
        self._next = min(self._next * 2, 2.0)
        self._sleep(pause)
