"""The runner API: what an agent and its job reach from inside their sandbox, one listener for each runner.

A credential is only good on the listener of the very runner it was made for: a token that turns up on
another runner's listener was stolen, so it is refused and an alarm goes on both jobs.

Each listener has a low-level aiohttp server of its own whose handler already knows the runner, so no
table from connection to runner can ever be wrong.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.ports import RunnerCredentials, RunnerIdentity
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import AlarmRaised, ArtifactReported
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName
from orchestrator.server import schemas
from orchestrator.server.body import read_body, read_form, read_model, require_media_type
from orchestrator.server.connection import ConnectionLimits, connection_factory
from orchestrator.server.deps import Exchange, JobEngine, SpanRelay
from orchestrator.server.edge import SECURITY_HEADERS, answer, bearer_token
from orchestrator.server.problems import ProblemError
from orchestrator.server.span_count import SpanCount
from orchestrator.server.work import RunnerEndpoints, work_document
from orchestrator.telemetry.ids import traceparent
from orchestrator.telemetry.relay import relay_answer

log = logging.getLogger("orchestrator.server.runner_api")

_OTLP = "application/x-protobuf"
_MAX_TOKEN_CHARS = 4096
_MAX_ALARMS = 8


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """Bounds for one runner. Sizes in bytes, times in seconds."""

    max_connections: int = 64
    idle_seconds: float = 30
    body_timeout_seconds: float = 10
    max_claim_bytes: int = 64 * 1024
    max_form_bytes: int = 32 * 1024
    max_artifact_bytes: int = 8 * 1024
    max_spans_bytes: int = 4 << 20
    max_artifacts: int = 256
    spans_note_seconds: float = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerApiDeps:
    """What the runner API needs. `relay` is None where spans are not relayed.

    `masker` is told each runner's credential before the runner gets any work, and masks what a job says of itself.
    """

    engine: JobEngine
    credentials: RunnerCredentials
    exchange: Exchange
    pools: Mapping[str, Pool]
    masker: Masker = field(default_factory=Masker)
    relay: SpanRelay | None = None
    endpoints: RunnerEndpoints = field(default_factory=RunnerEndpoints)
    limits: RunnerLimits = field(default_factory=RunnerLimits)


@dataclass(slots=True, eq=False)
class _Origin:
    """One runner's listener, and what was counted on it."""

    identity: RunnerIdentity
    http: web.Server
    listener: asyncio.Server
    artifacts: int = 0
    alarms: int = 0
    refused: int = 0
    spans: SpanCount = field(default_factory=SpanCount)
    relaying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


