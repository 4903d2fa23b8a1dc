"""A runner's registration at GitHub: made when its record is claimed, removed when the record ends.

A just-in-time configuration is a credential. It is made only for a runner that has proven what it is, goes out with the
work and is kept nowhere here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.intake.github.errors import BusyError, ScaleSetGoneError, UnavailableError
from orchestrator.intake.github.names import MAX_REGISTRATIONS, registered_name, registered_names
from orchestrator.intake.github.scale_sets.messages import JitConfig, RunnerEntry
from orchestrator.intake.github.source_config import EngineOf
from orchestrator.intake.github.tally import Tally
from orchestrator.lifecycle.ports import Withdrawn
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.model.runner import runner_name

JIT_FILE: Final = "jitconfig"
"""Name of the file of the work that holds the configuration."""
_AT_ONCE: Final = 32
_PAUSES: Final = (0.25, 1.0)
"""Seconds before the second and the third try."""

_GONE: Final = (Withdrawn("github_registration", "gone"),)
_USED_UP: Final = (Withdrawn("github_registration", "used_up"),)
_LEFT: Final = (Withdrawn("github_registration", "busy", left=True),)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Registered:
    """What may be registered for one record. `ids` were told by GitHub; of `doubtful` names nobody knows."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ids: list[int] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    tries: int = 0
    busy_since: float | None = None


@dataclass(frozen=True, slots=True)
class SetPlace:
    """Where a record's runner is to be registered: the set's id at this moment, and the runner program's folder."""

    set_id: int
    work_folder: str


PlaceOf = Callable[[Record], Awaitable[SetPlace | None]]
"""None for a record whose scale set is not configured any more, or is not found within a bounded wait."""


class Registrar(Protocol):
    """What is asked of `ActionsClient`, or of `RestRunners` where there are no scale sets."""

    async def generate_jit(self, set_id: int, name: str, work_folder: str) -> JitConfig: ...

    async def runner_by_name(self, name: str) -> RunnerEntry | None: ...

    async def remove_runner(self, runner_id: int) -> None: ...


