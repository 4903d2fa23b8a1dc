"""The front door: each job comes in once, whatever callers and the journal do meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.live import LiveJobs
from orchestrator.lifecycle.ports import Journal
from orchestrator.lifecycle.turns import Turns
from orchestrator.model.events import JobOffered
from orchestrator.model.job import JobId, JobOffer
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record, begin, fold


class Offers:
    """Takes jobs in, one at a time for each key.

    A job that is not in memory while its key is held cannot get there by another way, so that nobody writes
    to it and what the journal says of it stays true until the key is let go.

    `unsure` are offers whose commit failed: the journal may hold them all the same. They count as unfinished
    jobs until somebody has looked.
    """

    def __init__(self, journal: Journal, jobs: LiveJobs, adopt: Callable[[Record], None], max_jobs: int) -> None:
        self._journal = journal
        self._jobs = jobs
        self._adopt = adopt
        self._max_jobs = max_jobs
        self._turns: Turns[JobId] = Turns()
        self.unsure: set[JobId] = set()

    async def take(self, offer: JobOffer) -> tuple[Record, bool]:
        """See `Engine.offer`."""
        job_id = offer.key.id
        async with self._turns.of(job_id):
            known = self._jobs.get(job_id)
            record = known.record if known else await self._known(job_id) if self._full() else None
            if record is not None:
                return _same(record, offer), False
            if self._full():
                raise TryAgainError(f"{self._max_jobs} jobs are unfinished; no more are taken in", reason="queue_full")
            return await self._begin(job_id, offer)

    def _full(self) -> bool:
        return len(self._jobs) + len(self._turns) + len(self.unsure) > self._max_jobs

    async def _begin(self, job_id: JobId, offer: JobOffer) -> tuple[Record, bool]:
        """Store the offer. Whether the journal has the job from before is its own to say: a look first would cost each
        job a read, and nearly all are new."""
        try:
            (fact,) = await self._journal.append([(job_id, JobOffered(offer))])
        except GiveUpError as error:
            record = await self._known(job_id) if error.reason == "job_known" else None
            if record is None:
                raise
            return _same(record, offer), False
        except BaseException:
            self.unsure.add(job_id)
            raise
        self.unsure.discard(job_id)
        record = begin(fact)
        self._adopt(record)
        return record, True

    async def settle(self, job_id: JobId) -> None:
        """Look what became of an offer in doubt, and take its job over if there is one.

        Raises:
            TryAgainError: the journal cannot be read.
        """
        async with self._turns.of(job_id):
            await self._known(job_id)

    async def _known(self, job_id: JobId) -> Record | None:
        """The record in memory or in the journal; an unfinished one is in memory afterwards."""
        job = self._jobs.get(job_id)
        if job is not None:
            return job.record
        facts = await self._journal.facts_of(job_id)
        self.unsure.discard(job_id)
        if not facts:
            return None
        record = fold(facts)
        if record.phase is not Phase.FINISHED:
            self._adopt(record)
        return record


def _same(record: Record, offer: JobOffer) -> Record:
    if record.offer.fingerprint != offer.fingerprint:
        raise GiveUpError(
            "this idempotency key was used for a job with another content",
            reason="idempotency_key_reused",
            fix="send a new key for a new job, or the very same body for a retry",
        )
    return record
