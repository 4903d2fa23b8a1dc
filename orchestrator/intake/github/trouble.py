"""What of a source does not work now: kept for the status, told in the log when it begins, changes, and is over."""

from __future__ import annotations

import logging
import time
from typing import Final

from orchestrator.errors import OrchestratorError
from orchestrator.model.source import Failure

_MAX_TEXT: Final = 500

_log = logging.getLogger(__name__)


class Trouble:
    """One part's. `work` is what is tried there, such as `listening to scale set default/x of GitHub source acme`.

    Only the first failure and each with another reason than the one before are told, so that what fails again and
    again fills no log.
    """

    def __init__(self, work: str) -> None:
        self._work = work
        self.failure: Failure | None = None

    def met(self, error: Exception) -> None:
        """It failed. The message of an error that is none of ours is not shown: nobody has seen to what it holds."""
        before = self.failure
        since_ns = before.since_ns if before is not None else time.time_ns()
        if isinstance(error, OrchestratorError):
            self.failure = Failure(error.reason, str(error)[:_MAX_TEXT], error.fix, since_ns)
        else:
            text = "an internal error; see the daemon's log"
            self.failure = Failure("internal_error", text, "report it with that part of the log", since_ns)
        now = self.failure
        if before is None or before.reason != now.reason:
            way_out = f"; fix: {now.fix}" if now.fix else ""
            extra = {"reason": now.reason}
            _log.warning("%s fails: %s [%s]%s", self._work, now.message, now.reason, way_out, extra=extra)

    def over(self) -> None:
        """It worked."""
        if self.failure is not None:
            seconds = max(time.time_ns() - self.failure.since_ns, 0) / 1e9
            extra = {"reason": self.failure.reason}
            _log.info("%s works again, after %.1f s [%s]", self._work, seconds, self.failure.reason, extra=extra)
            self.failure = None

    def dropped(self) -> None:
        """It was given up, and told as such: nothing is left that could work again."""
        self.failure = None


def first_failure(*troubles: Trouble) -> Failure | None:
    """Of those that fail now."""
    return next((trouble.failure for trouble in troubles if trouble.failure is not None), None)
