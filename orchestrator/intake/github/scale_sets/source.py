"""The scale sets of one configured GitHub URL as a source of jobs: everything of it behind one front."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import OrchestratorError
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.naming import JobNaming
from orchestrator.intake.github.registrations import Registrations, SetPlace
from orchestrator.intake.github.rest.objects import RateLimit
from orchestrator.intake.github.scale_sets.acquire import Acquirer
from orchestrator.intake.github.scale_sets.runners import SetRunners
from orchestrator.intake.github.scale_sets.session_loop import SessionLoop
from orchestrator.intake.github.scale_sets.set_session import SetSession
from orchestrator.intake.github.scale_sets.status import SetPicture, SetStatus, by_state, waiting_for
from orchestrator.intake.github.source_config import (
    EngineOf,
    ForgetfulNotes,
    FreeRunners,
    ScaleSetConfig,
    SessionNotes,
    SourceConfig,
)
from orchestrator.intake.github.stats import EndpointCount
from orchestrator.intake.github.sweep import RunnerSweep
from orchestrator.intake.github.tally import Tally
from orchestrator.intake.github.trouble import Trouble
from orchestrator.lifecycle.ports import Withdrawn
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.model.source import Failure

_KNOWN_WITHIN = 15.0
"""Seconds that a claim waits for its scale set to be found, just after the start."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """A source at one moment. `calls` counts requests to GitHub by endpoint, and `endpoints` tells more of them;
    `calls_per_job` is all of them over the jobs that ended (0 before the first one); `counts` are those of `Tally`.
    `failure` is what fails beside the sets' own."""

    name: str
    url: str
    sets: tuple[SetPicture, ...]
    counts: Mapping[str, int]
    calls: Mapping[str, int]
    calls_per_job: float
    limits: Mapping[str, RateLimit]
    endpoints: Mapping[str, EndpointCount]
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class _Set:
    config: ScaleSetConfig
    keeper: SetSession
    runners: SetRunners
    loop: SessionLoop
    status: SetStatus


