"""Approvals and exceptions over HTTP. Anybody who may call may give in what is signed: only signatures count.

A person who shows a token of an issuer for people signs by that, and is let in here and nowhere else.
"""

from __future__ import annotations

import json

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.server import schemas
from orchestrator.server.approvals.port import PERSON, ApprovalDesk
from orchestrator.server.approvals.shapes import ApprovalListQuery, ApprovalQuery, EnvelopeRequest, RevocationRequest
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import Model, read_model, read_query
from orchestrator.server.page.roles import VISITOR
from orchestrator.server.trust.handlers import record_of


class Approvals:
    """The handlers."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._deps = deps
        self._jobs = jobs

    async def submit_approval(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        given = await self._body(request, EnvelopeRequest)
        who = request.get(PERSON) or request[CALLER]
        view, fresh = await self._desk.submit(json.dumps(given.model_dump()), who)
        return json_response(view, status=201 if fresh else 200)

    async def list_approvals(self, request: web.Request) -> web.Response:
        query = read_query(request, ApprovalListQuery)
        if PERSON not in request and VISITOR not in request:
            self._operators_only(request)
        wanted = query.model_dump(exclude={"limit"}, exclude_none=True)
        return json_response({"approvals": self._desk.listed(wanted, query.limit)})

    async def read_approval(self, request: web.Request) -> web.Response:
        query = read_query(request, ApprovalQuery)
        job = None
        if query.job is not None:
            job = record_of(await self._jobs.facts_for(request, query.job))
        return json_response(await self._desk.shown(request.match_info["approval_id"], job))

    async def revoke_approval(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._operators_only(request)
        given = await self._body(request, RevocationRequest)
        return json_response(await self._desk.revoke(request.match_info["approval_id"], given.reason, request[CALLER]))

    async def _body(self, request: web.Request, model: type[Model]) -> Model:
        limits = self._deps.limits
        return await read_model(
            request, model, limit_bytes=limits.max_body_bytes, timeout_seconds=limits.body_timeout_seconds
        )

    @property
    def _desk(self) -> ApprovalDesk:
        if self._deps.approvals is None:
            raise GiveUpError("This daemon keeps no approvals.", reason="not_found")
        return self._deps.approvals

    def _operators_only(self, request: web.Request) -> None:
        if not self._jobs.is_operator(request[CALLER]):
            raise GiveUpError(
                "Only operators and approvers may see all of it, and only operators revoke without a signature.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does, or sign a revocation",
            )
