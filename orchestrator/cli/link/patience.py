"""How long to go on trying: exponential back-off under one bound, reset by each success."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.cli.output import note

_WONDER_SECONDS = 1.0


class Patience:
    """Keeps count of failures in a row. `seconds` bounds the time from the first of them to giving up. `tell` gets
    one line in a row of failures, as soon as the wait is long enough for a person to wonder."""

    def __init__(
        self,
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        tell: Callable[[str], None] = note,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep or time.sleep
        self._tell = tell
        self._told = False
        self._since: float | None = None
        self._next = 0.1

    @property
    def tried(self) -> bool:
        """Whether something has failed since the last success."""
        return self._since is not None

    def succeeded(self) -> None:
        self._since, self._next, self._told = None, 0.1, False

    def failed(self, error: Exception, wish_seconds: float | None = None, *, expected: bool = False) -> None:
        """Wait before the next try, for as long as the other side wishes if it said so. Nothing is told of what was to
        be `expected`.

        Raises:
            `error` itself, when the wait would end after the bound.
        """
        now = self._clock()
        self._since = now if self._since is None else self._since
        pause = self._next if wish_seconds is None else max(0.05, wish_seconds)
        if now + pause > self._since + self._seconds:
            raise error
        self._next = min(self._next * 2, 2.0)
        if now + pause >= self._since + _WONDER_SECONDS and not self._told and not expected:
            self._told = True
            self._tell(f"{str(error).partition(chr(10))[0]}; trying again for up to {self._seconds:.0f} s")
        self._sleep(pause)
