"""What machines ask before they trust us with work, and what they count."""

from __future__ import annotations

from aiohttp import web

from orchestrator.server import schemas
from orchestrator.server.deps import ServerDeps
from orchestrator.server.dispatch import json_response
from orchestrator.server.entrance.body import read_query


class Health:
    """Liveness says only that the loop turns; readiness names what is missing; metrics pass through."""

    def __init__(self, deps: ServerDeps) -> None:
        self._deps = deps

    async def health(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return json_response({"status": "ok"})

    async def readiness(self, request: web.Request) -> web.Response:
        """503 until recovered, while draining, and while journal or gateway are not well."""
        read_query(request, schemas.NoQuery)
        checks = dict(self._deps.readiness())
        checks["accepting"] = "draining" if self._deps.draining() else "ok"
        ready = all(state == "ok" for state in checks.values())
        headers = {} if ready else {"Retry-After": str(self._deps.limits.retry_after_seconds)}
        return json_response({"ready": ready, "checks": checks}, status=200 if ready else 503, headers=headers)

    async def metrics(self, request: web.Request) -> web.Response:
        """In the format that the Accept header asks for (RFC 9110, section 12.5.1)."""
        body, content_type = self._deps.metrics(", ".join(request.headers.getall("Accept", [])))
        return web.Response(body=body, headers={"Content-Type": content_type, "Vary": "Accept"})
