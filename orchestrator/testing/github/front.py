"""The front door: finds the endpoint, checks the credential and the form of a call, applies faults, writes answers."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable

import msgspec
from aiohttp import web

from orchestrator.testing.github.access import RateLimits
from orchestrator.testing.github.faults import AFTER, Fault, Faults, Rule
from orchestrator.testing.github.tokens import Grant, Kind, RefusedError, Tokens
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Plane, Reply, Router, rest_error, service_error

API_VERSION = "api-version=6.0-preview"
_BOM = b"\xef\xbb\xbf"
_TYPE_NO_VERSION = "GitHub.Services.WebApi.VssVersionNotSpecifiedException"
_TYPE_UNAUTHORIZED = "GitHub.Services.Common.VssUnauthorizedException"


class FrontDoor:
    """`tenant` is the path under which the Actions service lives; without it there is no such service.

    `counters` counts calls by endpoint as they come in, `statuses` answers by endpoint and status. `changed` is called
    after either.
    """

    def __init__(
        self, tokens: Tokens, faults: Faults, limits: RateLimits, tenant: str, changed: Callable[[], None]
    ) -> None:
        self._tokens = tokens
        self._faults = faults
        self._limits = limits
        self._tenant = tenant
        self._changed = changed
        self.router = Router(())
        self.counters: Counter[str] = Counter()
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._open: dict[int, tuple[web.Request, Endpoint]] = {}

    def cut(self, part: str = "") -> int:
        """Cut every connection whose request is still open and whose endpoint has `part` in it; returns how many."""
        found = [request for request, endpoint in self._open.values() if part in endpoint.name]
        for request in found:
            _abort(request)
        return len(found)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request)
        if found is None:
            return _json(404, {"message": "Not Found", "status": "404"}, {})
        endpoint, place = found
        self.counters[endpoint.name] += 1
        self._open[id(request)] = (request, endpoint)
        self._changed()
        try:
            rule = self._faults.next(endpoint.name)
            if rule is not None and rule.fault not in AFTER:
                refusal = await self._before(request, endpoint, rule)
                if refusal is not None:
                    return self._count(endpoint, refusal)
            body = await request.read()
            answer = await self._answer(request, endpoint, place, body)
            return self._count(endpoint, await _after(request, answer, rule))
        finally:
            self._open.pop(id(request), None)

    def _count(self, endpoint: Endpoint, answer: web.StreamResponse) -> web.StreamResponse:
        self.statuses[(endpoint.name, answer.status)] += 1
        self._changed()
        return answer

    def _find(self, request: web.Request) -> tuple[Endpoint, dict[str, str]] | None:
        path = request.rel_url.raw_path
        if path.startswith("/api/v3/"):
            found = self.router.find(request.method, path.removeprefix("/api/v3"))
            return found if found is not None and found[0].plane is Plane.REST else None
        if path.startswith(self._tenant + "/"):
            found = self.router.find(request.method, path.removeprefix(self._tenant))
            return found if found is not None and found[0].plane is Plane.SERVICE else None
        found = self.router.find(request.method, path)
        return found if found is not None and found[0].plane is not Plane.SERVICE else None

    async def _answer(
        self, request: web.Request, endpoint: Endpoint, place: dict[str, str], body: bytes
    ) -> web.Response:
        headers: dict[str, str] = _trace_headers(endpoint)
        try:
            grant = self._admit(request, endpoint, headers)
            reply = await endpoint.handler(Call(request, place, grant, body))
        except ApiError as error:
            document = rest_error(error) if endpoint.plane is Plane.REST else service_error(error)
            return _json(error.status, document, headers)
        return _written(reply, headers)

    def _admit(self, request: web.Request, endpoint: Endpoint, headers: dict[str, str]) -> Grant | None:
        """Raises ApiError: 400, 401, 403 or 429."""
        accept = request.headers.get("Accept", "")
        if endpoint.plane is Plane.SERVICE and API_VERSION not in request.query_string:
            raise ApiError(400, "No api-version was supplied in the query.", _TYPE_NO_VERSION)
        if endpoint.plane is Plane.QUEUE and request.method == "GET" and API_VERSION not in accept:
            raise ApiError(400, "No api-version was supplied in Accept.", _TYPE_NO_VERSION)
        if not endpoint.kinds:
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            grant = self._tokens.look_up(scheme, token)
        except RefusedError as error:
            raise ApiError(401, str(error), _TYPE_UNAUTHORIZED) from error
        if grant.kind not in endpoint.kinds:
            raise ApiError(401, f"A token of kind {grant.kind.value} is not accepted here.", _TYPE_UNAUTHORIZED)
        if endpoint.plane is Plane.REST and endpoint.bucket and grant.kind in (Kind.INSTALLATION, Kind.PERSONAL):
            allowed, told = self._limits.take(token, endpoint.bucket)
            headers.update(told)
            if not allowed:
                raise ApiError(403, "API rate limit exceeded for installation.")
        return grant

    async def _before(self, request: web.Request, endpoint: Endpoint, rule: Rule) -> web.Response | None:
        """The faults of which the platform never hears."""
        headers, wait = _trace_headers(endpoint), str(max(1, round(rule.seconds)))
        match rule.fault:
            case Fault.RESET:
                await asyncio.sleep(rule.seconds)
                _abort(request)
                return web.Response(status=500)
            case Fault.HANG:
                await asyncio.get_running_loop().create_future()
            case Fault.DELAY:
                await asyncio.sleep(rule.seconds)
            case Fault.BAD_GATEWAY:
                return web.Response(status=502, text="<html>502 Bad Gateway</html>", content_type="text/html")
            case Fault.TEXT:
                return web.Response(status=500, text="an unexpected error", headers=headers)
            case Fault.EMPTY:
                return web.Response(status=500, headers=headers)
            case Fault.RATE_LIMITED:
                return _json(429, {"message": "Too many requests"}, headers | {"Retry-After": wait})
            case Fault.SECONDARY_LIMIT:
                text = "You have exceeded a secondary rate limit."
                return _json(403, {"message": text}, headers | {"Retry-After": wait})
            case Fault.LIMIT_USED_UP:
                return _json(403, {"message": "API rate limit exceeded"}, headers | self._used_up(endpoint, rule))
            case _:
                return _refused(endpoint, rule.fault, headers)
        return None

    def _used_up(self, endpoint: Endpoint, rule: Rule) -> dict[str, str]:
        reset = str(int(self._limits.clock.now() + rule.seconds) + 1)
        numbers = {"limit": "5000", "remaining": "0", "used": "5000", "reset": reset, "resource": endpoint.bucket}
        return {f"x-ratelimit-{name}": value for name, value in numbers.items()}


def _refused(endpoint: Endpoint, fault: Fault, headers: dict[str, str]) -> web.Response:
    statuses = {Fault.UNAVAILABLE: 503, Fault.UNAUTHORIZED: 401, Fault.FORBIDDEN: 403, Fault.NOT_FOUND: 404}
    error = ApiError(statuses[fault], f"told to answer {fault.value}")
    document = rest_error(error) if endpoint.plane is Plane.REST else service_error(error)
    return _json(error.status, document, headers)


async def _after(request: web.Request, answer: web.Response, rule: Rule | None) -> web.StreamResponse:
    """The faults that hit the answer of a request that was carried out."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    match rule.fault if rule else None:
        case Fault.DONE_BUT_500:
            return web.Response(status=500, text="done, and yet")
        case Fault.DONE_BUT_RESET:
            _abort(request)
            return answer
        case Fault.BOM:
            return web.Response(status=answer.status, body=_BOM + body, content_type="application/json")
        case Fault.GARBAGE:
            return web.Response(status=answer.status, body=b'{"count":', content_type="application/json")
        case Fault.TRUNCATED:
            cut = web.StreamResponse(status=answer.status, headers={"Content-Length": str(len(body) + 10)})
            cut.content_type = "application/json"
            await cut.prepare(request)
            await cut.write(body[: len(body) // 2])
            _abort(request)
            return cut
        case _:
            return answer


def _trace_headers(endpoint: Endpoint) -> dict[str, str]:
    name = "X-GitHub-Request-Id" if endpoint.plane is Plane.REST else "ActivityId"
    return {name: str(uuid.uuid4())}


def _written(reply: Reply, headers: dict[str, str]) -> web.Response:
    if reply.body is None:
        return web.Response(status=reply.status, headers=headers | reply.headers)
    if isinstance(reply.body, str):
        return web.Response(status=reply.status, text=reply.body, headers=headers | reply.headers)
    return _json(reply.status, reply.body, headers | reply.headers)


def _json(status: int, document: object, headers: dict[str, str]) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8", headers=headers)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
