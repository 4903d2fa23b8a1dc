"""The issuer's public face: discovery, its RFC 8414 mirror, the key set, introspection."""

from __future__ import annotations

from aiohttp import web

from orchestrator.server import schemas
from orchestrator.server.deps import Documents, ServerDeps
from orchestrator.server.dispatch import json_response
from orchestrator.server.entrance.body import read_form, read_query
from orchestrator.server.entrance.problems import Fault, ProblemError

MAX_FORM_BYTES = 32 * 1024
MAX_INTROSPECTED_CHARS = 16 * 1024


class Oidc:
    """Handlers of the identity operations; they need no caller token, for relying parties have none."""

    def __init__(self, deps: ServerDeps) -> None:
        self._deps = deps

    def _cached(self, document: object) -> web.Response:
        # 5 to 15 minutes: short enough for a key rotation to be seen, long enough to spare us.
        age = min(900, max(300, self._deps.limits.jwks_max_age_seconds))
        return json_response(document, headers={"Cache-Control": f"public, max-age={age}"})

    async def discovery(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return self._cached(self._of(request).discovery())

    async def authorization_server(self, request: web.Request) -> web.Response:
        """RFC 8414: the same document under the path that OAuth clients look at."""
        return await self.discovery(request)

    async def jwks(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return self._cached(self._of(request).jwks())

    def _of(self, request: web.Request) -> Documents:
        """The issuer that the path names; the daemon's own URL is the one without a name."""
        name = request.match_info.get("issuer")
        documents = self._deps.documents if name is None else self._deps.issuers.get(name)
        if documents is None:
            raise ProblemError("There is no such issuer.", reason="not_found")
        return documents

    async def introspect(self, request: web.Request) -> web.Response:
        """RFC 7662. Who holds a token may ask about it; a token that is no good says *inactive* and no more."""
        read_query(request, schemas.NoQuery)
        form = await read_form(
            request, limit_bytes=MAX_FORM_BYTES, timeout_seconds=self._deps.limits.body_timeout_seconds
        )
        tokens = [value for name, value in form if name == "token"]
        if len(tokens) != 1 or not 1 <= len(tokens[0]) <= MAX_INTROSPECTED_CHARS:
            raise ProblemError(
                "The form needs exactly one token.",
                reason="validation_failed",
                faults=[Fault("#/token", f"once, with 1 to {MAX_INTROSPECTED_CHARS} characters")],
            )
        return json_response(await self._deps.introspect(tokens[0]))
