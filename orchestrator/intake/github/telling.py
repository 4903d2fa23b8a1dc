"""GitHub's word on jobs, handed to the engine: again and again while GitHub's API or the journal is away."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.intake.github.scale_sets.demand import Backoff
from orchestrator.intake.github.scale_sets.messages import JobMessage
from orchestrator.intake.github.source_config import SourceTiming
from orchestrator.intake.github.trouble import Trouble

Tell = Callable[[JobMessage], Awaitable[None]]

_log = logging.getLogger(__name__)


class Telling:
    """`trouble` is over once nothing is left that was tried in vain."""

    def __init__(self, timing: SourceTiming, trouble: Trouble, now: Callable[[], float] = time.monotonic) -> None:
        self._timing = timing
        self._trouble = trouble
        self._now = now
        self._in_vain: set[object] = set()

    async def tell(self, tell: Tell, job: JobMessage) -> None:
        """Do `tell(job)` until it works, up to the limit of the configuration. Never raises but for cancellation."""
        mine = object()
        told = False
        try:
            told = await self._insist(tell, job, mine)
        finally:
            self._in_vain.discard(mine)
            if not self._in_vain:
                (self._trouble.over if told else self._trouble.dropped)()

    async def _insist(self, tell: Tell, job: JobMessage, mine: object) -> bool:
        backoff = Backoff(self._timing.retry_first, self._timing.retry_longest)
        until = self._now() + self._timing.naming_limit
        tries = 0
        while True:
            try:
                await tell(job)
            except TryAgainError as error:
                tries += 1
                wait = wait_after(backoff, self._now(), error)
                if self._now() + wait >= until:
                    _log.error("the job of runner %s stays unknown: %s [%s]", job.runner_name, error, error.reason)
                    return False
                if tries > 1:  # once is usual: GitHub's API may be a moment behind its messages
                    self._in_vain.add(mine)
                    self._trouble.met(error)
                await asyncio.sleep(wait)
            except GiveUpError as error:  # repeating it cannot help, and others wait for their turn
                _log.warning("the job of runner %s stays unknown: %s [%s]", job.runner_name, error, error.reason)
                return False
            except Exception:  # noqa: BLE001 -- as above
                _log.exception("the job of runner %s stays unknown by an internal error", job.runner_name)
                return False
            else:
                return True


def wait_after(backoff: Backoff, now: float, error: Exception) -> float:
    """The back-off, or the other side's wish if that is longer; what cannot help is not tried often."""
    wait = backoff.failed(now, random.uniform(0.5, 1.0))  # noqa: S311 -- spreads load, hides nothing
    wish = error.retry_after_seconds if isinstance(error, TryAgainError) else None
    return max(wait, min(wish or 0.0, 3600.0))
