"""What the egress gateways of a cluster ask of the daemon: the table of runners, by long poll, and to take verdicts.

Served beside the runner API on its TLS listener; `handle` answers every path below `/gateway/v1/`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from orchestrator.egress.batch import GATEWAY_ID, MAX_BATCH_BYTES, BatchError, decode_batch
from orchestrator.egress.feed import TABLE_PATH, VERDICTS_PATH
from orchestrator.egress.hub import TableHub
from orchestrator.egress.table import encode_update
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.server.entrance.body import read_body, require_media_type
from orchestrator.server.entrance.edge import SECURITY_HEADERS, answer, bearer_token
from orchestrator.server.entrance.problems import ProblemError

log = logging.getLogger("orchestrator.server.cluster.gateway_api")

Authenticate = Callable[[str], Awaitable[str | None]]
"""A bearer token to the gateway's identity (different for each pod), or None when it is no gateway's."""

_ID = re.compile(GATEWAY_ID)
_MAX_VERSION_CHARS = 64


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Sizes in bytes or characters, times in seconds."""

    max_token_chars: int = 8192
    max_batch_bytes: int = MAX_BATCH_BYTES
    body_timeout_seconds: float = 10
    authenticate_seconds: float = 10


class GatewayApi:
    """Both requests of a gateway. Nothing is looked at before the gateway is known."""

    def __init__(self, hub: TableHub, authenticate: Authenticate, limits: GatewayLimits | None = None) -> None:
        self._hub = hub
        self._authenticate = authenticate
        self._limits = limits or GatewayLimits()
        self._routes = {TABLE_PATH: ("GET", self._table), VERDICTS_PATH: ("POST", self._verdicts)}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """The answer to a request, whatever comes; errors are problem documents."""
        try:
            route = self._routes.get(request.path)
            if route is None:
                raise ProblemError("There is nothing here.", reason="not_found")
            method, work = route
            if request.method != method:
                raise ProblemError(
                    f"Only {method} is allowed here.", reason="method_not_allowed", headers={"Allow": method}
                )
            response = await work(await self._identity(request), request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- the border: everything becomes a problem document
            response = answer(error, request)
            log.info(
                "gateway request refused",
                extra={"status": response.status, "reason": getattr(error, "reason", ""), "peer": request.remote or ""},
            )
        response.headers.update(SECURITY_HEADERS)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _identity(self, request: web.BaseRequest) -> str:
        token = bearer_token(request, self._limits.max_token_chars)
        try:
            async with asyncio.timeout(self._limits.authenticate_seconds):
                identity = await self._authenticate(token)
        except TimeoutError:
            raise TryAgainError("The token could not be checked in time.") from None
        if identity is None:
            raise GiveUpError("The token is not a gateway's.", reason="token_invalid")
        return identity

    async def _table(self, identity: str, request: web.BaseRequest) -> web.Response:
        query = request.query
        if set(query) - {"gateway", "after"} or len(query) != len(set(query)):
            raise ProblemError("The query holds gateway and after, each once.", reason="query_invalid")
        gateway, after = query.get("gateway", ""), query.get("after", "")
        if not _ID.fullmatch(gateway) or len(after) > _MAX_VERSION_CHARS:
            raise ProblemError("The query names no gateway, or no version.", reason="query_invalid")
        update = await self._hub.poll(identity, gateway, after)
        return web.Response(body=encode_update(update), content_type="application/json")

    async def _verdicts(self, identity: str, request: web.BaseRequest) -> web.Response:
        require_media_type(request, "application/json")
        body = await read_body(
            request,
            limit_bytes=self._limits.max_batch_bytes,
            timeout_seconds=self._limits.body_timeout_seconds,
        )
        try:
            batch = decode_batch(body)
        except BatchError as error:
            raise ProblemError("The body is no batch of verdicts.", reason="validation_failed") from error
        await self._hub.take(identity, batch)
        return web.Response(body=msgspec.json.encode({"batch": batch.batch}), content_type="application/json")
