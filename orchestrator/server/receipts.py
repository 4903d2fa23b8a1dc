"""Receipts over HTTP, and the public key that they and all other evidence verify with."""

from __future__ import annotations

from aiohttp import web

from orchestrator.evidence.receipts.signing import envelope_of
from orchestrator.model import events
from orchestrator.server import schemas
from orchestrator.server.deps import ServerDeps
from orchestrator.server.dispatch import Jobs
from orchestrator.server.entrance.body import read_query
from orchestrator.server.entrance.problems import ProblemError
from orchestrator.server.operation import JSON, PEM


class Receipts:
    """The handlers. Who may see a job may see its receipt; the key is public."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._deps = deps
        self._jobs = jobs

    async def read_receipt(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        _, facts = await self._jobs.visible_facts(request)
        finished = False
        for fact in reversed(facts):
            match fact.event:
                case events.ReceiptSigned():
                    # The bytes that were signed: whoever keeps them can check them without us.
                    return web.Response(text=envelope_of(fact.event), content_type=JSON)
                case events.JobCompacted():
                    raise ProblemError(
                        "The job is older than what retention keeps, and its receipt went with its facts.",
                        reason="receipt_not_kept",
                        fix="fetch receipts before journal.retention_seconds have passed",
                    )
                case events.JobFinished():
                    finished = True
                case _:
                    pass
        if not finished:
            raise ProblemError(
                "The job is not finished, and its receipt is made at its end.",
                reason="receipt_pending",
                fix="ask again when the job's phase is finished",
            )
        raise ProblemError(
            "The job was finished without a receipt.",
            reason="receipt_missing",
            fix="look for the alarm receipt_refused of the job; one that an older version finished has none",
        )

    async def evidence_key(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        age = self._deps.limits.jwks_max_age_seconds
        headers = {"Cache-Control": f"public, max-age={age}"}
        return web.Response(text=self._deps.evidence_key, content_type=PEM, headers=headers)
