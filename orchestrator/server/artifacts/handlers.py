"""Artifacts over HTTP: what is known of them, what was signed about them, and more of it from others.

An operator sees every artifact. Anybody else sees those that a job of theirs built or reported on, and another's
answers exactly as one that does not exist. To add to one nobody has to see it: what is added counts by its signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.model import events
from orchestrator.model.job import Caller
from orchestrator.server import schemas
from orchestrator.server.artifacts.shapes import ArtifactListQuery
from orchestrator.server.deps import CALLER, ArtifactDesk, ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import read_body, read_query, require_media_type
from orchestrator.server.entrance.problems import ProblemError
from orchestrator.server.operation import JSON

MAX_ATTESTATION_BYTES: Final = 6 << 20


class Artifacts:
    """The handlers."""

    def __init__(self, deps: ServerDeps, jobs: Jobs) -> None:
        self._deps = deps
        self._jobs = jobs

    def _desk(self) -> ArtifactDesk:
        if self._deps.artifacts is None:
            raise GiveUpError("Nothing is known of artifacts here.", reason="not_found")
        return self._deps.artifacts

    async def list_artifacts(self, request: web.Request) -> web.Response:
        query = read_query(request, ArtifactListQuery)
        if not self._jobs.is_operator(request[CALLER]):
            raise GiveUpError(
                "Only operators may list artifacts.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does",
            )
        return json_response({"artifacts": list(await self._desk().listed(query.limit))})

    async def get_artifact(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        found = await self._visible(request)
        return json_response(found)

    async def upload_attestation(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        desk = self._desk()
        require_media_type(request, JSON)
        seconds = self._deps.limits.body_timeout_seconds
        body = await read_body(request, limit_bytes=MAX_ATTESTATION_BYTES, timeout_seconds=seconds)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise ProblemError("The body is not UTF-8.", reason="json_malformed") from None
        kept, new = await desk.upload(request.match_info["digest"], text, request[CALLER])
        return json_response(kept, status=201 if new else 200)

    async def read_attestation(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        await self._visible(request)
        bundle = await self._desk().bundle(request.match_info["digest"], request.match_info["attestation"])
        if bundle is None:
            raise _unknown("There is no such attestation of this artifact.")
        return web.Response(text=bundle, content_type=JSON)

    async def read_summary(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        _, facts = await self._jobs.visible_facts(request)
        for fact in reversed(facts):
            if isinstance(fact.event, events.SummarySigned):
                # The bytes that were signed: whoever keeps them can check them without us.
                return web.Response(text=fact.event.envelope, content_type=JSON)
        raise ProblemError(
            "The job has no verification summary.",
            reason="summary_missing",
            fix="only a job that names an environment and an artifact's digest gets one, with its first token",
        )

    async def _visible(self, request: web.Request) -> Mapping[str, Any]:
        found = await self._desk().show(request.match_info["digest"])
        caller: Caller = request[CALLER]
        if found is None or not (self._jobs.is_operator(caller) or caller.id in _owners(found["facts"])):
            raise _unknown("There is no such artifact, or it is not yours.")
        return found


def _owners(facts: Mapping[str, Any]) -> set[str]:
    """The callers (ids) whose jobs built the artifact or reported something about it that counts."""
    entries = [entry for name in ("signatures", "sboms", "scans") for entry in facts[name]]
    return {facts["built"].get("caller", ""), *((entry.get("reporter") or {}).get("caller", "") for entry in entries)}


def _unknown(message: str) -> GiveUpError:
    return GiveUpError(message, reason="artifact_unknown", fix="compare the digest with what its build reported")
