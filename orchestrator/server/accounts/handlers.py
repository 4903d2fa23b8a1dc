"""Secrets, the inventory of credentials, and the scorecard over HTTP. All of it is for operators."""

from __future__ import annotations

import re

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.model.job import Caller
from orchestrator.server import schemas
from orchestrator.server.accounts.desks import Books, SecretDesk
from orchestrator.server.accounts.shapes import PipelineQuery, RotateQuery
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import read_query
from orchestrator.server.entrance.problems import ProblemError

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Accounts:
    """The handlers."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._deps = deps
        self._jobs = jobs

    async def list_secrets(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._operator(request)
        desk = self._deps.secrets
        return json_response({"secrets": list(await desk.listed()) if desk else []})

    async def rotate_secret(self, request: web.Request) -> web.Response:
        query = read_query(request, RotateQuery)
        caller, at_once = self._operator(request), query.at_once == "true"
        return json_response(await self._desk().rotate(_name(request), caller, at_once=at_once), status=202)

    async def retire_secret(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        caller = self._operator(request)
        return json_response(await self._desk().retire(_name(request), caller), status=202)

    async def retire_pipeline(self, request: web.Request) -> web.Response:
        query = read_query(request, PipelineQuery)
        names = await self._desk().retire_pipeline(query.pipeline, self._operator(request))
        return json_response({"pipeline": query.pipeline, "secrets": list(names)}, status=202)

    async def read_inventory(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._operator(request)
        return json_response(await self._books().inventory())

    async def read_scorecard(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        self._operator(request)
        return json_response(await self._books().scorecard())

    def _desk(self) -> SecretDesk:
        if self._deps.secrets is None:
            raise _unknown()
        return self._deps.secrets

    def _books(self) -> Books:
        if self._deps.books is None:
            raise ProblemError("Nothing is counted here.", reason="not_found")
        return self._deps.books

    def _operator(self, request: web.Request) -> Caller:
        caller = request[CALLER]
        if not self._jobs.is_operator(caller):
            raise GiveUpError(
                "Only operators may see and change secrets and credentials.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does",
            )
        return caller


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise _unknown()
    return name


def _unknown() -> GiveUpError:
    message = "No secret of this name is registered."
    return GiveUpError(message, reason="secret_unknown", fix="see `orchestrator secrets`")
