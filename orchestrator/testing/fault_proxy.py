"""A reverse proxy in front of an API server that lies, hangs, refuses and cuts connections when told to."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum, auto

import aiohttp
from aiohttp import web

_PASSED_ON = frozenset({"authorization", "content-type", "accept", "user-agent"})
_MAX_BODY = 8 << 20


class ApiFault(Enum):
    """What happens to a request. STORED_BUT_500 and STORED_BUT_CUT are done and answered as if they were not."""

    BUSY = auto()
    BROKEN = auto()
    STORED_BUT_500 = auto()
    STORED_BUT_CUT = auto()
    CUT = auto()
    HANG = auto()
    DELAY = auto()
    GARBAGE = auto()
    UNAUTHORIZED = auto()


_STORED = frozenset({ApiFault.STORED_BUT_500, ApiFault.STORED_BUT_CUT})


@dataclass(slots=True)
class Rule:
    """Hits the next `times` requests of this method whose path has `part` in it. `seconds` is for DELAY and BUSY."""

    fault: ApiFault
    method: str = ""
    part: str = ""
    times: int = 1
    seconds: float = 1.0

    def hits(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in ("", method) and self.part in path


class FaultProxy:
    """Serves `https://127.0.0.1:<port>` with `tls` and passes on to `upstream`, checked with `upstream_tls`.

    `seen` counts requests by method as they arrive, `done` those that the API server answered with 2xx.
    `rules` are tried in order; one that is used up is passed over.
    """

    def __init__(self, upstream: str, upstream_tls: ssl.SSLContext, tls: ssl.SSLContext) -> None:
        self.rules: list[Rule] = []
        self.seen: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.url = ""
        self._upstream = upstream.rstrip("/")
        self._upstream_tls = upstream_tls
        self._tls = tls
        self._open: dict[int, web.Request] = {}
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._begun: set[asyncio.Task[web.Response]] = set()

    def add(self, fault: ApiFault, method: str = "", part: str = "", *, times: int = 1, seconds: float = 1.0) -> Rule:
        """Let this fault hit; returns its rule, whose `times` tells how often it still will."""
        rule = Rule(fault, method, part, times, seconds)
        self.rules.append(rule)
        return rule

    def cut(self) -> int:
        """Cut every connection that has a request open, watches above all; returns how many."""
        cut = [request for request in self._open.values() if request.transport is not None]
        for request in cut:
            _abort(request)
        return len(cut)

    async def start(self) -> None:
        """`url` is known when this returns."""
        connector = aiohttp.TCPConnector(ssl=self._upstream_tls, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"https://127.0.0.1:{port}"

    async def close(self) -> None:
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.gather(*self._begun, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._open[id(request)] = request
        try:
            self.seen[request.method] += 1
            rule = next((one for one in self.rules if one.hits(request.method, request.path_qs)), None)
            if rule is not None:
                rule.times -= 1
                refused = await self._before(request, rule)
                if refused is not None:
                    return refused
            return await self._pass_on(request, rule.fault if rule else None)
        finally:
            self._open.pop(id(request), None)

    async def _before(self, request: web.Request, rule: Rule) -> web.StreamResponse | None:
        """The faults of which the API server never hears."""
        match rule.fault:
            case ApiFault.BUSY:
                wait = str(max(1, int(rule.seconds)))
                return web.Response(status=429, text="too many requests", headers={"Retry-After": wait})
            case ApiFault.BROKEN:
                return web.Response(status=500, text="no JSON at all")
            case ApiFault.UNAUTHORIZED:
                return web.Response(status=401, text="who are you?")
            case ApiFault.CUT:
                _abort(request)
                return web.Response(status=500)
            case ApiFault.HANG:
                await asyncio.get_running_loop().create_future()
            case ApiFault.DELAY:
                await asyncio.sleep(rule.seconds)
            case _:
                pass
        return None

    async def _pass_on(self, request: web.Request, fault: ApiFault | None) -> web.StreamResponse:
        body = await request.read()
        if request.method == "GET" and fault in _STORED:
            # Nothing is stored by reading, and a watch has no end to wait for.
            return _unanswered(request, fault)
        try:
            if request.method == "GET":
                async with self._upstream_request(request, body) as answer:
                    self._count(request, answer)
                    return await self._answer(request, answer, fault)
            # A write that has begun is seen to its end and counted, whatever becomes of who asked for it.
            whole = asyncio.get_running_loop().create_task(self._whole(request, body))
            self._begun.add(whole)
            whole.add_done_callback(self._begun.discard)
            done = await asyncio.shield(whole)
        except aiohttp.ClientError:
            _abort(request)
            return web.Response(status=502)
        return _unanswered(request, fault) if fault in _STORED else done

    def _upstream_request(
        self, request: web.Request, body: bytes
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        headers = {key: value for key, value in request.headers.items() if key.lower() in _PASSED_ON}
        return self._session.request(
            request.method, self._upstream + request.path_qs, headers=headers, data=body or None
        )

    async def _whole(self, request: web.Request, body: bytes) -> web.Response:
        async with self._upstream_request(request, body) as answer:
            self._count(request, answer)
            return web.Response(status=answer.status, headers=_kept(answer), body=await answer.read())

    def _count(self, request: web.Request, answer: aiohttp.ClientResponse) -> None:
        if answer.status < 300:
            self.done[request.method] += 1

    async def _answer(
        self, request: web.Request, answer: aiohttp.ClientResponse, fault: ApiFault | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_kept(answer))
        await response.prepare(request)
        if fault is ApiFault.GARBAGE:
            await response.write(b'{"type":"ADDED","object":{"metadata":\n')
        async for part in answer.content.iter_any():
            await response.write(part)
        await response.write_eof()
        return response


def _kept(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {key: value for key, value in answer.headers.items() if key.lower() in ("content-type", "retry-after")}


def _unanswered(request: web.Request, fault: ApiFault | None) -> web.Response:
    if fault is ApiFault.STORED_BUT_CUT:
        _abort(request)
    return web.Response(status=500, text="stored, and yet")


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
