"""A tracker of tickets as a stateful local server, in the form of Jira's REST API, with faults.

async with TrackerServer() as tracker:
    tracker.add("REL-7", project="SHOP", type="Release")
    tracker.close_ticket("REL-7")
    tracker.faults.append(TrackerFault.UNAVAILABLE)       # one answer each
    tracker.url                                           # with {id}, as `promotion.tickets.url` wants it
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from aiohttp import web

_PATH = "/rest/api/2/issue/"
_LARGE = 2 << 20


class TrackerFault(StrEnum):
    """What goes wrong with one answer. `MOVED` redirects to another ticket, `OTHER` answers with another one."""

    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    FORBIDDEN = "forbidden"
    HANG = "hang"
    RESET = "reset"
    GARBAGE = "garbage"
    LARGE = "large"
    MOVED = "moved"
    OTHER = "other"
    NO_STATUS = "no_status"


@dataclass(slots=True)
class Issue:
    """`status` is the key of Jira's status category: `new`, `indeterminate` or `done`."""

    key: str
    project: str
    type: str
    status: str = "new"


class TrackerServer:
    """`token`, when there is one, is what every call must carry as Bearer. `asked` are the ids in their order."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        self._host = host
        self._port = port
        self._token = token
        self._runner: web.AppRunner | None = None
        self.issues: dict[str, Issue] = {}
        self.faults: deque[TrackerFault] = deque()
        self.asked: list[str] = []
        self.hanging = asyncio.Event()
        self.base = ""

    @property
    def url(self) -> str:
        return f"{self.base}{_PATH}{{id}}"

    def add(self, key: str, *, project: str = "SHOP", type: str = "Release", status: str = "new") -> Issue:  # noqa: A002
        self.issues[key] = Issue(key, project, type, status)
        return self.issues[key]

    def close_ticket(self, key: str) -> None:
        self.issues[key].status = "done"

    async def start(self) -> None:
        """Listen; `url` is known then. After a `stop` it is the same port, and nothing was forgotten."""
        app = web.Application()
        app.router.add_get(_PATH + "{id}", self._issue)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, reuse_address=True)
        await site.start()
        self._port = int(self._runner.addresses[0][1])
        self.base = f"http://{self._host}:{self._port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _issue(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["id"]
        self.asked.append(key)
        if self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
            return _error(401, "You do not have the permission to see the specified issue.")
        fault = self.faults.popleft() if self.faults else None
        issue = self.issues.get(key)
        document = None if issue is None else _document(issue)
        if fault is not None:
            answer = await self._broken(request, fault, document or {})
            if answer is not None:
                return answer
        if document is None:
            return _error(404, "Issue Does Not Exist")
        return web.json_response(document)

    async def _broken(
        self, request: web.Request, fault: TrackerFault, document: dict[str, Any]
    ) -> web.StreamResponse | None:
        match fault:
            case TrackerFault.HANG:
                self.hanging.set()
                await asyncio.get_running_loop().create_future()
            case TrackerFault.RESET if request.transport is not None:
                request.transport.abort()
            case TrackerFault.MOVED:
                return web.Response(status=302, headers={"Location": f"{self.base}{_PATH}OTHER-1"})
            case TrackerFault.OTHER:
                return web.json_response({**document, "key": "OTHER-1"})
            case TrackerFault.NO_STATUS:
                return web.json_response({"key": document.get("key"), "fields": {}})
            case TrackerFault.LARGE:
                return web.json_response({**document, "description": "x" * _LARGE})
            case TrackerFault.GARBAGE:
                return web.Response(body=b'{"key":', content_type="application/json")
            case TrackerFault.RATE_LIMITED:
                return web.json_response({}, status=429, headers={"Retry-After": "120"})
            case TrackerFault.FORBIDDEN:
                return _error(403, "Forbidden")
            case _:
                return web.Response(status=503, text="down for maintenance")
        return None


def _document(issue: Issue) -> dict[str, Any]:
    return {
        "id": "10001",
        "key": issue.key,
        "fields": {
            "summary": "a release",
            "project": {"key": issue.project, "name": issue.project.title()},
            "issuetype": {"name": issue.type},
            "status": {"name": issue.status.title(), "statusCategory": {"key": issue.status}},
        },
    }


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"errorMessages": [message], "errors": {}}, status=status)
