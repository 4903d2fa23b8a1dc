"""How far a long copy is, on standard error, and only for a person who waits at a terminal."""

from __future__ import annotations

import sys
import time
from typing import Final

_PERIOD_SECONDS: Final = 0.5
_MEGA: Final = 1_000_000


class Progress:
    """Called with bytes done and bytes in all, 0 where that is unknown; rewrites one line twice a second."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._terminal and now - self._shown >= _PERIOD_SECONDS:
            self._shown = now
            of = f" of {total / _MEGA:.1f}" if total else ""
            sys.stderr.write(f"\r{self._verb} {done / _MEGA:.1f}{of} MB\x1b[K\r")
            sys.stderr.flush()
