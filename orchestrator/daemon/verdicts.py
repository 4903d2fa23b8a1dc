"""What gateways report becomes facts of the jobs: gathered for a moment, written in batches, never lost quietly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from orchestrator.errors import GiveUpError
from orchestrator.lifecycle.engine import Engine
from orchestrator.model.events import EgressDecided, Event
from orchestrator.model.hostname import MAX_HOST
from orchestrator.model.runner import RunnerName

_log = logging.getLogger(__name__)

_SHOWN_OF_NO_NAME = 32

EngineOf = Callable[[], Engine]


class VerdictNotes:
    """Verdicts and alarms by runner, on their way into the journal.

    A host is the job's own word, so `mask` is applied to it.
    """

    def __init__(self, engine: EngineOf, mask: Callable[[str], str]) -> None:
        self._engine = engine
        self._mask = mask
        self._unwritten: dict[RunnerName, list[Event]] = {}
        self._writing: dict[RunnerName, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._soon: set[RunnerName] = set()

    def verdict(self, runner: RunnerName, verdict: EgressDecided) -> None:
        """Take a gateway's verdict."""
        # What is longer than any name (RFC 1035) was cut by the gateway, perhaps in the middle of a secret.
        host = verdict.host if len(verdict.host) <= MAX_HOST else f"{verdict.host[:_SHOWN_OF_NO_NAME]}…"
        self.add(runner, replace(verdict, host=self._mask(host)))

    def add(self, runner: RunnerName, event: Event) -> None:
        """Take a fact of this runner's job."""
        self._unwritten.setdefault(runner, []).append(event)
        if runner not in self._soon:  # also when older ones wait that the journal did not take
            self._soon.add(runner)
            task = asyncio.get_running_loop().create_task(self._write_soon(runner), name=f"verdicts {runner}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settled(self, runner: RunnerName) -> None:
        """Return when all that was taken for this runner is durable, or its job is finished.

        Raises:
            TryAgainError: the journal cannot take it now; it is kept.
        """
        async with self._writing.setdefault(runner, asyncio.Lock()):
            self._soon.discard(runner)  # what comes from here on is too late for this turn
            waiting = self._unwritten.pop(runner, [])
            record = self._engine().record_of_runner(runner)
            if record is None:
                self._writing.pop(runner, None)
            if not waiting or record is None:
                return
            try:
                await self._engine().note(record.id, *waiting)
            except GiveUpError:
                return
            except BaseException:
                self._unwritten[runner] = waiting + self._unwritten.get(runner, [])
                raise

    async def close(self, runner: RunnerName) -> None:
        """`settled`, and forget the runner."""
        await self.settled(runner)
        self._writing.pop(runner, None)

    async def stop(self) -> None:
        """Write what waits, as far as the journal takes it."""
        await asyncio.gather(*self._tasks)

    async def _write_soon(self, runner: RunnerName) -> None:
        try:
            await self.settled(runner)
        except Exception as error:  # noqa: BLE001 -- kept in memory; `settled` writes it or fails aloud
            _log.warning("egress verdicts of %s wait for the journal: %s", runner, error)
