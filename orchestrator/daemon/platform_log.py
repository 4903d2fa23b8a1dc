"""The daemon's log of jobs that platforms named: one line for the name, one for the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from orchestrator.model.events import Fact, PlatformJobCompleted, PlatformJobNamed
from orchestrator.model.job import JobId
from orchestrator.model.record import Record

RecordOf = Callable[[JobId], Record | None]

_log = logging.getLogger(__name__)


class PlatformLog:
    """For `journal.subscribe`. `record_of` is the engine's record of a job, which has the platform's name of it."""

    def __init__(self, record_of: RecordOf) -> None:
        self._record_of = record_of

    def observe(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            match fact.event:
                case PlatformJobNamed(job, decision):
                    told = "named" if decision.allowed else "named, and not allowed by policy"
                    extra = {
                        "job_id": fact.job_id,
                        "platform_key": job.key,
                        "repository": job.caller.facts.get("repository", ""),
                        "proof": job.proof,
                        "verdict": decision.verdict.value,
                    }
                    _log.info("a platform's job is %s", told, extra=extra)
                case PlatformJobCompleted(result):
                    record = self._record_of(fact.job_id)
                    extra = {
                        "job_id": fact.job_id,
                        "platform_key": record.platform_key if record else "",
                        "repository": record.offer.caller.facts.get("repository", "") if record else "",
                        "result": result.result,
                        "told_by": result.told_by,
                    }
                    _log.info("a platform's job is completed", extra=extra)
                case _:
                    pass
