"""What webhooks have missed: queued jobs found by asking, and deliveries that failed, asked for once more.

GitHub never sends a delivery again by itself, and keeps what it could not deliver for 3 days (GHES 7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.errors import OrchestratorError
from orchestrator.intake.github.errors import ForbiddenError, NotFoundError
from orchestrator.intake.github.rest.client import RestClient
from orchestrator.intake.github.rest.objects import HookDelivery, RunJob
from orchestrator.intake.github.webhooks.delivery import JOB_EVENT
from orchestrator.intake.github.webhooks.inbox import WebhookInbox
from orchestrator.intake.github.webhooks.job_table import JobTable, Place

MAX_PLACES: Final = 1000
"""Repositories that webhooks told of and that are asked for queued jobs; the longest unheard of are left out."""
PLACES_AT_A_LOOK: Final = 50
"""Repositories asked at one look; the others are next. Two requests and more each, of 5,000 in an hour."""
MAX_PAGES: Final = 20
MAX_AGAIN: Final = 100
"""Deliveries asked for again at one look: a burst of them would only fail again."""
MAX_TRIES: Final = 3
OVERLAP_NS: Final = 3600 * 1_000_000_000
REACH_NS: Final = 3 * 86_400 * 1_000_000_000
_AT_ONCE: Final = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A job as the API shows it."""

    place: Place
    job: RunJob


class QueuedJobs:
    """Looks for queued jobs in the repositories that are configured or were heard of."""

    def __init__(self, rest: RestClient, table: JobTable, places: Iterable[Place]) -> None:
        self._rest = rest
        self._table = table
        self._fixed = {place.key: place for place in places}
        self._heard: dict[str, Place] = {}
        self._asked: dict[str, int] = {}
        self._looks = 0

    def heard_of(self, place: Place) -> None:
        """A webhook came from there."""
        self._heard.pop(place.key, None)
        self._heard[place.key] = place
        if len(self._heard) > MAX_PLACES:
            del self._heard[next(iter(self._heard))]

    async def look(self) -> list[Found]:
        """Queued jobs, and those we took for queued and that are not any more. A repository that cannot be asked now is
        left out, and logged."""
        places = self._next()
        room = asyncio.Semaphore(_AT_ONCE)

        async def ask(place: Place) -> list[Found]:
            async with room:
                try:
                    return await self._of(place)
                except NotFoundError:
                    self._heard.pop(place.key, None)
                    _log.warning("repository %s is not there for us", place.key)
                except OrchestratorError as error:
                    _log.warning("queued jobs of %s could not be looked for: %s", place.key, error)
                return []

        return [found for answer in await asyncio.gather(*map(ask, places)) for found in answer]

    def _next(self) -> list[Place]:
        """Those that were not asked for the longest time."""
        self._looks += 1
        every = self._heard | self._fixed
        chosen = sorted(every, key=lambda key: self._asked.get(key, 0))[:PLACES_AT_A_LOOK]
        self._asked = {key: look for key, look in self._asked.items() if key in every} | dict.fromkeys(
            chosen, self._looks
        )
        return [every[key] for key in chosen]

    async def _of(self, place: Place) -> list[Found]:
        jobs = await self._rest.queued_jobs(place.owner, place.repository)
        found = [Found(place, job) for job in jobs]
        for known in self._table.unseen(place, {job.id for job in jobs}):
            try:
                found.append(Found(place, await self._rest.job(place.owner, place.repository, known.job.id)))
            except NotFoundError:
                self._table.forget(known.job.id)
        return found


class MissedDeliveries:
    """`hook_id` None is the App's own hook. `clock_ns` is Unix time."""

    def __init__(self, rest: RestClient, inbox: WebhookInbox, hook_id: int | None, clock_ns: Callable[[], int]) -> None:
        self._rest = rest
        self._inbox = inbox
        self._hook_id = hook_id
        self._clock_ns = clock_ns
        self._looked_ns = 0
        self._asked: dict[str, int] = {}
        self.again = 0
        """Deliveries that were asked for once more."""

    async def look(self) -> None:
        """Ask again for each delivery of a job that never arrived, a few times at most.

        Raises:
            OrchestratorError: as `RestClient`; what was found before is done.
        """
        now = self._clock_ns()
        # A clock that was ahead for a while must not hide what failed since.
        since = max(min(self._looked_ns, now) - OVERLAP_NS, now - REACH_NS)
        failed: dict[str, HookDelivery] = {}
        arrived: set[str] = set()
        for delivery in await self._recent(since):
            if delivery.ok:
                arrived.add(delivery.guid)
            elif delivery.event == JOB_EVENT:
                failed.setdefault(delivery.guid, delivery)
        missing = [one for guid, one in failed.items() if guid not in arrived and not await self._inbox.knows(guid)]
        await self._ask_again(missing)
        self._asked = {guid: tries for guid, tries in self._asked.items() if guid in failed}
        self._looked_ns = now

    async def _recent(self, since_ns: int) -> list[HookDelivery]:
        """Newest first."""
        found: list[HookDelivery] = []
        cursor = ""
        for _ in range(MAX_PAGES):
            page = await self._rest.hook_deliveries(self._hook_id, cursor)
            young = [one for one in page.deliveries if (one.delivered_at_ns or 0) >= since_ns]
            found += young
            cursor = page.cursor
            if not cursor or len(young) < len(page.deliveries):
                break
        return found

    async def _ask_again(self, missing: Sequence[HookDelivery]) -> None:
        """The oldest first, as they came."""
        for delivery in [*reversed(missing)][:MAX_AGAIN]:
            tries = self._asked.get(delivery.guid, 0)
            if tries >= MAX_TRIES:
                continue
            self._asked[delivery.guid] = tries + 1
            try:
                await self._rest.redeliver(delivery.id, self._hook_id)
            except (NotFoundError, ForbiddenError) as error:
                _log.warning("delivery %s cannot be asked for again: %s", delivery.guid, error)
            else:
                self.again += 1
