"""Draining: no job is begun, running ones may end. By an operator, who can take it back, or for the stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from orchestrator.daemon.last_resort import until_ended
from orchestrator.daemon.rooms import Rooms
from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.lifecycle.observation import SECOND
from orchestrator.model.job import JobId
from orchestrator.model.phase import Phase

_log = logging.getLogger("orchestrator")

_TEARDOWN_AFTER_DRAIN_SECONDS = 15
_LOOK_SECONDS = 0.5

STOPPED = "the daemon was stopped before the job ended"
DRAINED = "an operator drained the daemon before the job ended"


@dataclass(frozen=True, slots=True)
class Asked:
    """An operator's drain; from `limit_ns` (Unix time) on, jobs that still run are cancelled."""

    since_ns: int
    limit_ns: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """`left` counts the jobs that a stop would have to wait for, `going_on` those whose runners outlive the daemon, and
    `not_begun` those that wait for `resume` or for the next daemon, each by phase."""

    draining: bool
    stopping: bool
    since_ns: int
    limit_ns: int | None
    left: dict[Phase, int]
    going_on: dict[Phase, int]
    not_begun: dict[Phase, int]


class Drain:
    """What is asked of the daemon: nothing, to drain, to stop, or to stop without waiting."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.asked: Asked | None = None

    @property
    def under_way(self) -> bool:
        return self.asked is not None or self.stopping.is_set()

    def signalled(self) -> None:
        """The first time to stop, then without waiting."""
        (self.hurry if self.stopping.is_set() else self.stopping).set()


class Drainage:
    """Does what `drain` asks."""

    def __init__(self, rooms: Rooms, drain: Drain) -> None:
        self._rooms = rooms
        self._drain = drain
        self._begun = asyncio.Event()
        self._stop: Asked | None = None

    def begin(self, limit_seconds: float | None, by: str) -> None:
        """Drain until `resume` or the stop; once more changes the limit. Without one, running jobs have all the time
        that they have anyway."""
        now = self._rooms.clock.now_ns()
        since = self._drain.asked.since_ns if self._drain.asked else now
        limit = None if limit_seconds is None else now + int(limit_seconds * SECOND)
        self._drain.asked = Asked(since, limit)
        self._quieten()
        self._begun.set()
        told = {"by": by, "active_jobs": len(self.left()), "limit_seconds": limit_seconds}
        _log.info("draining on request", extra=told)

    def can_be_taken_back(self) -> bool:
        """Whether an operator's drain is under way.

        Raises:
            GiveUpError: reason `daemon_stopping`.
        """
        if self._drain.stopping.is_set():
            raise GiveUpError("the daemon stops, which cannot be taken back", reason="daemon_stopping")
        return self._drain.asked is not None

    def resume(self, by: str) -> None:
        """Begin jobs again; those that were cancelled stay so.

        Raises:
            GiveUpError: reason `daemon_stopping`.
        """
        if not self.can_be_taken_back():
            return
        self._drain.asked = None
        self._begun.clear()
        self._rooms.platforms.set_draining(False)
        self._rooms.engine.end_drain()
        _log.info("jobs are begun again", extra={"by": by})

    def progress(self) -> Progress:
        """As of now. Does not block."""
        asked = self._stop or self._drain.asked
        left = set(self.left())
        active = set(self._rooms.engine.active_ids())
        waiting = [job_id for job_id in self._rooms.engine.live_ids() if job_id not in active]
        return Progress(
            draining=self._drain.under_way,
            stopping=self._drain.stopping.is_set(),
            since_ns=asked.since_ns if asked else 0,
            limit_ns=asked.limit_ns if asked else None,
            left=self._by_phase(left),
            going_on=self._by_phase(active - left),
            not_begun=self._by_phase(waiting),
        )

    async def run_for_ever(self) -> None:
        """Look after an operator's drain, as long as there is one."""
        while True:
            await self._begun.wait()
            await self._let_go_of_the_idle()
            asked = self._drain.asked
            if asked and asked.limit_ns is not None and self._rooms.clock.now_ns() >= asked.limit_ns:
                await self._cancel_running(DRAINED)
            await asyncio.sleep(_LOOK_SECONDS)

    async def until_quiet(self, limit_seconds: float) -> bool:
        """For the stop. True when no job is under way that ends with us. Queued jobs stay queued and count as kept, not
        as left; so do jobs whose runners go on without us."""
        now = self._rooms.clock.now_ns()
        self._stop = Asked(now, now + int(limit_seconds * SECOND))
        self._quieten()
        _log.info("draining", extra={"active_jobs": len(self.left()), "limit_seconds": limit_seconds})
        async with asyncio.TaskGroup() as group:
            letting_go = group.create_task(self._keep_letting_go(), name="letting-go")
            quiet = await self._quiet(limit_seconds, self._drain.hurry)
            await until_ended([letting_go])
        if quiet:
            return True
        # Local sandboxes die with the daemon: end their jobs with a true reason while we still can. Again and again,
        # for a runner that was being made may have claimed its job meanwhile.
        for _ in range(_TEARDOWN_AFTER_DRAIN_SECONDS):
            await self._cancel_running(STOPPED)
            if await self._quiet(1.0, None):
                return True
        return False

    def left(self) -> list[JobId]:
        """Jobs under way whose runners die with this daemon."""
        return [job_id for job_id in self._rooms.engine.active_ids() if not self._outlives_us(job_id)]

    def _outlives_us(self, job_id: JobId) -> bool:
        record = self._rooms.engine.record(job_id)
        room = self._rooms.backends.get(record.backend) if record else None
        return room is not None and room.outlives_daemon

    def _by_phase(self, ids: Collection[JobId]) -> dict[Phase, int]:
        records = (self._rooms.engine.record(job_id) for job_id in ids)
        return dict(Counter(record.phase for record in records if record is not None))

    def _quieten(self) -> None:
        self._rooms.engine.begin_drain()
        self._rooms.platforms.set_draining(True)

    async def _keep_letting_go(self) -> None:
        while True:
            await self._let_go_of_the_idle()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _let_go_of_the_idle(self) -> None:
        """Runners that wait for a job, and those that are being made for one, would hold us up for nothing: whatever
        job they are for stays with its platform, for the next daemon."""
        try:
            await self._rooms.platforms.let_go(self.left())
        except OrchestratorError as error:
            _log.warning("runners without a job are not given up yet: %s", error)

    async def _cancel_running(self, why: str) -> None:
        for job_id in self.left():
            record = self._rooms.engine.record(job_id)
            if record and record.phase is Phase.RUNNING and record.cancel is None:
                # A journal that takes nothing must not keep us here; the next daemon then finds the job lost.
                with contextlib.suppress(OrchestratorError, TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._rooms.engine.cancel(job_id, "daemon", why)

    async def _quiet(self, seconds: float, hurry: asyncio.Event | None) -> bool:
        """Wait until no job is under way, for so long at most."""
        with self._watched() as quiet:
            waits = [asyncio.ensure_future(event.wait()) for event in (quiet, hurry) if event]
            try:
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            return quiet.is_set()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[asyncio.Event]:
        """Set when no job is under way."""
        quiet, loop = asyncio.Event(), asyncio.get_running_loop()

        def look() -> None:
            if not self.left():
                quiet.set()

        def look_soon(_facts: object) -> None:
            # The feed runs before the engine has dropped the finished job.
            loop.call_later(0.01, look)

        def look_on() -> None:
            # Where the engine took longer than that to drop the last one, no fact comes any more.
            look()
            timers[0] = loop.call_later(_LOOK_SECONDS, look_on)

        unsubscribe: Callable[[], None] = self._rooms.journal.subscribe(look_soon)
        timers = [loop.call_later(_LOOK_SECONDS, look_on)]
        look()
        try:
            yield quiet
        finally:
            timers[0].cancel()
            unsubscribe()
