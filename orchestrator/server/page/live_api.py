"""What the page reads of all jobs at once. For operators and those whom the page lets look: it is of everybody."""

from __future__ import annotations

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.server import schemas
from orchestrator.server.body import read_query
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import json_response
from orchestrator.server.page.board import Board
from orchestrator.server.page.live_shapes import LiveJobsQuery
from orchestrator.server.page.overview import Overview
from orchestrator.server.page.roles import VISITOR


class LiveApi:
    """The handlers."""

    def __init__(self, deps: ServerDeps, board: Board, overview: Overview) -> None:
        self._deps = deps
        self._board = board
        self._overview = overview

    async def read_overview(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._all_may_be_seen(request)
        return json_response(self._overview.document())

    async def list_live_jobs(self, request: web.Request) -> web.Response:
        query = read_query(request, LiveJobsQuery)
        self._all_may_be_seen(request)
        page = await self._board.page(query.after or "", query.limit)
        return json_response({"rows": page.rows, "next": page.following or None, "seq": page.seq})

    def _all_may_be_seen(self, request: web.Request) -> None:
        if VISITOR not in request and request[CALLER].issuer != self._deps.local_issuer:
            raise GiveUpError(
                "Only operators may see everybody's jobs.",
                reason="operators_only",
                fix="list your own jobs with GET /v1/jobs, or sign in on the page",
            )
