"""Winning announced jobs, on servers (GHES) that do not assign them by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.intake.github.scale_sets.client import ActionsClient
from orchestrator.intake.github.scale_sets.demand import Envelope
from orchestrator.intake.github.scale_sets.messages import Statistics
from orchestrator.intake.github.scale_sets.session import Session
from orchestrator.intake.github.tally import Tally

_MOST_WAITING = 10_000
_AT_ONCE = 50
_WON_SECONDS = 120.0
"""How long a job that was won, and is not assigned yet, takes up room."""


class Acquirer:
    """Keeps announced jobs until there is room for them. Losing one to somebody else is ordinary."""

    def __init__(
        self, client: ActionsClient, tally: Tally, pace_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._tally = tally
        self._pace = pace_seconds
        self._now = now
        self._waiting: dict[int, None] = {}
        self._won: dict[int, float] = {}
        self._asked_at = float("-inf")
        self._counted = 0

    def hear(self, envelope: Envelope, statistics: Statistics | None) -> None:
        """Take note of what a message says of announced jobs."""
        for job in envelope.available:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting[job.request_id] = None
        for job in (*envelope.assigned, *envelope.started, *envelope.completed):
            self._waiting.pop(job.request_id, None)
            self._won.pop(job.request_id, None)
        if statistics is not None:
            self._counted = statistics.available

    async def acquire(self, session: Session, room: int) -> None:
        """Take as many of the announced jobs as there is `room` for, besides those that are assigned already.

        Raises:
            TryAgainError: as the client's; the jobs stay on the list.
        """
        now = self._now()
        self._won = {request: until for request, until in self._won.items() if until > now}
        room -= len(self._won)
        if room > 0 and not self._waiting and self._counted > 0:
            await self._find(session.set_id, now)
        wanted = list(self._waiting)[: max(min(room, _AT_ONCE), 0)]
        if not wanted:
            return
        won = await self._client.acquire_jobs(session, wanted)
        for request in wanted:
            # Those not won have another holder, or are found again by the service's count.
            self._waiting.pop(request, None)
        self._won |= dict.fromkeys(won, now + _WON_SECONDS)
        self._tally.acquired += len(won)

    async def _find(self, set_id: int, now: float) -> None:
        """The service counts jobs that no message told of: it was cut, or came before our time."""
        if now < self._asked_at + self._pace:
            return
        self._asked_at = now
        for job in (await self._client.acquirable_jobs(set_id))[:_MOST_WAITING]:
            if job.request_id > 0:
                self._waiting[job.request_id] = None
