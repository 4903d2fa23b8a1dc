"""Notifications over HTTP. All of it is for operators."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.server import schemas
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import read_query
from orchestrator.server.notifications.port import NotificationDesk

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Notifications:
    """The handlers."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._desk = deps.notifications
        self._jobs = jobs

    def handlers(self) -> Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """By operation."""
        return {
            "list_notifications": self.list_notifications,
            "test_notification": self.test_notification,
            "retry_notifications": self.retry_notifications,
        }

    async def list_notifications(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._demand_operator(request)
        return json_response({"endpoints": list(self._desk.listed()) if self._desk else []})

    async def test_notification(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._demand_operator(request)
        desk, name = self._known(request)
        return json_response(await desk.test(name))

    async def retry_notifications(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._demand_operator(request)
        desk, name = self._known(request)
        return json_response(await desk.retry(name))

    def _demand_operator(self, request: web.Request) -> None:
        if not self._jobs.is_operator(request[CALLER]):
            raise GiveUpError(
                "Only operators may see and try the endpoints of notifications.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does",
            )

    def _known(self, request: web.Request) -> tuple[NotificationDesk, str]:
        name = request.match_info["name"]
        if self._desk is None or not _NAME.fullmatch(name):
            raise GiveUpError(
                "No endpoint of notifications has this name.",
                reason="endpoint_unknown",
                fix="see `orchestrator notifications`",
            )
        return self._desk, name