class RunnerApi:
    """Serves the listening sockets that the backend hands over; `close` each when its runner is gone."""

    def __init__(self, deps: RunnerApiDeps) -> None:
        self._deps = deps
        self._origins: dict[RunnerName, _Origin] = {}
        self._routes: Mapping[str, Callable[[_Origin, web.BaseRequest], Awaitable[web.Response]]] = {
            "/runner/v1/claim": self._claim,
            "/runner/v1/token": self._token,
            "/runner/v1/artifacts": self._artifact,
            "/runner/v1/traces": self._spans,
        }

    async def serve(self, runner: RunnerName, uid: str, listener: socket.socket) -> None:
        """Answer on a bound, listening socket for exactly this runner; the socket is ours from now on.

        A runner that is served already is replaced, for only its newest uid can be alive.
        """
        await self.close(runner)
        limits = self._deps.limits
        identity = RunnerIdentity(runner, uid)
        http: web.Server = web.Server(partial(self._handle, identity))
        listener.setblocking(False)
        try:
            server = await asyncio.get_running_loop().create_server(
                connection_factory(http, ConnectionLimits(limits.max_connections, limits.idle_seconds)),
                sock=listener,
                backlog=limits.max_connections,
            )
        except BaseException:
            listener.close()
            raise
        self._origins[runner] = _Origin(identity, http, server)

    async def close(self, runner: RunnerName) -> None:
        """Stop listening for a runner and cut its connections. Unknown runners are fine."""
        origin = self._origins.pop(runner, None)
        if origin is not None:
            origin.listener.close()
            origin.http.pre_shutdown()
            await origin.http.shutdown(0.1)
            await self._note_rest(origin)

    async def stop(self) -> None:
        """Close every listener."""
        await asyncio.gather(*(self.close(runner) for runner in list(self._origins)))

    async def _handle(self, identity: RunnerIdentity, request: web.BaseRequest) -> web.StreamResponse:
        try:
            origin = self._origins.get(identity.name)
            if origin is None or origin.identity != identity:
                raise GiveUpError("This runner is over.", reason="runner_unknown")
            route = self._routes.get(request.path)
            if route is None:
                raise ProblemError("There is nothing here.", reason="not_found")
            if request.method != "POST":
                raise ProblemError("Only POST is allowed here.", reason="method_not_allowed", headers={"Allow": "POST"})
            response = await route(origin, request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- the border: everything becomes a problem document
            response = answer(error, request)
            log.info(
                "runner request refused",
                extra={"runner": identity.name, "status": response.status, "reason": getattr(error, "reason", "")},
            )
        response.headers.update(SECURITY_HEADERS)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _verified(self, origin: _Origin, credential: str) -> RunnerIdentity:
        """The listener's own runner, if the credential is that runner's; GiveUpError `runner_unknown` if not."""
        presented = await self._deps.credentials.verify(credential)
        if presented != origin.identity:
            if presented is not None:
                await self._alarm(origin, presented)
            raise GiveUpError("The runner credential is not valid here.", reason="runner_unknown")
        record = self._deps.engine.record_of_runner(presented.name)
        if record is not None:
            self._deps.masker.register(record.id, credential)  # before any work is out that could print it
        return origin.identity

    async def _alarm(self, origin: _Origin, presented: RunnerIdentity) -> None:
        here = origin.identity
        log.error("runner credential on a foreign listener", extra={"runner": here.name, "owner": presented.name})
        if origin.alarms >= _MAX_ALARMS:
            return
        origin.alarms += 1
        detail = f"the credential of runner {presented.name} was presented by runner {here.name}"
        for name in {here.name, presented.name}:
            record = self._deps.engine.record_of_runner(name)
            if record is not None:
                await self._deps.engine.note(record.id, AlarmRaised("runner_credential_misused", detail))

    def _running(self, identity: RunnerIdentity) -> Record:
        record = self._deps.engine.record_of_runner(identity.name)
        if record is None or not record.live or record.bound_uid != identity.uid:
            raise GiveUpError("The runner has no running job.", reason="job_not_running")
        return record

    async def _claim(self, origin: _Origin, request: web.BaseRequest) -> web.Response:
        identity = await self._verified(origin, bearer_token(request, _MAX_TOKEN_CHARS))
        limits = self._deps.limits
        claim = await read_model(
            request,
            schemas.ClaimRequest,
            limit_bytes=limits.max_claim_bytes,
            timeout_seconds=limits.body_timeout_seconds,
        )
        proof = EgressProof(denied=tuple(claim.proof.denied), reached=tuple(claim.proof.reached))
        if origin.refused >= _MAX_ALARMS:  # each refusal may leave an alarm in the journal
            raise GiveUpError("This runner was refused too often.", reason="already_bound")
        try:
            record = await self._deps.engine.claim(identity, proof)
        except GiveUpError:
            origin.refused += 1
            raise
        pool = self._deps.pools.get(record.offer.spec.pool)
        if pool is None:
            raise GiveUpError("The job's pool is gone.", reason="job_ended")
        return _json(work_document(record, pool, self._deps.endpoints, traceparent(record.id)))

    async def _token(self, origin: _Origin, request: web.BaseRequest) -> web.Response:
        limits = self._deps.limits
        try:
            form = await read_form(
                request, limit_bytes=limits.max_form_bytes, timeout_seconds=limits.body_timeout_seconds
            )
            subject_tokens = [value for name, value in form if name == "subject_token"]
            if len(subject_tokens) != 1 or not 1 <= len(subject_tokens[0]) <= _MAX_TOKEN_CHARS:
                return _oauth_error(400, "invalid_request", "exactly one subject_token is needed")
        except ProblemError as error:
            return _oauth_error(400, "invalid_request", str(error))
        try:
            identity = await self._verified(origin, subject_tokens[0])
        except GiveUpError as error:
            return _oauth_error(401, "invalid_client", str(error))
        reply = await self._deps.exchange(identity, form)
        response = _json(reply.document, status=reply.status)
        response.headers.update(reply.headers)
        return response

    async def _artifact(self, origin: _Origin, request: web.BaseRequest) -> web.Response:
        identity = await self._verified(origin, bearer_token(request, _MAX_TOKEN_CHARS))
        limits = self._deps.limits
        body = await read_model(
            request,
            schemas.ArtifactRequest,
            limit_bytes=limits.max_artifact_bytes,
            timeout_seconds=limits.body_timeout_seconds,
        )
        record = self._running(identity)
        if origin.artifacts >= limits.max_artifacts:
            raise GiveUpError(f"A job may report {limits.max_artifacts} artifacts.", reason="too_many_artifacts")
        origin.artifacts += 1
        name, media_type = map(self._deps.masker.text, (body.name, body.media_type))
        artifact = ArtifactReported(name, body.digest, media_type, body.size_bytes)
        await self._deps.engine.note(record.id, artifact)
        return _json(msgspec.to_builtins(artifact), status=201)

    async def _spans(self, origin: _Origin, request: web.BaseRequest) -> web.Response:
        """OTLP/HTTP in protobuf, plain or gzip. The listener alone identifies the sender: exporters send no token."""
        if self._deps.relay is None:
            raise GiveUpError("Spans are not relayed here.", reason="relay_disabled")
        require_media_type(request, _OTLP)
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise ProblemError("Only gzip is understood.", reason="media_type_unsupported")
        record = self._running(origin.identity)
        limits = self._deps.limits
        size, seconds = limits.max_spans_bytes, limits.body_timeout_seconds
        async with origin.relaying:  # what waits here has not been read, so it is not in our memory
            body = await read_body(request, limit_bytes=size, timeout_seconds=seconds, compressed=True)
            self._running(origin.identity)  # a slow body must not outlive the job
            relayed = await self._deps.relay(record.id, body, encoding)
        origin.spans.add(relayed)
        if origin.spans.due(asyncio.get_running_loop().time(), limits.spans_note_seconds):
            await self._deps.engine.note(record.id, origin.spans.take())
        return web.Response(body=relay_answer(relayed), content_type=_OTLP)

    async def _note_rest(self, origin: _Origin) -> None:
        """What was counted since the last note; too late is no harm, the count is only for people."""
        record = self._deps.engine.record_of_runner(origin.identity.name)
        if record is not None and origin.spans.pending:
            with suppress(OrchestratorError):
                await self._deps.engine.note(record.id, origin.spans.take())


def _json(document: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


def _oauth_error(status: int, code: str, description: str) -> web.Response:
    """RFC 6749, section 5.2."""
    document: dict[str, Any] = {"error": code, "error_description": description}
    response = _json(document, status=status)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    return response
