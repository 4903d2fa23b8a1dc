"""The level-triggered look at everything, which alone would be enough to converge.

Every live job is looked at; every runner that no live job owns is deleted after two sweeps in a row have
found it so (two proofs: a job just taken in must not lose its runner to a sweep that read too early).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from orchestrator.errors import OrchestratorError
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import Backend
from orchestrator.model.runner import RunnerName

_log = logging.getLogger(__name__)

_LOOKS_IN_A_ROW = 64
"""Jobs looked at before others get a turn: a queue of ten thousand must not hold the event loop for half a second."""


class Sweep:
    """`orphans_deleted` counts runners without a job that were removed."""

    def __init__(self, engine: Engine, backends: Mapping[str, Backend]) -> None:
        self._engine = engine
        self._backends = backends
        self._suspects: dict[str, frozenset[RunnerName]] = {}
        self.orphans_deleted = 0

    async def run(self) -> None:
        """One sweep. A backend that fails, or gives no answer, is left for the next one; it holds up no other."""
        for number, job_id in enumerate(self._engine.live_ids()):
            if number % _LOOKS_IN_A_ROW == 0:
                await asyncio.sleep(0)
            self._engine.look_at(job_id)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settle_offers())
            for name, backend in self._backends.items():
                group.create_task(self._sweep(name, backend))

    async def _settle_offers(self) -> None:
        for job_id in tuple(self._engine.unsure):
            try:
                await self._engine.settle(job_id)
            except Exception as error:  # noqa: BLE001 -- one job's damaged facts are not the others' concern
                _log.warning("the offer of job %s stays in doubt: %s", job_id, error)

    async def _sweep(self, name: str, backend: Backend) -> None:
        try:
            await self._orphans(name, backend)
        except OrchestratorError as error:
            _log.warning("sweep of backend %s put off: %s", name, error)
        except Exception:  # noqa: BLE001 -- an adapter's defect stays with its backend
            _log.exception("sweep of backend %s failed", name)

    async def _orphans(self, name: str, backend: Backend) -> None:
        wait = self._engine.patience.wait
        views = await wait(backend.list())
        unowned = frozenset(view.name for view in views if self._engine.record_of_runner(view.name) is None)
        suspects = self._suspects.get(name, frozenset())
        self._suspects[name] = unowned
        for runner in unowned & suspects:
            _log.warning("runner %s belongs to no job; deleting it", runner)
            try:
                await wait(backend.delete(runner))
            except OrchestratorError as error:
                _log.warning("runner %s not deleted: %s", runner, error)
            else:
                self.orphans_deleted += 1
