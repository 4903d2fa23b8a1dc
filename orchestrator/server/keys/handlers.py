"""The issuers' signing keys, for operators: which there are, their rotation, and the withdrawal of one that leaked."""

from __future__ import annotations

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.server import schemas
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import read_query
from orchestrator.server.keys import shapes as key_shapes


class Keys:
    """The handlers."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._deps = deps
        self._jobs = jobs

    async def list_keys(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._operators_only(request)
        return json_response({"issuers": self._deps.keys.listed()})

    async def revoke_key(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._operators_only(request)
        return json_response(await self._deps.keys.revoke(request.match_info["kid"], request[CALLER]))

    async def rotate_keys(self, request: web.Request) -> web.Response:
        query = read_query(request, key_shapes.RotateKeysQuery)
        self._operators_only(request)
        done = await self._deps.keys.rotate(query.issuer, request[CALLER], at_once=query.at_once == "true")
        return json_response({"issuers": done})

    def _operators_only(self, request: web.Request) -> None:
        if not self._jobs.is_operator(request[CALLER]):
            raise GiveUpError(
                "Only operators may see, rotate and withdraw signing keys.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does",
            )
