"""The jobs of one configured GitHub URL that webhooks tell of, as a source: everything of it behind one front."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.job_table import JobTable, Place
from orchestrator.intake.github.naming import JobNaming
from orchestrator.intake.github.registrations import Registrations, SetPlace
from orchestrator.intake.github.rest_poll import MissedDeliveries, QueuedJobs
from orchestrator.intake.github.rest_runners import LabelRule, RestRunners
from orchestrator.intake.github.set_runners import SetRunners
from orchestrator.intake.github.source_config import EngineOf, FreeRunners, SourceConfig
from orchestrator.intake.github.sweep import RunnerSweep
from orchestrator.intake.github.tally import Tally
from orchestrator.intake.github.webhook_inbox import WebhookInbox
from orchestrator.intake.github.webhook_work import WebhookWork
from orchestrator.model.record import Record

_NO_SCALE_SET = 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """`source.scale_sets` are the rules' runners, in the same order. `mark` is a label that only this installation's
    runners have. `hook_id` None is the App's own hook; `ask_deliveries` False where nobody may ask for them. Times are
    seconds."""

    source: SourceConfig
    rules: tuple[LabelRule, ...]
    mark: str
    places: tuple[Place, ...] = ()
    hook_id: int | None = None
    ask_deliveries: bool = True
    queued_seconds: float = 300.0
    deliveries_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class WebhookPicture:
    """The source at one moment. `waiting` are deliveries not yet looked into, `queued` jobs without a runner by rule,
    `slots` runners by rule and state, `again` failed deliveries that were asked for once more. `error` is the last one,
    empty when the last call went well."""

    name: str
    url: str
    waiting: int
    queued: Mapping[str, int]
    slots: Mapping[str, Mapping[str, int]]
    counts: Mapping[str, int]
    calls: Mapping[str, int]
    again: int
    error_reason: str
    error: str


class WebhookSource:
    """`lifecycle.ports.JobSource` and `Revoker` for its records, and the port that makes their work.

    The engine must have adopted the journal's records before `start`.
    """

    def __init__(
        self,
        *,
        config: WebhookConfig,
        github: GitHub,
        facts: JobFacts,
        inbox: WebhookInbox,
        engine: EngineOf,
        free: FreeRunners,
    ) -> None:
        name, timing = config.source.name, config.source.timing
        self._config = config
        self._github = github
        self._inbox = inbox
        self.tally = Tally()
        self.naming = JobNaming(name, facts, github.rest, engine, self.tally)
        runners = RestRunners(github.rest, config.rules, config.mark)
        self._registrations = Registrations(
            source=name,
            client=runners,
            engine=engine,
            place=self._place,
            tally=self.tally,
            busy_limit_seconds=timing.busy_limit,
        )
        self._rules = tuple(
            SetRunners(config.source, rule.runners, engine, free, self._registrations, self.tally)
            for rule in config.rules
        )
        self._table = JobTable([rule.runners.labels for rule in config.rules])
        self._queued = QueuedJobs(github.rest, self._table, config.places)
        self._missed = MissedDeliveries(github.rest, inbox, config.hook_id, time.time_ns)
        self._sweep = RunnerSweep(
            source=name,
            runners=runners,
            engine=engine,
            naming=self.naming,
            set_ids=lambda: (_NO_SCALE_SET,),
            tally=self.tally,
        )
        self._work = WebhookWork(
            rest=github.rest,
            inbox=inbox,
            table=self._table,
            queued=self._queued,
            naming=self.naming,
            facts=facts,
            rules=self._rules,
            timing=timing,
            tally=self.tally,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look into what comes in. Nothing that GitHub does or lacks makes this fail."""
        assert self._task is None, "a source is started once"
        for runners in self._rules:
            runners.adopt()
        self._task = asyncio.create_task(self._run(), name=f"github webhooks {self._config.source.name}")

    async def stop(self) -> None:
        """Stop; what came in and was not looked into waits on disk. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("the webhooks of %s had ended by themselves", self._config.source.name, exc_info=error)

    async def _run(self) -> None:
        config, work = self._config, self._work
        async with asyncio.TaskGroup() as group:
            group.create_task(work.read_inbox())
            group.create_task(work.tend())
            group.create_task(work.again_and_again(config.queued_seconds, self.look_for_queued, at_once=True))
            group.create_task(work.again_and_again(config.source.timing.sweep, self.sweep))
            if config.ask_deliveries:
                group.create_task(work.again_and_again(config.deliveries_seconds, self._missed.look, at_once=True))

    async def look_for_queued(self) -> None:
        """Ask for queued jobs once, and act on them.

        Raises:
            TryAgainError: not all of it was done.
        """
        await self._work.act(await self._queued.look())

    async def look_for_missed(self) -> None:
        """Ask for deliveries that failed once more.

        Raises:
            OrchestratorError: GitHub did not answer, or does not let us.
        """
        await self._missed.look()

    async def sweep(self) -> None:
        """Compare GitHub's list of our runners with the records once.

        Raises:
            OrchestratorError: GitHub did not answer.
        """
        for runners in self._rules:
            runners.adopt()
        await self._sweep.run()

    def begin_drain(self) -> None:
        """Demand no more runners."""
        self._work.draining = True

    def capacity_changed(self) -> None:
        """A pool may have more room now; a hint that costs nothing."""
        self._work.look_soon()

    async def report(self, record: Record) -> None:
        """GitHub learns of a job's end from its runner; only the rule has to know that this one is gone."""
        for runners in self._rules:
            if runners.owns(record):
                runners.ended(record)
                self._work.look_soon()

    async def revoke(self, record: Record) -> None:
        """See `Registrations.revoke`."""
        await self._registrations.revoke(record)

    async def work_files(self, record: Record) -> Mapping[str, str]:
        """See `Registrations.files`."""
        return await self._registrations.files(record)

    async def _place(self, record: Record) -> SetPlace | None:
        for number, runners in enumerate(self._rules):
            if runners.owns(record):
                return SetPlace(number, self._config.rules[number].runners.work_folder)
        return None

    def status(self) -> WebhookPicture:
        """For the read API and metrics. Must not block."""
        error, stats = self._work.error, self._github.stats()
        keys = [rule.runners.key for rule in self._config.rules]
        return WebhookPicture(
            name=self._config.source.name,
            url=self._config.source.issuer,
            waiting=self._inbox.waiting,
            queued={key: len(self._table.queued(number)) for number, key in enumerate(keys)},
            slots={key: runners.counts() for key, runners in zip(keys, self._rules, strict=True)},
            counts=self.tally.counts(),
            calls={endpoint: count.calls for endpoint, count in stats.endpoints.items()},
            again=self._missed.again,
            error_reason=error.reason if error else "",
            error=str(error) if error else "",
        )
