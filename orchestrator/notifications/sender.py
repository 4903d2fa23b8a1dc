"""Sends what waits for one endpoint, each message until it is taken, refused for good, or too old.

A failing endpoint is left in peace for a while; then a single message looks whether it works again. No endpoint waits
for another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from orchestrator.errors import OrchestratorError
from orchestrator.model.source import Failure
from orchestrator.notifications.client import CONNECTIONS, Delivery, Poster
from orchestrator.notifications.endpoint import Endpoint, EndpointState
from orchestrator.notifications.messages import Message
from orchestrator.notifications.outbox import Due, Outbox, Results, Shelf
from orchestrator.notifications.schedule import SECOND, Schedule

_log = structlog.get_logger(__name__)

UPKEEP_SECONDS = 60.0
"""Longest sleep: messages grow old while nothing is sent."""
_STORE_AGAIN_SECONDS = 5.0

_FIXES = {
    "endpoint_gone": "fix its address, or take it out of notifications.endpoints; `orchestrator notifications retry` "
    "enables it again",
    "endpoint_redirects": "name the address that it redirects to",
    "endpoint_refused": "check its address and keys, and what its own log says",
    "endpoint_busy": "nothing; it is tried again",
    "endpoint_timeout": "it should answer first and work afterwards",
    "endpoint_forbidden": "set allow_private for an endpoint that is meant to be there",
    "endpoint_unreachable": "check its address, its certificate and the way there",
}


@dataclass(slots=True)
class Tally:
    """Since the daemon's start; times are Unix nanoseconds."""

    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    delivered_at_ns: int = 0
    failures: int = 0
    paused_until_ns: int = 0
    failing: Failure | None = None


