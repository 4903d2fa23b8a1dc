"""The jobs of one configured GitHub URL that webhooks tell of, as a source: everything of it behind one front."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.naming import JobNaming
from orchestrator.intake.github.registrations import Registrations, SetPlace
from orchestrator.intake.github.rest.objects import RateLimit
from orchestrator.intake.github.rest.runners import LabelRule, RestRunners
from orchestrator.intake.github.scale_sets.runners import SetRunners
from orchestrator.intake.github.scale_sets.status import SetPicture, Stage, by_state, waiting_for
from orchestrator.intake.github.source_config import EngineOf, FreeRunners, SourceConfig
from orchestrator.intake.github.stats import EndpointCount
from orchestrator.intake.github.sweep import RunnerSweep
from orchestrator.intake.github.tally import Tally
from orchestrator.intake.github.webhooks.inbox import WebhookInbox
from orchestrator.intake.github.webhooks.job_table import JobTable, Place
from orchestrator.intake.github.webhooks.poll import MissedDeliveries, QueuedJobs
from orchestrator.intake.github.webhooks.work import WebhookWork
from orchestrator.lifecycle.ports import Withdrawn
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.model.source import Failure

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
    """The source at one moment. `waiting` are deliveries not yet looked into, `again` failed deliveries that were asked
    for once more. `calls` counts requests to GitHub by endpoint, and `endpoints` tells more of them; `calls_per_job` is
    all of them over the jobs that ended, 0 before the first. `failure` is what does not work now."""

    name: str
    url: str
    waiting: int
    again: int
    rules: tuple[SetPicture, ...]
    counts: Mapping[str, int]
    calls: Mapping[str, int]
    calls_per_job: float
    limits: Mapping[str, RateLimit]
    endpoints: Mapping[str, EndpointCount]
    failure: Failure | None

    @property
    def error_reason(self) -> str:
        """Of the failure; empty while all works."""
        return self.failure.reason if self.failure is not None else ""


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
        self._free = free
        self._github = github
        self._inbox = inbox
        self.tally = Tally()
        runners = RestRunners(github.rest, config.rules, config.mark)
        self._registrations = Registrations(
            source=name,
            client=runners,
            engine=engine,
            place=self._place,
            tally=self.tally,
            busy_limit_seconds=timing.busy_limit,
        )
        # A webhook tells of all runners of the organisation, also of those that others made and called as they liked.
        ids_of = self._registrations.ids_of
        self.naming = JobNaming(
            name, facts, github.rest, engine, self.tally, ids_of=ids_of, hook_patience=timing.hook_patience
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
            name,
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
        self._stage = Stage.STARTING
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look into what comes in. Nothing that GitHub does or lacks makes this fail."""
        assert self._task is None, "a source is started once"
        for runners in self._rules:
            runners.adopt()
        self._stage = Stage.LISTENING
        self._task = asyncio.create_task(self._run(), name=f"github webhooks {self._config.source.name}")

    async def stop(self) -> None:
        """Stop; what came in and was not looked into waits on disk. Safe to call twice."""
        self._stage = Stage.STOPPED
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("the webhooks of %s had ended by themselves", self._config.source.name, exc_info=error)
        await self._work.close()

    async def _run(self) -> None:
        config, work, often = self._config, self._work, self._work.again_and_again
        queued, missed, sweep = config.queued_seconds, config.deliveries_seconds, config.source.timing.sweep
        async with asyncio.TaskGroup() as group:
            group.create_task(work.read_inbox())
            group.create_task(work.tend())
            group.create_task(often("looking for queued jobs", queued, self.look_for_queued, at_once=True))
            group.create_task(often("the sweep", sweep, self.sweep))
            if config.ask_deliveries:
                group.create_task(often("asking for lost deliveries", missed, self._missed.look, at_once=True))

    async def look_for_queued(self) -> None:
        """Ask for queued jobs once, and act on them.

        Raises:
            TryAgainError: not all of it was done.
        """
        await self._work.act(await self._queued.look())

    async def sweep(self) -> None:
        """Compare GitHub's list of our runners with the records once.

        Raises:
            OrchestratorError: GitHub did not answer.
        """
        for runners in self._rules:
            runners.adopt()
        await self._sweep.run()

    def set_draining(self, draining: bool) -> None:
        """Demand no more runners, or do again."""
        self._work.draining = draining
        self._work.look_soon()

    async def let_go(self, ids: Collection[JobId]) -> None:
        """See `SetRunners.let_go`."""
        for runners in self._rules:
            await runners.let_go(ids)

    def capacity_changed(self) -> None:
        """A pool may have more room now; a hint that costs nothing."""
        self._work.look_soon()

    async def report(self, record: Record) -> None:
        """GitHub learns of a job's end from its runner; only the rule has to know that this one is gone."""
        for runners in self._rules:
            if runners.owns(record):
                runners.ended(record)
                self._work.look_soon()

    async def revoke(self, record: Record) -> Sequence[Withdrawn] | None:
        """See `Registrations.revoke`."""
        return await self._registrations.revoke(record)

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
        stats, ended = self._github.stats(), self.tally.completed
        return WebhookPicture(
            name=self._config.source.name,
            url=self._config.source.issuer,
            waiting=self._inbox.waiting,
            again=self._missed.again,
            rules=tuple(self._picture(number) for number in range(len(self._rules))),
            counts=self.tally.counts(),
            calls={endpoint: count.calls for endpoint, count in stats.endpoints.items()},
            calls_per_job=stats.calls / ended if ended else 0.0,
            limits=stats.limits,
            endpoints=stats.endpoints,
            failure=self._work.failure,
        )

    def _picture(self, number: int) -> SetPicture:
        """Of one rule. GitHub keeps no count of it, and is told of none."""
        config, runners = self._config.rules[number].runners, self._rules[number]
        slots, free, failure = by_state(runners.slots()), self._free(config.pool), self._work.failure
        return SetPicture(
            name=config.key,
            pool=config.pool,
            stage=self._stage.value,
            set_id=_NO_SCALE_SET,
            announced=0,
            polled_at_ns=0,
            heard_at_ns=0,
            statistics=None,
            slots=slots,
            queued=len(self._table.queued(number)),
            short=runners.short,
            withheld=runners.withheld,
            waiting_for=waiting_for(failure, slots, withheld=runners.withheld, short=runners.short, free=free),
            failure=None,
            labels_lacking=(),
            waits=self.naming.waits.of(config.key),
        )
