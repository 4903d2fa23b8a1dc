"""A platform says which job a runner of ours got, and later how that job ended: each word durable before it counts."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.errors import GiveUpError
from orchestrator.lifecycle.admit import refusal_reason
from orchestrator.lifecycle.bind import Refusal
from orchestrator.lifecycle.excepted import exception_facts
from orchestrator.lifecycle.live import LiveJob, LiveJobs
from orchestrator.lifecycle.patience import Patience
from orchestrator.lifecycle.platform import judge_naming
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import Journal, Policy
from orchestrator.lifecycle.turns import Turns
from orchestrator.model.events import Event, JobRefused, PlatformJobCompleted, PlatformJobNamed
from orchestrator.model.job import JobId
from orchestrator.model.platform import PlatformJob, PlatformResult
from orchestrator.model.record import Record, as_named
from orchestrator.model.runner import RunnerName


class Namings:
    """One runner for each key of a platform's job, and one key for each runner, over all that the journal knows.

    Who names a key holds it until the name is durable or refused, so that two runners cannot both win it.
    """

    def __init__(
        self,
        journal: Journal,
        jobs: LiveJobs,
        policy: Policy,
        pools: Pools,
        patience: Patience,
        wake: Callable[[JobId], None],
    ) -> None:
        self._journal = journal
        self._jobs = jobs
        self._policy = policy
        self._pools = pools
        self._patience = patience
        self._wake = wake
        self._turns: Turns[str] = Turns()

    async def name(self, runner: RunnerName, job: PlatformJob) -> Record:
        """See `Engine.name_job`."""
        live = self._of(runner)
        try:
            async with self._turns.of(job.key):
                holder = await self._journal.job_named(job.key)
                async with live.lock:
                    if await self._known(live, job, holder):
                        return _allowed(live.record)
                    asked = as_named(live.record, job)
                pool = self._pools.of(asked)
                if pool is None:
                    raise GiveUpError("the runner's pool is not configured any more", reason="unknown_pool")
                # Not under the job's lock: the runner's end must not wait for policy.
                decision = await self._patience.wait(self._policy.admit(asked, pool))
                async with live.lock:
                    if not await self._known(live, job, holder):
                        facts: list[Event] = [PlatformJobNamed(job, decision), *exception_facts(decision)]
                        if not decision.allowed:
                            facts.append(JobRefused(decision))
                        await self._jobs.store(live, facts)
                    return _allowed(live.record)
        finally:
            self._wake(live.record.id)

    async def complete(self, runner: RunnerName, result: PlatformResult) -> Record:
        """See `Engine.complete_job`."""
        live = self._of(runner)
        try:
            async with live.lock:
                await self._jobs.refresh(live)
                record = live.record
                if record.platform is None:
                    raise GiveUpError("this runner's job was known from the start", reason="not_awaiting")
                if record.outcome is not None:
                    raise GiveUpError("the end of the runner's job is recorded", reason="job_ended")
                if not record.bound:
                    raise GiveUpError("this runner was handed no registration yet", reason="runner_unknown")
                if record.completed is None:
                    await self._jobs.store(live, [PlatformJobCompleted(result)])
                return live.record
        finally:
            self._wake(live.record.id)

    def _of(self, runner: RunnerName) -> LiveJob:
        live = self._jobs.of_runner(runner)
        if live is None:
            raise GiveUpError("this runner has no job", reason="runner_unknown")
        return live

    async def _known(self, live: LiveJob, job: PlatformJob, holder: JobId | None) -> bool:
        """Whether the record has the job already; the caller holds the lock."""
        await self._jobs.refresh(live)
        try:
            return judge_naming(live.record, job, holder)
        except Refusal as refused:
            await self._jobs.store_news(live, refused.facts)
            raise GiveUpError(str(refused), reason=refused.reason) from None


def _allowed(record: Record) -> Record:
    if record.refused is not None:
        raise GiveUpError(record.refused.explain(), reason=refusal_reason(record.refused).value)
    return record
