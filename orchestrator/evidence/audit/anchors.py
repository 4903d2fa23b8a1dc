"""Handing checkpoints to places that this machine cannot change: what keeps a rewritten log from passing as true.

An anchor is one such place. `Anchoring` brings it the newest checkpoint, again and again until it is accepted; while
a place is away only the newest waits, since each checkpoint vouches for all records before it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.evidence.audit.checkpoint import Checkpoint
from orchestrator.lifecycle.ports import Clock

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 60.0
LONGEST_WISH_SECONDS: Final = 300.0
"""Most that a place's own Retry-After can put a try off."""

_log = structlog.get_logger(__name__)


class Anchor(Protocol):
    """A place that keeps checkpoints. `name` is for metrics and messages and holds no secret."""

    @property
    def name(self) -> str: ...

    async def put(self, checkpoint: Checkpoint) -> None:
        """Return once the place has accepted it for good, within a bounded time. Putting one again is no error.

        Raises:
            TryAgainError: reason `anchor_unreachable` (it may have been accepted), `anchor_refused`, or
                `anchor_misconfigured` (a file that it needs cannot be used). Nothing is given up for good: what is
                wrong may be mended while the daemon runs.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class AnchorState:
    """How one place stands, for readiness, metrics and the rule that no new job begins without an anchor.

    `size` and `accepted_ns` are of the last checkpoint that it accepted since the daemon's start (0: none yet).
    `waiting_ns` is when the oldest checkpoint that it has not accepted was offered, 0 if it has accepted all; times are
    Unix nanoseconds. `failures` counts failed tries; `error` is the last one's text, empty after a success.
    """

    name: str
    size: int = 0
    accepted_ns: int = 0
    waiting_ns: int = 0
    failures: int = 0
    error: str = ""


def unaccepted_ns(states: Sequence[AnchorState]) -> int:
    """Since when no place has accepted all that was offered (Unix nanoseconds); 0 if one has, or there is no place."""
    if any(not state.waiting_ns for state in states):
        return 0
    return max((state.waiting_ns for state in states), default=0)


class Anchoring:
    """Keeps one place up to date. `offer` may be given to `AuditLog.subscribe`; `run` works until it is cancelled."""

    def __init__(self, anchor: Anchor, clock: Clock) -> None:
        self._anchor = anchor
        self._clock = clock
        self._newest: Checkpoint | None = None
        self._newest_ns = 0
        self._offered = asyncio.Event()
        self._accepted = asyncio.Event()
        self._accepted.set()
        self.state = AnchorState(anchor.name)

    def offer(self, checkpoint: Checkpoint) -> None:
        """Have it brought there; it takes the place of one that still waits."""
        self._newest, self._newest_ns = checkpoint, self._clock.now_ns()
        self.state = replace(self.state, waiting_ns=self.state.waiting_ns or self._newest_ns)
        self._accepted.clear()
        self._offered.set()

    async def run(self) -> None:
        """Bring what is offered, with growing pauses while the place does not accept; closes the anchor at the end."""
        try:
            while True:
                await self._offered.wait()
                self._offered.clear()
                await self._bring()
        finally:
            await self._anchor.close()

    async def accepted(self, seconds: float) -> bool:
        """Wait, at most so long, until all that was offered is accepted; whether it is. For a clean stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._accepted.wait()
        except TimeoutError:
            return False
        return True

    async def _bring(self) -> None:
        pause = FIRST_RETRY_SECONDS
        while (checkpoint := self._newest) is not None:
            try:
                await self._anchor.put(checkpoint)
            except OrchestratorError as error:
                self._failed(error.diagnostics())
                wish = (error.retry_after_seconds if isinstance(error, TryAgainError) else None) or 0.0
            except Exception as error:  # noqa: BLE001 -- a defect of one place must not end the others, and must show
                _log.exception("audit_anchor_failed", anchor=self._anchor.name)
                self._failed(f"{type(error).__name__}: report this defect")
                wish = 0.0
            else:
                self._took(checkpoint)
                continue
            jittered = pause * random.uniform(0.8, 1.2)  # noqa: S311 -- no secret
            await self._clock.sleep(max(jittered, min(wish, LONGEST_WISH_SECONDS)))
            pause = min(pause * 2, LONGEST_RETRY_SECONDS)

    def _took(self, checkpoint: Checkpoint) -> None:
        all_of_it = self._newest is checkpoint
        if all_of_it:
            self._newest = None
            self._offered.clear()
            self._accepted.set()
        self.state = replace(
            self.state,
            size=checkpoint.size,
            accepted_ns=self._clock.now_ns(),
            waiting_ns=0 if all_of_it else self._newest_ns,
            error="",
        )

    def _failed(self, text: str) -> None:
        if text != self.state.error:
            _log.warning("audit_anchor_refused", anchor=self._anchor.name, error=text)
        self.state = replace(self.state, failures=self.state.failures + 1, error=text)
