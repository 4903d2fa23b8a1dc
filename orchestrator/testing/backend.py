"""Runners in memory, with faults, that remember everything that was ever done to them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import GiveUpError
from orchestrator.lifecycle.ports import Clock, RunnerIdentity
from orchestrator.model.journey import Journey
from orchestrator.model.runner import ExitCause, Pending, RunnerName, RunnerSpec, RunnerState, RunnerView
from orchestrator.testing.faults import Fault, FaultPlan, raise_for


@dataclass(frozen=True, slots=True)
class _Runner:
    spec_digest: str
    view: RunnerView


class MemoryBackend:
    """Implements `Backend` and `RunnerCredentials`; a runner's credential is `token:` and its uid.

    `created_uids` lists every runner ever made, `journeys` is what it says of their ways; `faults` hits create,
    inspect, delete and list alike. The object outlives an engine, as a cluster outlives a daemon.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.faults = FaultPlan()
        self.created_uids: list[tuple[RunnerName, str]] = []
        self.journeys: dict[RunnerName, Journey] = {}
        self._clock = clock
        self._runners: dict[RunnerName, _Runner] = {}
        self._watchers: list[Callable[[RunnerName], None]] = []

    async def create(self, spec: RunnerSpec) -> RunnerView:
        fault = await self._fault()
        there = self._runners.get(spec.name)
        if there is not None:
            if there.spec_digest != spec.digest:
                raise GiveUpError(f"{spec.name} exists with another spec", reason="runner_name_clash")
            await self._answer(fault)
            return there.view
        if fault in (Fault.FAILED, Fault.REFUSED, Fault.NO_ROOM):
            raise_for(fault)
        uid = hashlib.sha256(f"{spec.name}/{len(self.created_uids)}".encode()).hexdigest()[:16]
        view = RunnerView(spec.name, RunnerState.ALIVE, uid)
        if fault is not Fault.FORGOTTEN:
            self._runners[spec.name] = _Runner(spec.digest, view)
            self.created_uids.append((spec.name, uid))
        await self._answer(fault)
        return view

    async def inspect(self, name: RunnerName) -> RunnerView:
        fault = await self._fault()
        view = self.view(name)
        if fault is not Fault.FORGOTTEN:
            await self._answer(fault)
        return view

    async def delete(self, name: RunnerName) -> None:
        fault = await self._fault()
        if fault in (Fault.FAILED, Fault.REFUSED, Fault.NO_ROOM):
            raise_for(fault)
        if fault is not Fault.FORGOTTEN and self._runners.pop(name, None) is not None:
            self._changed(name)
        await self._answer(fault)

    async def list(self) -> Sequence[RunnerView]:
        fault = await self._fault()
        views = [runner.view for runner in self._runners.values()]
        await self._answer(fault)
        return views

    def journey(self, name: RunnerName) -> Journey | None:
        return self.journeys.get(name)

    def subscribe(self, changed: Callable[[RunnerName], None]) -> None:
        self._watchers.append(changed)

    async def verify(self, credential: str) -> RunnerIdentity | None:
        for runner in self._runners.values():
            if credential == f"token:{runner.view.uid}" and runner.view.state is RunnerState.ALIVE:
                return RunnerIdentity(runner.view.name, runner.view.uid)
        return None

    # What happens inside and around runners.

    def view(self, name: RunnerName) -> RunnerView:
        runner = self._runners.get(name)
        return runner.view if runner else RunnerView(name, RunnerState.ABSENT)

    def names(self) -> Sequence[RunnerName]:
        return tuple(self._runners)

    def exit(self, name: RunnerName, code: int = 0, cause: ExitCause = ExitCause.EXITED, *, tell: bool = True) -> None:
        """The runner ends by itself; `tell=False` loses the event, so that only a sweep finds out."""
        runner = self._runners.get(name)
        if runner is None or runner.view.state is not RunnerState.ALIVE:
            return
        ended = replace(runner.view, state=RunnerState.EXITED, exit_code=code, cause=cause, pending=None)
        self._runners[name] = replace(runner, view=ended)
        if tell:
            self._changed(name)

    def hinder(self, name: RunnerName, pending: Pending | None, *, tell: bool = True) -> None:
        """Something keeps the runner from starting, or no longer does."""
        runner = self._runners.get(name)
        if runner is None or runner.view.state is not RunnerState.ALIVE:
            return
        self._runners[name] = replace(runner, view=replace(runner.view, pending=pending))
        if tell:
            self._changed(name)

    def vanish(self, name: RunnerName, *, tell: bool = True) -> None:
        """Somebody else removed it."""
        if self._runners.pop(name, None) is not None and tell:
            self._changed(name)

    def unwatch(self) -> None:
        """Forget all watchers, as when the daemon that watched was killed."""
        self._watchers.clear()

    async def _fault(self) -> Fault:
        fault = self.faults.next()
        if fault is Fault.DELAYED and self._clock is not None:
            await self._clock.sleep(3)
        return fault

    async def _answer(self, fault: Fault) -> None:
        """Let the caller wait, or raise what it is to see."""
        if fault is Fault.LATE and self._clock is not None:
            await self._clock.sleep(3)
        if fault is Fault.HANGING:
            await asyncio.get_running_loop().create_future()
        raise_for(fault)

    def _changed(self, name: RunnerName) -> None:
        for watcher in tuple(self._watchers):
            watcher(name)
