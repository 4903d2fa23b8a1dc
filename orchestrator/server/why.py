"""Why a job stands where it stands: the engine's own answer, with what surrounds the job now and what its facts hint.

What others have is told as counts only, so whoever may see the job may see all of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from orchestrator.errors import TryAgainError
from orchestrator.lifecycle.why import Surroundings, Why, told, why
from orchestrator.lifecycle.why_hints import hints
from orchestrator.model.events import Fact
from orchestrator.model.record import Record, fold
from orchestrator.server import schemas
from orchestrator.server.deps import ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import read_query
from orchestrator.server.views import timestamp


class Reasons:
    """The handler of *why*."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._deps = deps
        self._jobs = jobs

    async def explain_job(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        record, facts = self._jobs.visible_record(request), await self._facts(request)
        record = self._jobs.visible_record(request) or record or fold(facts)
        around = replace(self._deps.around(record), draining=self._deps.draining(), hints=hints(facts))
        return json_response(why_view(record, around, why(record, around), time.time_ns()))

    async def _facts(self, request: web.Request) -> Sequence[Fact]:
        """Those of the job; none of an unfinished job while nothing can be recorded, for then they may not be shown
        either, and the answer to why is just that."""
        record = self._jobs.visible_record(request)
        if record is not None and self._deps.around(record, place=False).unrecorded is not None:
            return ()
        try:
            return (await self._jobs.visible_facts(request))[1]
        except TryAgainError:
            if record is None:
                raise
            return ()


def why_view(record: Record, around: Surroundings, answer: Why, now_ns: int) -> dict[str, Any]:
    """See `shapes.WhyView`."""
    waits = answer.pending and around.pool is not None and around.in_use is not None
    outcome = record.outcome
    return {
        "id": record.id,
        "name": record.offer.spec.name,
        "phase": record.phase.value,
        "result": outcome.result.value if outcome else None,
        "reason": answer.reason,
        "sentence": told(answer, now_ns),
        "next_step": answer.next_step,
        "since": timestamp(answer.since_ns),
        "gives_up_at": timestamp(answer.gives_up_at_ns),
        "pool": {
            "name": record.offer.spec.pool,
            "capacity": around.pool.capacity if waits and around.pool else None,
            "in_use": around.in_use if waits else None,
            "before": around.before if waits else None,
        },
        "hints": list(answer.hints),
    }
