"""The level-triggered look at everything, which alone would be enough to converge.

Every live job is looked at; every runner that no live job owns is deleted after two sweeps in a row have
found it so (two proofs: a job just taken in must not lose its runner to a sweep that read too early).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from orchestrator.errors import OrchestratorError
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import Backend, Journal
from orchestrator.model.record import fold
from orchestrator.model.runner import RunnerName

_log = logging.getLogger(__name__)


class Sweep:
    """`orphans_deleted` counts runners without a job that were removed."""

    def __init__(self, engine: Engine, journal: Journal, backends: Mapping[str, Backend]) -> None:
        self._engine = engine
        self._journal = journal
        self._backends = backends
        self._suspects: dict[str, frozenset[RunnerName]] = {}
        self.orphans_deleted = 0

    async def run(self) -> None:
        """One sweep. A backend that fails is left for the next one; the others are still swept."""
        for job_id in self._engine.live_ids():
            self._engine.look_at(job_id)
        if self._engine.unsure:
            await self._take_over_unsure()
        for name, backend in self._backends.items():
            try:
                await self._orphans(name, backend)
            except OrchestratorError as error:
                _log.warning("sweep of backend %s put off: %s", name, error)

    async def _take_over_unsure(self) -> None:
        self._engine.unsure = False
        try:
            for facts in await self._journal.live():
                self._engine.adopt(fold(facts))
        except OrchestratorError as error:
            self._engine.unsure = True
            _log.warning("the journal cannot be read: %s", error)

    async def _orphans(self, name: str, backend: Backend) -> None:
        unowned = frozenset(
            view.name for view in await backend.list() if self._engine.record_of_runner(view.name) is None
        )
        for runner in unowned & self._suspects.get(name, frozenset()):
            _log.warning("runner %s belongs to no job; deleting it", runner)
            await backend.delete(runner)
            self.orphans_deleted += 1
        self._suspects[name] = unowned