class Registrations:
    """The work port (`files`) and the revoker (`revoke`) of one source."""

    def __init__(
        self,
        *,
        source: str,
        client: Registrar,
        engine: EngineOf,
        place: PlaceOf,
        tally: Tally,
        busy_limit_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._client = client
        self._engine = engine
        self._place = place
        self._tally = tally
        self._busy_limit = busy_limit_seconds
        self._now = now
        self._known: dict[JobId, _Registered] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    def names_of(self, record: Record) -> tuple[str, ...]:
        """The names under which the record's runner may be known to GitHub."""
        known = self._known.get(record.id)
        names = registered_names(runner_name(record.id))
        return names if known is None else names[: known.tries]

    def ids_of(self, record: Record) -> tuple[int, ...]:
        """GitHub's numbers for the record's runner; none where an earlier daemon registered it."""
        known = self._known.get(record.id)
        return () if known is None else tuple(known.ids)

    async def files(self, record: Record) -> Mapping[str, str]:
        """The secret files of a record that was just claimed; none for a record of another source.

        Each try has a name of its own, so that a configuration whose answer was lost is never somebody's twin.

        Raises:
            GiveUpError: reason `job_ended`, or GitHub refuses for good.
            TryAgainError: no try went well; reason as GitHub's client tells, or `github_scale_set_gone`.
        """
        if record.offer.key.source != self._source or not record.offer.spec.awaits_platform_job:
            return {}
        known = self._known.setdefault(record.id, _Registered())
        async with known.lock:
            made = await self._register(record, known)
            if not self._wanted(record.id):
                # It ended meanwhile; its revocation waits for this lock and will find what was made.
                raise GiveUpError("the runner's record ended while it was registered", reason="job_ended")
        return {JIT_FILE: made.encoded}

    async def _register(self, record: Record, known: _Registered) -> JitConfig:
        while True:
            place = await self._place(record)
            if place is None:
                raise TryAgainError("the runner's scale set is not there now", reason="github_scale_set_gone")
            if not self._wanted(record.id):
                raise GiveUpError("the runner's record has ended", reason="job_ended")
            if known.tries >= MAX_REGISTRATIONS:
                raise GiveUpError("every name of this runner was tried", reason="github_registrations_used_up")
            known.tries += 1
            name = registered_name(runner_name(record.id), known.tries)
            known.doubtful.append(name)
            try:
                async with self._at_once:
                    made = await self._client.generate_jit(place.set_id, name, place.work_folder)
            except TryAgainError as error:
                self._tally.registrations_failed += 1
                if _certainly_not_made(error):
                    known.doubtful.remove(name)
                if known.tries >= MAX_REGISTRATIONS:
                    raise
                _log.info("runner %s is not registered yet: %s", name, error)
                await asyncio.sleep(max(_PAUSES[known.tries - 1], min(error.retry_after_seconds or 0.0, 10.0)))
                continue
            known.doubtful.remove(name)
            known.ids.append(made.runner_id)
            self._tally.registered += 1
            return made

    def _wanted(self, job_id: JobId) -> bool:
        record = self._engine().record(job_id)
        return record is not None and record.outcome is None and record.cancel is None

    async def revoke(self, record: Record) -> Sequence[Withdrawn] | None:
        """`lifecycle.ports.Revoker`: nothing of the record's runner is registered any more when this returns.

        Without a call for one that never had work, and for one that did its job to the end: GitHub removes the
        registration of a single-use runner after its job by itself.

        Raises:
            TryAgainError: GitHub says that it is busy, or gave no answer. A busy one is given up after a while and left
                to the sweep, so that no record is held up for ever.
        """
        if record.offer.key.source != self._source or not record.bound_at_ns:
            return None
        known = self._known.setdefault(record.id, self._unknown(record))
        answer = _GONE
        async with known.lock:
            if _ran_to_its_end(record):
                known.ids.clear()
                answer = _USED_UP
            try:
                await self._remove(known)
            except BusyError:
                if not self._given_up(known):
                    raise
                self._tally.leftovers += 1
                _log.error("GitHub keeps runner %s as busy; it is left to the sweep", runner_name(record.id))
                answer = _LEFT
        self._known.pop(record.id, None)
        return answer

    async def withdraw(self, record: Record) -> None:
        """Take the registration of a runner that waits for a job away, so that it gets none any more.

        Raises:
            BusyError: it has a job already.
            TryAgainError: GitHub gave no answer.
        """
        known = self._known.setdefault(record.id, self._unknown(record))
        async with known.lock:
            await self._remove(known)

    def _unknown(self, record: Record) -> _Registered:
        """What an earlier daemon may have registered. Whoever ended as it should has left nothing."""
        names = [] if _ran_to_its_end(record) else list(registered_names(runner_name(record.id)))
        return _Registered(doubtful=names, tries=MAX_REGISTRATIONS)

    async def _remove(self, known: _Registered) -> None:
        for name in tuple(known.doubtful):
            found = await self._client.runner_by_name(name)
            if found is not None:
                known.ids.append(found.id)
            known.doubtful.remove(name)
        for runner_id in tuple(known.ids):
            try:
                await self._client.remove_runner(runner_id)
            except BusyError:
                self._tally.busy += 1
                known.busy_since = self._now() if known.busy_since is None else known.busy_since
                raise
            known.ids.remove(runner_id)
            self._tally.removed += 1

    def _given_up(self, known: _Registered) -> bool:
        return known.busy_since is not None and self._now() - known.busy_since >= self._busy_limit


def _certainly_not_made(error: TryAgainError) -> bool:
    return isinstance(error, ScaleSetGoneError) or (isinstance(error, UnavailableError) and error.unsent)


def _ran_to_its_end(record: Record) -> bool:
    """The platform said that the job is over, and the runner ended by itself."""
    return record.completed is not None and record.platform is not None and record.platform.exit is not None