@dataclass(eq=False)
class Sender:
    """`run` it as a task; `wake` it when something was stored. `now_ns` is Unix time."""

    endpoint: Endpoint
    outbox: Outbox
    poster: Poster
    schedule: Schedule
    now_ns: Callable[[], int]
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._woken = asyncio.Event()
        self._stopping = False
        self._unsettled: Results | None = None
        self._worn: list[Poster] = []
        self._untold = 0
        self._tell_ns = 0

    def wake(self) -> None:
        self._woken.set()

    def finish(self) -> None:
        """Send what is due once more, then have `run` return."""
        self._stopping = True
        self.wake()

    def hurry(self) -> None:
        """Try now, whatever failed before."""
        self.tally.failures, self.tally.paused_until_ns = 0, 0
        self.wake()

    def change(self, endpoint: Endpoint, poster: Poster) -> None:
        """Send to this one of the same name from the next message on: what is on its way is waited for."""
        self._worn.append(self.poster)
        self.endpoint, self.poster = endpoint, poster
        self.tally.failing = None
        if self._unsettled is not None:
            self._unsettled.disabled = ""
        self.hurry()

    async def close(self) -> None:
        """When `run` has ended."""
        for poster in (*self._worn, self.poster):
            await poster.close()

    async def run(self) -> None:
        """Until `finish` or cancellation."""
        while True:
            last = self._stopping
            self._woken.clear()
            wait = await self._guarded_turn()
            if wait == 0:
                continue
            if last:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, UPKEEP_SECONDS)):
                    await self._woken.wait()

    async def _guarded_turn(self) -> float:
        try:
            return await self.turn()
        except OrchestratorError as error:
            _log.warning("notifications_put_off", endpoint=self.endpoint.name, reason=error.reason, detail=str(error))
        except Exception:  # noqa: BLE001 -- a defect must not end the sending for good, and must not be silent either
            _log.exception("notifications_broke", endpoint=self.endpoint.name)
        return _STORE_AGAIN_SECONDS

    async def turn(self) -> float:
        """Send what is due, as much of it as goes at once; the seconds until there is something to do again."""
        name, now = self.endpoint.name, self.now_ns()
        while self._worn:
            await self._worn.pop().close()
        await self._settle(now)
        if lost := await self.outbox.expire(name, now):
            self.dropped(lost, "too old")
        if self._shelf.disabled or not self._shelf.waiting:
            return UPKEEP_SECONDS
        if self.tally.paused_until_ns > now:
            return (self.tally.paused_until_ns - now) / SECOND
        due = await self.outbox.due(name, now, 1 if self.tally.failures else CONNECTIONS)
        if due:
            await self._send(due)
            return 0
        next_ns = await self.outbox.next_ns(name)
        return UPKEEP_SECONDS if next_ns is None else max(next_ns - now, SECOND // 1000) / SECOND

    async def _send(self, due: Sequence[Due]) -> None:
        poster = self.poster
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(poster.post(one.message)) for one in due]
        results, now = Results(), self.now_ns()
        deliveries = [task.result() for task in tries]
        for one, delivery in zip(due, deliveries, strict=True):
            self._judge(one, delivery, results, now)
        if poster is self.poster:
            self._remember(deliveries, now)
        else:  # of the endpoint as it is now, the one before it has nothing to say
            results.disabled = ""
        self._unsettled = results
        await self._settle(now)

    async def _settle(self, now: int) -> None:
        """Note what became of messages. As long as a full disk refuses that, nothing more is sent: what was taken would
        be sent again and again."""
        results = self._unsettled
        if results is None:
            return
        lost = await self.outbox.settle(self.endpoint.name, results, now)
        self._unsettled = None
        if lost:
            self.dropped(lost, "disabled" if results.disabled else "tried to the end")

    def _judge(self, due: Due, delivery: Delivery, results: Results, now: int) -> None:
        """What becomes of one message."""
        number = due.message.number
        if delivery.delivered:
            self.tally.delivered += 1
            results.gone.append(number)
            return
        self.tally.failed += 1
        if delivery.reason == "endpoint_gone":
            results.disabled = delivery.reason
        after = self.schedule.retry_ns(due.attempts + 1)
        if after is None:
            results.gone.append(number)
            results.dropped += 1
        else:
            results.retry[number] = (due.attempts + 1, now + after)

    def _remember(self, deliveries: Sequence[Delivery], now: int) -> None:
        """What becomes of the endpoint: one that took something works, whatever it refused besides."""
        tally = self.tally
        failed = next((one for one in deliveries if not one.delivered), None)
        if any(one.delivered for one in deliveries):
            self._works(now)
        elif failed is not None:
            tally.failures += 1
            pause = self.schedule.pause_ns(tally.failures, failed.wish_seconds)
            tally.paused_until_ns = now + pause
        if failed is None:
            return
        before = tally.failing
        since = before.since_ns if before else now
        tally.failing = Failure(failed.reason, failed.detail, _FIXES.get(failed.reason, ""), since)
        if before is None or before.reason != failed.reason:
            name = self.endpoint.name
            _log.warning("notifications_endpoint_fails", endpoint=name, reason=failed.reason, detail=failed.detail)

    def _works(self, now: int) -> None:
        tally = self.tally
        if tally.failing is not None:
            _log.info("notifications_endpoint_works_again", endpoint=self.endpoint.name)
        tally.failures, tally.paused_until_ns, tally.failing = 0, 0, None
        tally.delivered_at_ns = now

    def dropped(self, count: int, why: str) -> None:
        """Messages never get there: an alarm, for somebody relied on them. A flood of them is told once a minute."""
        self.tally.dropped += count
        self._untold += count
        now = self.now_ns()
        if now >= self._tell_ns:
            _log.error("notifications_dropped", endpoint=self.endpoint.name, messages=self._untold, why=why)
            self._untold, self._tell_ns = 0, now + int(UPKEEP_SECONDS * SECOND)

    async def trial(self, message: Message) -> Delivery:
        """Send one message at once, outside of the queue; an endpoint that takes it works again."""
        delivery = await self.poster.post(message)
        if delivery.delivered and not self._shelf.disabled:
            self._works(self.now_ns())
            self.wake()
        return delivery

    @property
    def _shelf(self) -> Shelf:
        """An empty one for an endpoint that is no more."""
        return self.outbox.shelves.get(self.endpoint.name) or Shelf()

    def state(self) -> EndpointState:
        """How the endpoint is doing."""
        tally, shelf = self.tally, self._shelf
        return EndpointState(
            endpoint=self.endpoint,
            waiting=shelf.waiting,
            waiting_bytes=shelf.bytes,
            oldest_at_ns=shelf.oldest_ns,
            delivered=tally.delivered,
            failed=tally.failed,
            dropped=tally.dropped,
            dropped_ever=shelf.dropped_ever,
            delivered_at_ns=tally.delivered_at_ns,
            next_try_ns=tally.paused_until_ns,
            failing=tally.failing,
            disabled=shelf.disabled,
            disabled_at_ns=shelf.disabled_ns,
        )
