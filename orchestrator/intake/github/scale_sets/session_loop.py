"""One scale set's conversation with GitHub: listen, make durable, acknowledge; and begin again whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.intake.github.errors import ScaleSetGoneError, SessionConflictError, SessionGoneError
from orchestrator.intake.github.naming import JobNaming
from orchestrator.intake.github.scale_sets.acquire import Acquirer
from orchestrator.intake.github.scale_sets.client import ActionsClient
from orchestrator.intake.github.scale_sets.demand import Backoff, Envelope, believed
from orchestrator.intake.github.scale_sets.messages import Message, Statistics
from orchestrator.intake.github.scale_sets.runners import SetRunners
from orchestrator.intake.github.scale_sets.session import Session
from orchestrator.intake.github.scale_sets.set_session import SetSession
from orchestrator.intake.github.scale_sets.status import SetStatus, Stage
from orchestrator.intake.github.source_config import SourceTiming
from orchestrator.intake.github.tally import Tally
from orchestrator.intake.github.telling import Telling, wait_after
from orchestrator.intake.github.trouble import Trouble

_SESSION_ENDING = (SessionGoneError, SessionConflictError, ScaleSetGoneError)
_FAILURES_OF_A_SESSION = 5
"""After so many failures in a row the session itself is suspected, and a new one made."""
_FULL = 50
"""Jobs of the longest message; behind one the next is ready, and waiting for more to gather would save no call."""
_MOST_PENDING = 64
"""Messages that wait for their acknowledgement at once; more are not fetched."""

_log = logging.getLogger(__name__)


class SessionLoop:
    """`run` until cancelled. Nothing of importance is only here: everything is found again from the engine's records
    and the service's own count."""

    def __init__(
        self,
        *,
        client: ActionsClient,
        keeper: SetSession,
        runners: SetRunners,
        acquirer: Acquirer,
        naming: JobNaming,
        timing: SourceTiming,
        tally: Tally,
        status: SetStatus,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._keeper = keeper
        self._runners = runners
        self._acquirer = acquirer
        self._naming = naming
        self._timing = timing
        self._tally = tally
        self._status = status
        self._now = now
        self._telling = Telling(timing, status.naming, now)
        self._retry = Backoff(timing.retry_first, timing.retry_longest)
        self._changed = asyncio.Event()
        self._pending: dict[tuple[str, int], asyncio.Event] = {}
        self._room = asyncio.Semaphore(_MOST_PENDING)
        self._poll: asyncio.Timeout | None = None
        self._announced = 0
        self._cut_at = float("-inf")
        self._cut = False
        self._room_at: float | None = None
        self._heard_at = float("-inf")
        self.draining = False
        """Take on no more jobs than there are runners for."""

    def look_soon(self) -> None:
        """Something may have changed: a record ended, a pool has room. A hint that costs nothing."""
        self._changed.set()

    async def run(self) -> None:
        """Listen until cancelled; the session is ended on the way out."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tend())
                await self._listen(group)
        finally:
            self._status.stage = Stage.STOPPED
            await self._keeper.close(self._timing.close)

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                self._status.stage = Stage.OPENING
                session = await self._keeper.open()
                if session.statistics is not None:
                    await self._until_done(partial(self._demand, Envelope(), session.statistics))
                await self._poll_on(session, group)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 -- a defect of one set is not the others' end
                await self._failed(error)

    async def _poll_on(self, session: Session, group: asyncio.TaskGroup) -> None:
        """Poll one session until it is lost."""
        cursor = failures = 0
        while True:
            await self._pace()
            try:
                message = await self._next(session, cursor)
            except _SESSION_ENDING:
                self._tally.sessions_lost += 1
                raise
            except OrchestratorError as error:
                failures += 1
                if failures >= _FAILURES_OF_A_SESSION:
                    raise
                await self._failed(error)
                continue
            failures = 0
            self._retry.succeeded()
            self._status.heard(time.time_ns(), message)
            self.look_soon()
            if message is None:
                continue
            full = len(message.jobs) + message.skipped >= _FULL
            self._heard_at = float("-inf") if full else self._now()
            await self._take(session, message, group)
            cursor = max(cursor, message.id)

    async def _next(self, session: Session, cursor: int) -> Message | None:
        """The next message; None when there was none, or when the poll was ended because there is more room now."""
        self._announced = self._capacity()
        self._cut = False
        self._status.polling(time.time_ns(), self._announced)
        self._tally.polls += 1
        try:
            async with asyncio.timeout(self._timing.poll_limit) as self._poll:
                return await self._client.poll(session, cursor, self._announced)
        except TimeoutError:
            if self._cut:
                return None
            limit = self._timing.poll_limit
            raise TryAgainError(f"a poll had no end within {limit:g} s", reason="github_poll_stuck") from None
        finally:
            self._poll = None

    async def _take(self, session: Session, message: Message, group: asyncio.TaskGroup) -> None:
        """Make durable what a message wants; names and results, which may take GitHub's API long, go on beside."""
        self._tally.messages += 1
        self._tally.unreadable += message.skipped
        under_way = self._pending.get((session.id, message.id))
        if under_way is not None:
            self._tally.duplicates += 1
            await under_way.wait()
            return
        envelope = self._runners.hear(message.jobs)
        self._acquirer.hear(envelope, message.statistics)
        await self._until_done(partial(self._demand, envelope, message.statistics))
        await self._room.acquire()
        done = self._pending[session.id, message.id] = asyncio.Event()
        group.create_task(self._finish(session, message.id, envelope, done))

    async def _demand(self, envelope: Envelope, statistics: Statistics | None) -> None:
        count = believed(statistics, envelope)
        self._tally.disbelieved += statistics is not None and count is None
        self._status.statistics = statistics or self._status.statistics
        await self._runners.demand(count, statistics.running if statistics else 0, envelope.assigned)

    async def _finish(self, session: Session, number: int, envelope: Envelope, done: asyncio.Event) -> None:
        """Names and results, then the acknowledgement: a kill before it brings the message again.

        No result waits for a name: finding one takes seconds, and until its result is there a runner keeps its slot.
        """
        try:
            tell = self._telling.tell
            names = (tell(self._naming.started, job) for job in envelope.started)
            results = (tell(self._naming.completed, job) for job in envelope.completed)
            await asyncio.gather(*names, *results)
            await self._client.acknowledge(session, number)
        except OrchestratorError as error:
            # It comes again, at the latest with another session, and all of this is idempotent.
            _log.info("message %d of scale set %s is not acknowledged: %s", number, self._status.key, error)
        finally:
            self._room.release()
            self._pending.pop((session.id, number), None)
            done.set()
            self.look_soon()

    async def _tend(self) -> None:
        """Look after the set's runners whenever something may have changed, session or not."""
        backoff = Backoff(self._timing.retry_first, self._timing.retry_longest)
        while True:
            await self._something_changed()
            try:
                await self._runners.look()
                for record in self._runners.silent():
                    self._tally.mended += await self._naming.ask_for_end(record)
                self._offer_room()
                session = self._keeper.session
                if session is not None:
                    await self._acquirer.acquire(session, self._capacity() - (self._runners.assigned or 0))
                backoff.succeeded()
                self._status.tending.over()
            except Exception as error:  # noqa: BLE001 -- tried again, and shown
                self._note(error, self._status.tending)
                await asyncio.sleep(wait_after(backoff, self._now(), error))
                self._changed.set()

    async def _something_changed(self) -> None:
        """Return at the next hint, or when time alone makes a look due."""
        due = min((at for at in (self._runners.look_at, self._room_at) if at is not None), default=None)
        wait = None if due is None else max(due - self._now(), 0.01)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._changed.wait()
        self._changed.clear()

    def _offer_room(self) -> None:
        """End the poll when the service could assign more by now than it was told, and would."""
        self._room_at = None
        full = self._announced <= (self._runners.assigned or 0)
        if self._poll is None or self._cut or not full or self._capacity() <= self._announced:
            return
        now = self._now()
        if now < self._cut_at + self._timing.capacity_pace:
            self._room_at = self._cut_at + self._timing.capacity_pace
            return
        self._cut, self._cut_at = True, now
        self._tally.polls_cut += 1
        self._poll.reschedule(asyncio.get_running_loop().time())

    def _capacity(self) -> int:
        counted = self._runners.capacity()
        return min(counted, self._runners.held()) if self.draining else counted

    async def _pace(self) -> None:
        """Let a burst gather: jobs that come together cost one message, not one each."""
        wait = self._heard_at + self._timing.pace - self._now()
        if wait > 0:
            await asyncio.sleep(min(wait, self._timing.pace))

    async def _until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        """Repeat while the engine cannot take it: without that nothing is acknowledged and nothing more is fetched."""
        while True:
            try:
                await work()
            except _SESSION_ENDING:
                raise
            except TryAgainError as error:
                await self._failed(error)
            else:
                return

    async def _failed(self, error: Exception) -> None:
        self._note(error, self._status.listening)
        self._status.stage = Stage.CONFLICT if isinstance(error, SessionConflictError) else Stage.WAITING
        await asyncio.sleep(wait_after(self._retry, self._now(), error))

    def _note(self, error: Exception, trouble: Trouble) -> None:
        if not isinstance(error, OrchestratorError):
            _log.error("scale set %s: an internal error", self._status.key, exc_info=error)
        trouble.met(error)
