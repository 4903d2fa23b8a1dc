"""Compares GitHub's list of runners with our records and mends what differs; nothing is done after one look alone.

Not needed while all goes well. It finds what an outage, a kill or a lost message has left: a registration that no
record owns, and a job whose end no message told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Protocol

from orchestrator.errors import OrchestratorError
from orchestrator.intake.github.errors import BusyError
from orchestrator.intake.github.names import runner_of
from orchestrator.intake.github.naming import JobNaming
from orchestrator.intake.github.scale_sets.messages import RunnerEntry
from orchestrator.intake.github.source_config import EngineOf
from orchestrator.intake.github.tally import Tally
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName

_log = logging.getLogger(__name__)


class RunnerList(Protocol):
    """What is asked of `ActionsClient`."""

    async def runners(self) -> list[RunnerEntry]: ...

    async def remove_runner(self, runner_id: int) -> None: ...


class RunnerSweep:
    """`set_ids` are the scale sets that are ours: runners of others are never touched, whatever they are called."""

    def __init__(
        self,
        *,
        source: str,
        runners: RunnerList,
        engine: EngineOf,
        naming: JobNaming,
        set_ids: Callable[[], Collection[int]],
        tally: Tally,
    ) -> None:
        self._source = source
        self._runners = runners
        self._engine = engine
        self._naming = naming
        self._set_ids = set_ids
        self._tally = tally
        self._orphans: frozenset[int] = frozenset()
        self._absent: frozenset[JobId] = frozenset()

    @property
    def suspicious(self) -> bool:
        """The last look found something that the next one has to confirm."""
        return bool(self._orphans or self._absent)

    async def run(self) -> None:
        """One look.

        Raises:
            TryAgainError, GiveUpError: GitHub's list could not be had; what was found before is forgotten.
        """
        orphans, absent = self._orphans, self._absent
        self._orphans, self._absent = frozenset(), frozenset()
        ids = frozenset(self._set_ids())
        entries = [entry for entry in await self._runners.runners() if entry.scale_set_id in ids]
        registered = {runner: entry for entry in entries if (runner := runner_of(entry.name)) is not None}
        unowned = {
            entry.id: runner for runner, entry in registered.items() if self._engine().record_of_runner(runner) is None
        }
        silent = self._silent(registered)
        self._orphans, self._absent = frozenset(unowned), frozenset(silent)
        for runner_id in unowned.keys() & orphans:
            await self._remove(runner_id, unowned[runner_id])
        for job_id in silent.keys() & absent:
            self._tally.mended += await self._naming.ask_for_end(silent[job_id])

    def _silent(self, registered: Collection[RunnerName]) -> dict[JobId, Record]:
        """Records with a job whose end is not told, while GitHub knows their runner no more: it takes a single-use
        runner off its list after its job."""
        engine = self._engine()
        records = [engine.record(job_id) for job_id in engine.live_ids()]
        return {
            record.id: record
            for record in records
            if record is not None
            and record.offer.key.source == self._source
            and record.outcome is None
            and record.named_at_ns
            and record.completed is None
            and record.runner not in registered
        }

    async def _remove(self, runner_id: int, runner: RunnerName) -> None:
        _log.warning("GitHub's registration of %s belongs to no record; removing it", runner)
        try:
            await self._runners.remove_runner(runner_id)
        except BusyError:
            _log.error("GitHub says that %s runs a job, and there is no record of it", runner)
        except OrchestratorError as error:
            _log.warning("the registration of %s is not removed: %s", runner, error)
        else:
            self._tally.orphans += 1
