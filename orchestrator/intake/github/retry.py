"""The one rule for trying again: by the family of the error and by what repeating the request may do.

429 and limits, 5xx but 501, and failures of the connection pass; `answers` makes the errors that say so. A wait that
GitHub asks for is obeyed; one longer than `LONGEST_PATIENCE` is the caller's, who can show it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from orchestrator.intake.github.connection import Timing
from orchestrator.intake.github.errors import RateLimitedError, UnavailableError
from orchestrator.intake.github.scale_sets.protocol import Repeat

ATTEMPTS: Final = 5
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 30.0
LONGEST_PATIENCE: Final = 30.0
"""Seconds; a longer wait that GitHub asks for is handed on as the error."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how fast. `told` hears of each wait, in seconds, before it."""

    timing: Timing
    told: Callable[[float], None]
    attempts: int = ATTEMPTS

    async def run(self, repeat: Repeat, once: Callable[[], Awaitable[T]]) -> T:
        """The result of `once`, tried again as `repeat` allows; otherwise its last error."""
        return await AsyncRetrying(
            retry=retry_if_exception(lambda error: may_repeat(error, repeat)),
            stop=stop_after_attempt(self.attempts),
            wait=self._wait,
            sleep=self.timing.sleep,
            before_sleep=self._before,
            reraise=True,
        )(once)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_seconds if isinstance(error, RateLimitedError | UnavailableError) else None
        chance = self.timing.chance()
        if asked is not None:
            return asked * (1 + chance / 10)  # those who wait for the same moment should not come at once
        grown = FIRST_WAIT * float(2 ** (state.attempt_number - 1))
        return min(grown, LONGEST_WAIT) * (0.5 + chance / 2)

    def _before(self, state: RetryCallState) -> None:
        self.told(state.upcoming_sleep)


def may_repeat(error: BaseException, repeat: Repeat) -> bool:
    """Whether the request that failed with `error` may be sent again, soon."""
    match error:
        case RateLimitedError() | UnavailableError() if repeat is Repeat.NEVER:
            return False
        case RateLimitedError():
            return (error.retry_after_seconds or 0) <= LONGEST_PATIENCE
        case UnavailableError():
            harmless = repeat is Repeat.FREELY or error.unsent
            return harmless and (error.retry_after_seconds or 0) <= LONGEST_PATIENCE
        case _:
            return False