class GitHubSource:
    """`lifecycle.ports.JobSource` and `Revoker` for the records of its sets, and the port that makes their work.

    The engine must have adopted the journal's records before `start`. `notes` lets a daemon end the session that one
    before it, which was killed, left open.
    """

    def __init__(
        self,
        *,
        config: SourceConfig,
        github: GitHub,
        facts: JobFacts,
        engine: EngineOf,
        free: FreeRunners,
        notes: SessionNotes | None = None,
    ) -> None:
        self._config = config
        self._github = github
        self._engine = engine
        self._free = free
        self._notes = notes if notes is not None else ForgetfulNotes()
        self.tally = Tally()
        self._registrations = Registrations(
            source=config.name,
            client=github.actions,
            engine=engine,
            place=self._place,
            tally=self.tally,
            busy_limit_seconds=config.timing.busy_limit,
        )
        names_of = self._registrations.names_of
        self.naming = JobNaming(
            config.name, facts, github.rest, engine, self.tally, names_of, config.timing.hook_patience
        )
        self._sets = {one.key: self._set(one) for one in config.scale_sets}
        self._sweep = RunnerSweep(
            source=config.name,
            runners=github.actions,
            engine=engine,
            naming=self.naming,
            set_ids=self._set_ids,
            tally=self.tally,
        )
        self._sweeping = Trouble(f"the sweep of GitHub source {config.name}")
        self._task: asyncio.Task[None] | None = None

    def _set(self, one: ScaleSetConfig) -> _Set:
        config, timing = self._config, self._config.timing
        status = SetStatus(config.name, one.key)
        keeper = SetSession(self._github.actions, one, config.owner, self._notes, self.tally)
        runners = SetRunners(config, one, self._engine, self._free, self._registrations, self.tally)
        loop = SessionLoop(
            client=self._github.actions,
            keeper=keeper,
            runners=runners,
            acquirer=Acquirer(self._github.actions, self.tally, timing.acquirable_pace),
            naming=self.naming,
            timing=timing,
            tally=self.tally,
            status=status,
        )
        return _Set(one, keeper, runners, loop, status)

    async def start(self) -> None:
        """Begin to listen. Nothing that GitHub does or lacks makes this fail: the status shows it."""
        assert self._task is None, "a source is started once"
        for one in self._sets.values():
            one.runners.adopt()
        self._task = asyncio.create_task(self._run(), name=f"github source {self._config.name}")

    async def stop(self) -> None:
        """Stop listening and end the sessions, within the time that the configuration gives. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("the GitHub source %s had ended by itself", self._config.name, exc_info=error)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for one in self._sets.values():
                group.create_task(one.loop.run(), name=f"scale set {one.config.key}")
            group.create_task(self._sweep_on(), name=f"sweep of {self._config.name}")

    async def _sweep_on(self) -> None:
        """While nothing runs and nothing is suspicious there is little to find."""
        timing = self._config.timing
        idle = timing.idle_sweep  # an earlier daemon may have left something
        while True:
            await asyncio.sleep(timing.sweep)
            idle += timing.sweep
            busy = any(one.runners.slots() for one in self._sets.values())
            if not (busy or self._sweep.suspicious) and idle < timing.idle_sweep:
                continue
            idle = 0.0
            await self.sweep()

    async def sweep(self) -> None:
        """Compare with GitHub once. Never raises but for cancellation."""
        for one in self._sets.values():
            one.runners.adopt()
        try:
            await self._sweep.run()
        except OrchestratorError as error:
            self._sweeping.met(error)
        except Exception as error:  # noqa: BLE001 -- the next sweep finds what this one did not
            _log.exception("the sweep of GitHub source %s met an internal error", self._config.name)
            self._sweeping.met(error)
        else:
            self._sweeping.over()
        self.capacity_changed()

    def set_draining(self, draining: bool) -> None:
        """Ask GitHub for no more jobs than there are runners for, or for as many as there is room for again."""
        for one in self._sets.values():
            one.loop.draining = draining
            one.loop.look_soon()

    async def let_go(self, ids: Collection[JobId]) -> None:
        """See `SetRunners.let_go`."""
        for one in self._sets.values():
            await one.runners.let_go(ids)

    def capacity_changed(self) -> None:
        """A pool may have more room now; a hint that costs nothing, for whenever any runner has ended."""
        for one in self._sets.values():
            one.loop.look_soon()

    async def report(self, record: Record) -> None:
        """GitHub learns of a job's end from its runner; only the set has to know that this one is gone."""
        for one in self._sets.values():
            if one.runners.owns(record):
                one.runners.ended(record)
                one.loop.look_soon()

    async def revoke(self, record: Record) -> Sequence[Withdrawn] | None:
        """See `Registrations.revoke`."""
        return await self._registrations.revoke(record)

    async def work_files(self, record: Record) -> Mapping[str, str]:
        """See `Registrations.files`."""
        return await self._registrations.files(record)

    def status(self) -> SourcePicture:
        """For the read API, metrics and benchmarks. Must not block."""
        stats = self._github.stats()
        ended = self.tally.completed
        return SourcePicture(
            name=self._config.name,
            url=self._config.issuer,
            sets=tuple(map(self._picture, self._sets.values())),
            counts=self.tally.counts(),
            calls={endpoint: count.calls for endpoint, count in stats.endpoints.items()},
            calls_per_job=stats.calls / ended if ended else 0.0,
            limits=stats.limits,
            endpoints=stats.endpoints,
            failure=self._sweeping.failure,
        )

    def _picture(self, one: _Set) -> SetPicture:
        status, runners = one.status, one.runners
        slots = by_state(runners.slots())
        return SetPicture(
            name=one.config.key,
            pool=one.config.pool,
            stage=status.stage.value,
            set_id=one.keeper.scale_set.id if one.keeper.scale_set else 0,
            announced=status.announced,
            polled_at_ns=status.polled_at_ns,
            heard_at_ns=status.heard_at_ns,
            statistics=status.statistics,
            slots=slots,
            queued=None,
            short=runners.short,
            withheld=runners.withheld,
            waiting_for=waiting_for(
                status.failure,
                slots,
                withheld=runners.withheld,
                short=runners.short,
                free=self._free(one.config.pool),
            ),
            failure=status.failure,
            labels_lacking=one.keeper.lacking,
            waits=self.naming.waits.of(one.config.key),
        )

    async def _place(self, record: Record) -> SetPlace | None:
        for one in self._sets.values():
            if one.runners.owns(record):
                found = await one.keeper.known(_KNOWN_WITHIN)
                return SetPlace(found.id, one.config.work_folder) if found else None
        return None

    def _set_ids(self) -> frozenset[int]:
        return frozenset(one.keeper.scale_set.id for one in self._sets.values() if one.keeper.scale_set)
