"""A receiver of webhooks as a local server, with faults; it keeps every request that reached it.

async with HookReceiver() as receiver:
    receiver.faults.append(HookFault.UNAVAILABLE)         # one answer each
    receiver.always = HookFault.GONE                      # every answer
    await receiver.wait_for(3)                            # taken messages
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from aiohttp import web


class HookFault(StrEnum):
    """What goes wrong with one answer. `LOST` takes the message, and its answer never arrives; `LATE_GONE` is
    `GONE` when it is released."""

    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    GONE = "gone"
    LATE_GONE = "late_gone"
    MOVED = "moved"
    HANG = "hang"
    RESET = "reset"
    LOST = "lost"


_STATUS = {
    HookFault.UNAVAILABLE: 503,
    HookFault.REFUSED: 400,
    HookFault.RATE_LIMITED: 429,
    HookFault.GONE: 410,
    HookFault.MOVED: 307,
}


@dataclass(frozen=True, slots=True)
class Hook:
    """One request. `headers` have names in lower case."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HookReceiver:
    """`seen` are all requests, `taken` those that were answered with success. `poison` names texts in bodies that it
    cannot stand, which it answers with 500."""

    def __init__(self, *, port: int = 0, retry_after_seconds: int = 1) -> None:
        self._port = port
        self._retry_after = retry_after_seconds
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()
        self._released = asyncio.Event()
        self._takes_late = False
        self.faults: deque[HookFault] = deque()
        self.always: HookFault | None = None
        self.poison: set[bytes] = set()
        self.seen: list[Hook] = []
        self.taken: list[Hook] = []
        self.paths: list[str] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hooks"

    async def wait_until(self, fits: Callable[[HookReceiver], bool], seconds: float = 20) -> None:
        """Until `fits` says so of this receiver. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not fits(self):
                self._changed.clear()
                await self._changed.wait()

    async def wait_for(self, count: int, seconds: float = 20) -> None:
        """Until so many messages were taken. Raises TimeoutError."""
        await self.wait_until(lambda self: len(self.taken) >= count, seconds)

    def release(self) -> None:
        """Take what hangs, and have nothing hang any more."""
        self._takes_late = True
        self._released.set()

    async def _answer(self, request: web.Request) -> web.Response:
        hook = Hook({name.lower(): value for name, value in request.headers.items()}, await request.read())
        self.seen.append(hook)
        self.paths.append(request.path)
        self._changed.set()
        fault = self.faults.popleft() if self.faults else self.always
        if fault is HookFault.HANG:
            await self._released.wait()
            fault = None if self._takes_late else fault
        if fault is HookFault.LATE_GONE:
            await self._released.wait()
            fault = HookFault.GONE
        if fault in (HookFault.RESET, HookFault.LOST):
            if fault is HookFault.LOST:
                self._take(hook)
            assert request.transport is not None
            request.transport.abort()
        if fault is not None:
            headers = {"Retry-After": str(self._retry_after)} if fault is HookFault.RATE_LIMITED else {}
            headers |= {"Location": f"http://127.0.0.1:{self._port}/elsewhere"} if fault is HookFault.MOVED else {}
            return web.Response(status=_STATUS.get(fault, 500), headers=headers)
        if any(text in hook.body for text in self.poison):
            return web.Response(status=500)
        self._take(hook)
        return web.Response(status=204)

    def _take(self, hook: Hook) -> None:
        self.taken.append(hook)
        self._changed.set()
