"""What the page reads of all jobs at once. For operators and those whom the page lets look: it is of everybody."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.server import schemas
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import json_response
from orchestrator.server.entrance.body import read_query
from orchestrator.server.operation import SSE
from orchestrator.server.page.activity import events_of, item_of
from orchestrator.server.page.board import Board
from orchestrator.server.page.broadcast import Broadcast, Listener
from orchestrator.server.page.door import may_stay
from orchestrator.server.page.live_shapes import ActivityQuery, LiveJobsQuery, LiveQuery
from orchestrator.server.page.overview import Overview
from orchestrator.server.page.roles import VISITOR
from orchestrator.server.streams import guard, last_event_id, reader_of, write

_NEWEST: Final = 1 << 62
_MOST_STRETCHES: Final = 5
"""Looks back for one page: facts that are no activity may lie in between."""


class LiveApi:
    """The handlers."""

    def __init__(self, deps: ServerDeps, board: Board, overview: Overview, broadcast: Broadcast) -> None:
        self._deps = deps
        self._board = board
        self._overview = overview
        self._broadcast = broadcast

    async def read_overview(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._all_may_be_seen(request)
        return json_response(self._overview.document())

    async def list_live_jobs(self, request: web.Request) -> web.Response:
        query = read_query(request, LiveJobsQuery)
        self._all_may_be_seen(request)
        page = await self._board.page(query.after or "", query.limit)
        return json_response({"rows": page.rows, "next": page.following or None, "seq": page.seq})

    async def read_live(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, LiveQuery)
        self._all_may_be_seen(request)
        response = web.StreamResponse(headers={"Content-Type": SSE, "X-Accel-Buffering": "no"})
        activity, after = query.activity == "true", last_event_id(request)
        listening = self._broadcast.listen(reader_of(request), activity=activity, after=after)
        with listening as listener, suppress(ConnectionError):
            await response.prepare(request)
            await guard(request, response, self._copy(request, response, listener))
        return response

    async def _copy(self, request: web.Request, response: web.StreamResponse, listener: Listener) -> None:
        limits = self._deps.limits
        await write(response, b"retry: 2000\n\n", limits.write_timeout_seconds)
        while (data := await listener.take(limits.heartbeat_seconds)) is not None:
            if not may_stay(request, self._deps.page):
                return
            await write(response, data or b": alive\n\n", limits.write_timeout_seconds)

    async def list_activity(self, request: web.Request) -> web.Response:
        query = read_query(request, ActivityQuery)
        self._all_may_be_seen(request)
        before, kinds = query.before or _NEWEST, events_of(query.kind)
        items: list[dict[str, Any]] = []
        for _ in range(_MOST_STRETCHES):
            stretch = await self._deps.reader.facts_before(before, kinds, query.limit - len(items))
            before = stretch.floor
            items += (item for fact in stretch.facts if (item := self._item(fact, stretch.names)) is not None)
            if before <= 1 or len(items) >= query.limit:
                break
        return json_response({"items": items, "next": before if before > 1 else None})

    def _item(self, fact: Fact, names: Mapping[JobId, str]) -> dict[str, Any] | None:
        record = self._deps.engine.record(fact.job_id)
        return item_of(fact, record.offer.spec.name if record else names.get(fact.job_id, ""))

    def _all_may_be_seen(self, request: web.Request) -> None:
        if VISITOR not in request and request[CALLER].issuer != self._deps.local_issuer:
            raise GiveUpError(
                "Only operators may see everybody's jobs.",
                reason="operators_only",
                fix="list your own jobs with GET /v1/jobs, or sign in on the page",
            )
