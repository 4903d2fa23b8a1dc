"""What operators ask of the daemon itself: to reload, and to drain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.server import schemas
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import read_model, read_query
from orchestrator.server.operating.port import OperatingDesk
from orchestrator.server.operating.shapes import DrainRequest


class Operating:
    """The handlers."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._deps = deps
        self._jobs = jobs

    def handlers(self) -> Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """By the operation's id."""
        return {"reload": self.reload, "read_drain": self.read_drain, "drain": self.drain, "resume": self.resume}

    async def reload(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return json_response(await self._desk(request).reload(request[CALLER]))

    async def read_drain(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return json_response(self._desk(request).draining())

    async def drain(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        desk, limits = self._desk(request), self._deps.limits
        asked = await read_model(
            request, DrainRequest, limit_bytes=limits.max_body_bytes, timeout_seconds=limits.body_timeout_seconds
        )
        return json_response(await desk.drain(request[CALLER], asked.limit_seconds))

    async def resume(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return json_response(await self._desk(request).resume(request[CALLER]))

    def _desk(self, request: web.Request) -> OperatingDesk:
        if not self._jobs.is_operator(request[CALLER]):
            raise GiveUpError(
                "Only operators may reload and drain the daemon.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does",
            )
        if self._deps.operating is None:
            raise GiveUpError("This daemon cannot be operated by its API.", reason="not_found")
        return self._deps.operating
