"""The outermost layer of every request: who asks, problem documents, headers, one access log line."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.intake.dispatch import idempotency_key
from orchestrator.server.approvals.port import PERSON
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.entrance import problems
from orchestrator.server.entrance.body import read_nothing
from orchestrator.server.entrance.seats import Seated
from orchestrator.server.operation import Operation
from orchestrator.server.page.roles import VISITOR
from orchestrator.server.routes import BY_ID
from orchestrator.telemetry.ids import parse_traceparent

log = logging.getLogger("orchestrator.server")
access = logging.getLogger("orchestrator.server.access")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

POLICY = "Content-Security-Policy"
SECURITY_HEADERS = {
    "Server": "orchestrator",
    "X-Content-Type-Options": "nosniff",
    POLICY: "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_UNKNOWN_METHOD = "_OTHER"
"""What the semantic conventions call a method that is none of the known ones; ours are those of the operations."""
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")


async def add_headers(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """On every answer: nothing to sniff, frame or cache, and no word about our software."""
    own_policy = response.headers.get(POLICY, SECURITY_HEADERS[POLICY])  # of the page's own files
    response.headers.update(SECURITY_HEADERS)
    response.headers[POLICY] = own_policy
    response.headers.setdefault("Cache-Control", "no-store")


def bearer_token(request: web.BaseRequest, max_chars: int) -> str:
    """The token of the one Authorization header (RFC 6750, section 2.1).

    Raises:
        GiveUpError: `token_missing` without a bearer token, `token_malformed` when there is more than one
            header, or something that is no token.
    """
    headers = request.headers.getall("Authorization", [])
    if len(headers) > 1:
        raise GiveUpError("There is more than one Authorization header.", reason="token_malformed")
    if not headers or not headers[0][:7].lower().startswith("bearer"):
        raise GiveUpError("This needs the header Authorization: Bearer <token>.", reason="token_missing")
    match = _BEARER.fullmatch(headers[0]) if len(headers[0]) <= max_chars + 8 else None
    if match is None:
        raise GiveUpError("The bearer token cannot be read.", reason="token_malformed")
    return match[1]


def _stated_key(request: web.Request) -> str | None:
    """The idempotency key a single-use token is bound to; a bad one is the handler's to refuse."""
    try:
        return idempotency_key(one_header(request, "Idempotency-Key"))
    except GiveUpError:
        return None


def one_header(request: web.BaseRequest, name: str) -> str | None:
    """A header that may come once. Twice is joined by a comma, as RFC 9110 5.3 reads it, and so fails its grammar."""
    values = request.headers.getall(name, [])
    return ", ".join(values) if values else None


async def _authenticate(deps: ServerDeps, request: web.Request, operation: Operation) -> None:
    if deps.page is not None and operation.page is not None and "Authorization" not in request.headers:
        request[VISITOR] = visitor = deps.page.admit(request, operation)
        request[CALLER] = visitor.caller
        return
    token = bearer_token(request, deps.limits.max_token_chars)
    try:
        if operation.people and deps.approvals is not None:
            person = await deps.approvals.person(token)
            if person is not None:
                request[PERSON], request[CALLER] = person, person.caller
                return
        request[CALLER] = await deps.authenticate(token, _stated_key(request) if operation.dispatch else None)
    except GiveUpError as error:
        # Whatever the reason, a refusal here is a 401 and never tells of anything behind it.
        known = problems.REASONS.get(error.reason)
        reason = error.reason if known is not None and known.status == 401 else "token_invalid"
        raise GiveUpError(str(error), reason=reason, fix=error.fix) from error


async def _let_in(deps: ServerDeps, request: web.Request, operation: Operation) -> None:
    if operation.protected:
        await _authenticate(deps, request, operation)
        _seat(request)
    if operation.takes_nothing:
        await read_nothing(request, timeout_seconds=deps.limits.body_timeout_seconds)


def _seat(request: web.Request) -> None:
    """The connection is theirs who have shown who they are; nobody in particular has none to keep."""
    visitor, connection = request.get(VISITOR), request.protocol
    if isinstance(connection, Seated) and (visitor is None or not visitor.anonymous):
        connection.belongs(request[CALLER].id)


def make_edge(deps: ServerDeps) -> Middleware:
    """The one middleware of the application."""

    @web.middleware
    async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.monotonic()
        operation = BY_ID.get(request.match_info.route.name or "")
        # Whatever hangs behind us (a disk, an issuer) must not collect requests until no connection is left.
        limit = asyncio.timeout(None if operation and operation.stream else deps.limits.request_timeout_seconds)
        try:
            async with limit:
                if operation is not None:
                    await _let_in(deps, request, operation)
                response = await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as caught:  # noqa: BLE001 -- the border: everything becomes a problem document
            late = isinstance(caught, TimeoutError) and limit.expired()
            error = TryAgainError("This takes too long now.", reason="temporarily_unavailable") if late else caught
            response = answer(error, request, deps.limits.retry_after_seconds)
        lasted = time.monotonic() - started
        _log_access(request, operation, response.status, lasted)
        if operation is None:
            deps.served(_UNKNOWN_METHOD, "", response.status, lasted)
        elif not operation.stream:
            deps.served(operation.method, operation.path, response.status, lasted)
        return response

    return edge


def answer(error: Exception, request: web.BaseRequest, retry_after_seconds: float = 1) -> web.Response:
    """The problem document for any error. What we did not expect is logged under a reference, and only there."""
    instance = request.path[:512]
    parent = parse_traceparent(request.headers.get("traceparent", ""))
    trace_id = parent[0] if parent else ""
    if isinstance(error, web.HTTPException):
        return problems.from_http(error, instance=instance)
    reference = ""
    if not isinstance(error, OrchestratorError) or problems.public_reason(error) == "internal_error":
        reference = secrets.token_hex(8)
        log.error("request failed, reference %s", reference, exc_info=error)
    elif isinstance(error, TryAgainError):
        if error.retry_after_seconds is None:
            error.retry_after_seconds = retry_after_seconds
        log.warning("request refused for now: %s", error.reason)
    if isinstance(error, OrchestratorError):
        return problems.from_error(error, instance=instance, trace_id=trace_id, reference=reference)
    return problems.internal(reference, instance=instance, trace_id=trace_id)


def _log_access(request: web.Request, operation: Operation | None, status: int, seconds: float) -> None:
    """The operation instead of the path, and no query: neither can then carry a secret into the log."""
    if not access.isEnabledFor(logging.INFO):
        return
    caller = request.get(CALLER)
    access.info(
        "request",
        extra={
            "operation": operation.id if operation else "",
            "method": request.method if operation else "",
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
            "caller_id": caller.id if caller else "",
            "job_id": request.match_info.get("job_id", "")[:200] if caller else "",
        },
    )
