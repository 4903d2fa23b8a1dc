"""Which job a runner got, and how it ended, from GitHub's word to the engine's record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.facts import FactsDisagreeError, check_agreement
from orchestrator.intake.github.names import registered_names, runner_of
from orchestrator.intake.github.rest.objects import RunJob
from orchestrator.intake.github.runner_offer import SCALE_SET
from orchestrator.intake.github.scale_sets.messages import JobMessage
from orchestrator.intake.github.scale_sets.waits import Waits
from orchestrator.intake.github.source_config import EngineOf
from orchestrator.intake.github.tally import Tally
from orchestrator.model.events import AlarmRaised
from orchestrator.model.job import JobId
from orchestrator.model.platform import PlatformJob, PlatformResult
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName, runner_name

_REFUSALS = frozenset({"policy_denied", "policy_undefined", "policy_error"})

_log = logging.getLogger(__name__)


class JobList(Protocol):
    """What is asked of `RestClient`."""

    async def run_jobs(self, owner: str, repository: str, run_id: int, attempt: int | None = None) -> list[RunJob]: ...


class JobNaming:
    """By message (`started`, `completed`), or by the report of a runner's own hook (`reported`). All are idempotent.

    `names_of` and `ids_of` are what the runner of a record is registered as, as far as it is known. `hook_patience` is
    how long, in seconds, a message waits for what the runner's hook shows.
    """

    def __init__(
        self,
        source: str,
        facts: JobFacts,
        jobs: JobList,
        engine: EngineOf,
        tally: Tally,
        names_of: Callable[[Record], Sequence[str]] = lambda record: registered_names(runner_name(record.id)),
        hook_patience: float = 0.0,
        ids_of: Callable[[Record], Collection[int]] = lambda _record: (),
    ) -> None:
        self._names_of = names_of
        self._ids_of = ids_of
        self._source = source
        self._facts = facts
        self._jobs = jobs
        self._engine = engine
        self._tally = tally
        self._hook_patience = hook_patience
        self._hooks: dict[JobId, asyncio.Event] = {}
        self.waits = Waits()

    def record_of(self, registered: str) -> Record | None:
        """The unfinished record of this source whose runner has this name at GitHub."""
        runner = runner_of(registered)
        record = self._engine().record_of_runner(runner) if runner is not None else None
        return record if record is not None and record.offer.key.source == self._source else None

    def _record_of(self, message: JobMessage) -> Record | None:
        """As `record_of`, unless the message is of another runner that somebody gave this name, elsewhere."""
        record = self.record_of(message.runner_name)
        if record is not None and (ids := self._ids_of(record)) and message.runner_id not in ids:
            _log.warning("GitHub has another runner that is called %s", message.runner_name)
            return None
        return record

    async def started(self, message: JobMessage, *, over: bool = False) -> None:
        """GitHub gave a job to a runner: find out its facts and name it, or see whether the name that it has fits. If
        not, the record ends, as soon as the API confirms that. Of a job that is `over` no hook has more to say.

        A job that cannot be named is not tried again: nobody vouches for it, and its record ends without identity.

        Raises:
            TryAgainError: GitHub's API or the journal gave no answer, or the API does not know it yet.
        """
        record = self._record_of(message)
        if record is not None and record.platform is not None and not record.named_at_ns and not over:
            await self._let_hook_speak(record.id)
            record = self._record_of(message)
        if record is None:
            self._tally.foreign += runner_of(message.runner_name) is None
            return
        if record.outcome is not None or record.cancel is not None or record.platform is None:
            return
        if record.named_at_ns and await self._fits(record, message):
            self._waited(record, message)
            return
        assert record.runner is not None
        try:
            job = await self._facts.by_runner(
                message.owner,
                message.repository,
                message.run_id,
                message.runner_name,
                runner_ids=self._ids_of(record),
                workflow_ref=message.workflow_ref,
            )
            if job is None:
                raise TryAgainError("GitHub's API does not list the job yet", reason="github_job_unlisted")
            await self._engine().name_job(record.runner, job)
        except FactsDisagreeError as error:
            await self._alarm(record, str(error))
        except GiveUpError as error:
            self._gave_up(record, error)
        else:
            self._tally.named += not record.named_at_ns
            self._waited(record, message)

    async def _let_hook_speak(self, job_id: JobId) -> None:
        """The job's own token tells more than GitHub's API, such as its environment, and the first name stays. So the
        runner's hook goes first, until it has shown that it has no token, its job is over, or patience is."""
        if not self._hook_patience:
            return
        heard = self._hooks.setdefault(job_id, asyncio.Event())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._hook_patience):
                    await heard.wait()
        finally:
            self._hooks.pop(job_id, None)

    def _heard(self, job_id: JobId) -> None:
        if job_id in self._hooks:
            self._hooks[job_id].set()

    def _waited(self, record: Record, message: JobMessage) -> None:
        self.waits.saw(record.offer.spec.claimed.get(SCALE_SET, ""), record.id, message)

    async def completed(self, message: JobMessage) -> None:
        """GitHub says that a job is over; one that no runner took is nobody's.

        Raises:
            TryAgainError: the journal gave no answer.
        """
        record = self._record_of(message)
        if record is None or record.runner is None or record.completed is not None or not record.bound:
            return
        self._heard(record.id)
        await self.complete(record, PlatformResult(message.result or "unknown", "message"))

    async def complete(self, record: Record, result: PlatformResult) -> bool:
        """Store how the record's job ended; False when it is too late for that.

        Raises:
            TryAgainError: the journal gave no answer.
        """
        assert record.runner is not None
        try:
            await self._engine().complete_job(record.runner, result)
        except GiveUpError as error:
            _log.info("the result of record %s is not wanted any more: %s", record.id, error)
            return False
        self._tally.completed += 1
        return True

    async def ask_for_end(self, record: Record) -> bool:
        """Ask GitHub's API how a record's job ended, when there is reason to think that it did; whether it told.

        Never raises but for cancellation.
        """
        facts = record.offer.caller.facts
        owner, _, repository = facts.get("repository", "").partition("/")
        try:
            jobs = await self._jobs.run_jobs(owner, repository, int(facts["run_id"]), int(facts["run_attempt"]))
            check = int(facts["check_run_id"])
            job = next((job for job in jobs if check in (job.check_run_id, job.id)), None)
            if job is None or job.status != "completed":
                return False
            return await self.complete(record, PlatformResult(job.conclusion.lower() or "unknown", "api"))
        except (OrchestratorError, KeyError, ValueError) as error:
            _log.warning("how the job of record %s ended is not known: %s", record.id, error)
            return False

    async def reported(
        self, runner: RunnerName, repository: str, run_id: int, claims: Mapping[str, str] | None = None
    ) -> Record | None:
        """The hook of this runner says which run its job is of; None while nobody can vouch for that.

        `claims` are those of the job's own token, verified; without one the API must list a job of this run on this
        very runner. What the hook says is only where to look.

        Raises:
            GiveUpError: as `Engine.name_job`; `job_facts_disagree` when claims or the API contradict the hook.
            TryAgainError: GitHub's API, policy or the journal gave no answer.
        """
        record = self._engine().record_of_runner(runner)
        if record is None or record.offer.key.source != self._source:
            raise GiveUpError("this runner has no job", reason="runner_unknown")
        told = {"repository": repository, "run_id": str(run_id)}
        if record.named_at_ns and claims is None:
            await self._agree(record, record.offer.caller.facts, told)
            return record
        if claims is None:
            self._heard(record.id)
        try:
            job = await self._found(record, repository, run_id, claims)
            if job is None:
                return None
            await self._agree(record, job.caller.facts, told)
            return await self._engine().name_job(runner, job)
        finally:
            self._heard(record.id)

    async def _found(
        self, record: Record, repository: str, run_id: int, claims: Mapping[str, str] | None
    ) -> PlatformJob | None:
        if claims is not None:
            job = await self._facts.by_claims(claims)
            if job is not None:
                return job
            # An older server's token tells the run, and not which of its jobs.
            repository, run_id = claims.get("repository", ""), int(claims.get("run_id", "0"))
        owner, _, name = repository.partition("/")
        if claims is None and not self._facts.covers(owner, name):
            return None  # the hook has it, and GitHub's message will tell
        for registered in self._names_of(record):
            job = await self._facts.by_runner(owner, name, run_id, registered, runner_ids=self._ids_of(record))
            if job is not None:
                return job
        return None

    async def _agree(self, record: Record, facts: Mapping[str, str], told: Mapping[str, str]) -> None:
        try:
            check_agreement(facts, told)
        except FactsDisagreeError as error:
            await self._alarm(record, str(error))
            raise

    async def _fits(self, record: Record, message: JobMessage) -> bool:
        """The name came from the runner's hook; GitHub's message must speak of the same job."""
        told = {"repository": f"{message.owner}/{message.repository}", "run_id": str(message.run_id or "")}
        try:
            check_agreement(record.offer.caller.facts, told)
        except FactsDisagreeError as error:
            await self._alarm(record, str(error))
            return False
        return True

    async def _alarm(self, record: Record, detail: str) -> None:
        self._tally.mismatches += 1
        _log.error("record %s: %s", record.id, detail)
        try:
            await self._engine().note(record.id, AlarmRaised("job_facts_disagree", detail))
        except GiveUpError:
            _log.info("record %s is finished already", record.id)

    def _gave_up(self, record: Record, error: GiveUpError) -> None:
        self._tally.refused += error.reason in _REFUSALS
        _log.warning("the job on the runner of record %s is not named: %s [%s]", record.id, error, error.reason)
