"""What is done about the jobs that webhooks and polls lead to: fetched, given a runner, named, and told how they ended.

A webhook is a hint and no more. What counts is what GitHub's API shows of the job; how many runners there must be
follows from the jobs that are queued now.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.names import runner_of
from orchestrator.intake.github.naming import JobNaming
from orchestrator.intake.github.rest.client import RestClient
from orchestrator.intake.github.scale_sets.demand import Backoff, SlotState
from orchestrator.intake.github.scale_sets.messages import JobMessageKind
from orchestrator.intake.github.scale_sets.runners import SetRunners
from orchestrator.intake.github.source_config import SourceTiming
from orchestrator.intake.github.tally import Tally
from orchestrator.intake.github.telling import wait_after
from orchestrator.intake.github.trouble import Trouble, first_failure
from orchestrator.intake.github.webhooks.delivery import JobHint
from orchestrator.intake.github.webhooks.inbox import WebhookInbox
from orchestrator.intake.github.webhooks.job_table import JobTable, KnownJob, Place
from orchestrator.intake.github.webhooks.poll import Found, QueuedJobs
from orchestrator.model.runner import runner_name
from orchestrator.model.source import Failure

_AT_ONCE: Final = 16
"""Hints that are looked into at once."""

MAX_TRIES: Final = 30
"""Of one delivery: with pauses of up to a minute half an hour, after which only polling leads to its job."""

_log = logging.getLogger(__name__)


class WebhookWork:
    """`rules` are the runners of each label rule, in the table's order."""

    def __init__(
        self,
        source: str,
        *,
        rest: RestClient,
        inbox: WebhookInbox,
        table: JobTable,
        queued: QueuedJobs,
        naming: JobNaming,
        facts: JobFacts,
        rules: Sequence[SetRunners],
        timing: SourceTiming,
        tally: Tally,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._rest = rest
        self._inbox = inbox
        self._table = table
        self._queued = queued
        self._naming = naming
        self._facts = facts
        self._rules = tuple(rules)
        self._timing = timing
        self._tally = tally
        self._now = now
        self._changed = asyncio.Event()
        self._tries: dict[str, int] = {}
        self._naming_now: set[asyncio.Task[None]] = set()
        self.draining = False
        """Demand no more runners."""
        self._troubles: dict[str, Trouble] = {}

    @property
    def failure(self) -> Failure | None:
        """What of the loops does not work now."""
        return first_failure(*self._troubles.values())

    def look_soon(self) -> None:
        """Runners may have ended; a hint that costs nothing."""
        self._changed.set()

    async def read_inbox(self) -> None:
        """Look into what came in, until cancelled. What cannot be looked into now stays there."""
        backoff, trouble = self._backoff(), self._trouble("looking into deliveries")
        while True:
            await self._inbox.arrival()
            await asyncio.sleep(await self._tried(self._read_some, backoff, trouble))

    async def _read_some(self) -> None:
        """One batch. Raises TryAgainError when some of it has to be looked into again."""
        hints = await self._inbox.pending(_AT_ONCE)
        by_job: dict[int, list[JobHint]] = {}
        for hint in hints:
            by_job.setdefault(hint.job_id, []).append(hint)
        answers = await asyncio.gather(*(self._look_into(group[-1]) for group in by_job.values()))
        errors = [error for error in answers if error is not None]
        done = [group for group, error in zip(by_job.values(), answers, strict=True) if error is None]
        over = {hint.delivery for group in done for hint in group}
        again = {hint.delivery: self._tries.get(hint.delivery, 0) + 1 for hint in hints if hint.delivery not in over}
        given_up = {delivery for delivery, tries in again.items() if tries >= MAX_TRIES}
        self._tries = {**self._tries, **again}
        for delivery in over | given_up:
            self._tries.pop(delivery, None)
        await self._inbox.done(over | given_up)
        if errors:
            await self._inbox.put_off(again)
            raise errors[0]

    async def _look_into(self, hint: JobHint) -> TryAgainError | None:
        """The job as the API shows it. A hint that leads nowhere is dropped: it may have been a lie."""
        place = Place(hint.owner, hint.repository)
        try:
            job = await self._rest.job(hint.owner, hint.repository, hint.job_id)
            if job.run_id != hint.run_id:
                _log.warning("a webhook named job %d of another run; it is dropped", hint.job_id)
                return None
            self._queued.heard_of(place)
            await self.act([Found(place, job)])
        except TryAgainError as error:
            return error
        except GiveUpError as error:
            _log.warning("job %d that a webhook named cannot be looked at: %s", hint.job_id, error)
        return None

    async def act(self, found: Iterable[Found]) -> None:
        """Do what these jobs want, durably.

        Raises:
            TryAgainError: not all of it was done; the jobs are to be looked at again.
        """
        news = [known for one in found if (known := self._table.see(one.place, one.job)) is not None]
        errors = [await self._demand(number, news) for number in range(len(self._rules))]
        errors += await asyncio.gather(*map(self._tell, news))
        self._changed.set()
        failed = next((error for error in errors if error is not None), None)
        if failed is not None:
            raise failed

    async def _tell(self, known: KnownJob) -> TryAgainError | None:
        """The engine learns which job a runner of ours has, and how it ended.

        When that fails the table forgets, so that the same hint or the next poll tells it as news once more.
        """
        if runner_of(known.job.runner_name) is None:
            return None
        self._facts.saw(known.job)
        if known.job.status != "completed":
            # The runner's hook goes first, and nobody else's job waits for that.
            naming = asyncio.create_task(self._name(known), name=f"name job {known.job.id}")
            self._naming_now.add(naming)
            naming.add_done_callback(self._naming_now.discard)
            return None
        try:
            await self._naming.started(known.message(JobMessageKind.STARTED), over=True)
            await self._naming.completed(known.message(JobMessageKind.COMPLETED))
        except TryAgainError as error:
            self._table.forget(known.job.id)
            return error
        return None

    async def _name(self, known: KnownJob) -> None:
        """A name that cannot be found now is looked for again when the job's end is told, or the next poll sees it."""
        try:
            await self._naming.started(known.message(JobMessageKind.STARTED))
        except OrchestratorError as error:
            self._table.forget(known.job.id)
            _log.warning("job %d is not named by a webhook: %s", known.job.id, error)
        except Exception:  # noqa: BLE001 -- one job's defect is not the others'
            _log.exception("job %d is not named by a webhook", known.job.id)

    async def close(self) -> None:
        """End what goes on beside the loops."""
        under_way = tuple(self._naming_now)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _demand(self, number: int, news: Sequence[KnownJob]) -> TryAgainError | None:
        """As many runners as jobs that are queued, besides those that have one."""
        queued = [known for known in news if known.rule == number and known.job.status == "queued"]
        if not queued or self.draining:
            return None
        announced = [known.message(JobMessageKind.ASSIGNED) for known in queued]
        try:
            await self._rules[number].demand(self._assigned(number), 0, announced)
        except TryAgainError as error:
            for known in queued:
                self._table.forget(known.job.id)
            return error
        return None

    def _assigned(self, number: int) -> int:
        """The count that a scale set's statistics would give: queued jobs, and those on runners of ours."""
        slots = [slot for slot in self._rules[number].slots() if slot.counts]
        if self.draining:
            return len(slots)
        taken = {runner_of(known.job.runner_name) for known in self._table.running(number)}
        busy = sum(slot.state is SlotState.BUSY or runner_name(slot.job_id) in taken for slot in slots)
        return len(self._table.queued(number)) + busy

    async def tend(self) -> None:
        """Look after the rules' runners whenever something may have changed, until cancelled."""
        backoff, trouble = self._backoff(), self._trouble("tending runners")
        while True:
            due = min((rule.look_at for rule in self._rules if rule.look_at is not None), default=None)
            try:
                async with asyncio.timeout(None if due is None else max(due - self._now(), 0.01)):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            if wait := await self._tried(self._look, backoff, trouble):
                await asyncio.sleep(wait)
                self._changed.set()

    async def _look(self) -> None:
        for number, runners in enumerate(self._rules):
            runners.assigned = self._assigned(number)
            await runners.look()
            for record in runners.silent():
                self._tally.mended += await self._naming.ask_for_end(record)

    async def again_and_again(
        self, what: str, seconds: float, work: Callable[[], Awaitable[None]], *, at_once: bool = False
    ) -> None:
        """Work every so many seconds, until cancelled; what failed is tried sooner. `what` names it for people."""
        backoff, trouble = self._backoff(), self._trouble(what)
        wait = 0.0 if at_once else seconds
        while True:
            await asyncio.sleep(wait)
            wait = await self._tried(work, backoff, trouble) or seconds
            self.look_soon()

    def _backoff(self) -> Backoff:
        return Backoff(self._timing.retry_first, self._timing.retry_longest)

    def _trouble(self, what: str) -> Trouble:
        return self._troubles.setdefault(what, Trouble(f"{what} of GitHub source {self._source}"))

    async def _tried(self, work: Callable[[], Awaitable[None]], backoff: Backoff, trouble: Trouble) -> float:
        """Do it; how long to wait before it is tried again, 0 when it went well. A defect ends nobody's loop."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 -- told, and the next look finds what this one did not
            if not isinstance(error, OrchestratorError):
                _log.exception("webhooks of GitHub source %s met an internal error", self._source)
            trouble.met(error)
            return wait_after(backoff, self._now(), error)
        trouble.over()
        backoff.succeeded()
        return 0.0
