"""What a runner may ask for, however it is known: its work, tokens, to note artifacts, to relay spans.

Who is asking is a `Seat`: found by its listener (`runner_api`) or by its credential (`cluster_api`). Here is what
follows from it, so that both kinds of runner get the same answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec
from aiohttp import web

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import ArtifactReported
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.server import schemas
from orchestrator.server.deps import Exchange, JobEngine, Namer, SpanRelay, WorkFiles
from orchestrator.server.entrance.body import read_body, read_form, read_model, require_media_type
from orchestrator.server.entrance.edge import SECURITY_HEADERS, answer
from orchestrator.server.entrance.problems import ProblemError
from orchestrator.server.runner import naming
from orchestrator.server.runner.answers import json_answer, oauth_error
from orchestrator.server.runner.claiming import proof_of
from orchestrator.server.runner.deploying import deploying
from orchestrator.server.runner.reports import Report, Reporting
from orchestrator.server.runner.span_count import SpanCount
from orchestrator.server.runner.work import RunnerEndpoints, work_document
from orchestrator.server.runner.work_files import made_files
from orchestrator.telemetry.ids import traceparent
from orchestrator.telemetry.relay import relay_answer

log = logging.getLogger("orchestrator.server.runner")

OTLP = "application/x-protobuf"
MAX_TOKEN_CHARS = 4096
MAX_ALARMS = 8

CLAIM_PATH = "/runner/v1/claim"
TOKEN_PATH = "/runner/v1/token"  # noqa: S105 -- a path
ARTIFACTS_PATH = "/runner/v1/artifacts"
ATTESTATIONS_PATH = "/runner/v1/attestations"
DEPLOYMENT_PATH = "/runner/v1/deployment"
TRACES_PATH = "/runner/v1/traces"


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """Bounds for one runner. Sizes in bytes, times in seconds."""

    max_connections: int = 64
    idle_seconds: float = 30
    body_timeout_seconds: float = 10
    max_claim_bytes: int = 64 * 1024
    max_form_bytes: int = 32 * 1024
    max_artifact_bytes: int = 8 * 1024
    max_report_bytes: int = 24 * 1024
    max_spans_bytes: int = 4 << 20
    max_artifacts: int = 256
    spans_note_seconds: float = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerDeps:
    """What the handlers need. `relay` is None where spans are not relayed.

    `masker` is told each runner's credential before the runner gets any work, and masks what a job says of itself.
    `work_files` and `namer` are for runners whose platform names their job, `work_files` also for jobs with registered
    secrets; `audience_of` is the audience that a platform's token for such a job must have, `traceparent_of` a job's.
    """

    engine: JobEngine
    exchange: Exchange
    pool_of: Callable[[Record], Pool | None]
    masker: Masker = field(default_factory=Masker)
    relay: SpanRelay | None = None
    work_files: WorkFiles | None = None
    namer: Namer | None = None
    audience_of: Callable[[Record], str] = field(default=lambda _record: "")
    report: Report | None = None
    traceparent_of: Callable[[Record], str] = field(default=lambda record: traceparent(record.id))
    limits: RunnerLimits = field(default_factory=RunnerLimits)


@dataclass(slots=True, eq=False)
class Seat:
    """One runner, and what was counted of it."""

    identity: RunnerIdentity
    reports: Reporting = field(default_factory=Reporting)
    alarms: int = 0
    refused: int = 0
    misnamed: int = 0
    spans: SpanCount = field(default_factory=SpanCount)
    relaying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    naming: asyncio.Lock = field(default_factory=asyncio.Lock)
    deploying: asyncio.Lock = field(default_factory=asyncio.Lock)


Verified = Callable[[str], Awaitable[Seat]]
"""A credential to whose it is; GiveUpError `runner_unknown` when it is nobody's here."""

Handler = Callable[[web.BaseRequest], Awaitable[web.Response]]


async def answered(handler: Callable[[], Awaitable[web.Response]], request: web.BaseRequest, who: str) -> web.Response:
    """The handler's answer, or the problem document for whatever went wrong. `who` is for the log."""
    try:
        response = await handler()
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 -- the border: everything becomes a problem document
        response = answer(error, request)
        log.info(
            "runner request refused",
            extra={"runner": who, "status": response.status, "reason": getattr(error, "reason", "")},
        )
    response.headers.update(SECURITY_HEADERS)
    response.headers["Cache-Control"] = "no-store"
    return response


def require_post(request: web.BaseRequest) -> None:
    if request.method != "POST":
        raise ProblemError("Only POST is allowed here.", reason="method_not_allowed", headers={"Allow": "POST"})


class RunnerHandlers:
    """The answers themselves; errors are raised and become problem documents at the border."""

    def __init__(self, deps: RunnerDeps) -> None:
        self._deps = deps

    def mask(self, identity: RunnerIdentity, credential: str) -> None:
        """Have a credential masked wherever the runner's job is shown, before any work is out that could print it."""
        record = self._deps.engine.record_of_runner(identity.name)
        if record is not None:
            self._deps.masker.register(record.id, credential)

    def ended(self, identity: RunnerIdentity) -> bool:
        """Whether the end of the runner's job is recorded."""
        record = self._deps.engine.record_of_runner(identity.name)
        return record is None or record.outcome is not None

    def running(self, identity: RunnerIdentity) -> Record:
        """The record of a runner whose job runs and has an identity."""
        record = self._deps.engine.bound_record(identity)
        if record is None or not record.live:
            raise GiveUpError("The runner has no running job.", reason="job_not_running")
        return record

    async def read_claim(self, request: web.BaseRequest) -> EgressProof:
        """The proof in a claim's body."""
        limits = self._deps.limits
        claim = await read_model(
            request,
            schemas.ClaimRequest,
            limit_bytes=limits.max_claim_bytes,
            timeout_seconds=limits.body_timeout_seconds,
        )
        return proof_of(claim)

    async def claim(self, seat: Seat, proof: EgressProof) -> tuple[Record, Pool]:
        """Bind the runner to its job; from here on the work may go out, once.

        Raises:
            GiveUpError: reason `already_bound`, `job_ended`, `runner_unknown` or `egress_unproven`.
            TryAgainError: nothing was bound.
        """
        if seat.refused >= MAX_ALARMS:  # each refusal may leave an alarm in the journal
            raise GiveUpError("This runner was refused too often.", reason="already_bound")
        try:
            record = await self._deps.engine.claim(seat.identity, proof)
        except GiveUpError:
            seat.refused += 1
            raise
        pool = self._deps.pool_of(record)
        if pool is None:
            raise GiveUpError("The job's pool is gone.", reason="job_ended")
        return record, pool

    async def work(self, record: Record, pool: Pool, endpoints: RunnerEndpoints) -> web.Response:
        """The answer to a claim that was taken.

        Raises:
            GiveUpError: reason `work_unavailable`; the job has ended.
        """
        deps = self._deps
        make = deps.work_files if record.platform is not None or record.offer.spec.secrets else None
        files = await made_files(record, make, deps.masker, lambda job, why: deps.engine.abandon(job.id, why))
        audience = deps.audience_of(record) if record.platform is not None else ""
        return json_answer(work_document(record, pool, endpoints, deps.traceparent_of(record), files, audience))

    async def job(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        """What a runner's hook reports: 200 when its job may go on, 204 when nobody can say yet, else a problem."""
        limits, deps = self._deps.limits, self._deps
        size, seconds = limits.max_report_bytes, limits.body_timeout_seconds
        report = await read_model(request, schemas.JobReport, limit_bytes=size, timeout_seconds=seconds)
        if seat.misnamed >= naming.MAX_REFUSALS:
            raise GiveUpError("This runner's reports were refused too often.", reason="naming_refused")
        async with seat.naming:
            try:
                answer = await naming.named(deps, seat.identity, naming.told(report))
            except GiveUpError:
                seat.misnamed += 1
                raise
        return web.Response(status=204) if answer is None else json_answer(answer)

    async def token(self, verified: Verified, request: web.BaseRequest) -> web.Response:
        limits = self._deps.limits
        try:
            form = await read_form(
                request, limit_bytes=limits.max_form_bytes, timeout_seconds=limits.body_timeout_seconds
            )
            subject_tokens = [value for name, value in form if name == "subject_token"]
            if len(subject_tokens) != 1 or not 1 <= len(subject_tokens[0]) <= MAX_TOKEN_CHARS:
                return oauth_error(400, "invalid_request", "exactly one subject_token is needed")
        except ProblemError as error:
            return oauth_error(400, "invalid_request", str(error))
        try:
            seat = await verified(subject_tokens[0])
        except GiveUpError as error:
            return oauth_error(401, "invalid_client", str(error))
        reply = await self._deps.exchange(seat.identity, form)
        response = json_answer(reply.document, status=reply.status)
        response.headers.update(reply.headers)
        return response

    async def artifact(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        limits = self._deps.limits
        body = await read_model(
            request,
            schemas.ArtifactRequest,
            limit_bytes=limits.max_artifact_bytes,
            timeout_seconds=limits.body_timeout_seconds,
        )
        record = self.running(seat.identity)
        name, media_type = map(self._deps.masker.text, (body.name, body.media_type))
        artifact = ArtifactReported(name, body.digest, media_type, body.size_bytes)
        await seat.reports.artifact(record.id, artifact, limits.max_artifacts, self._deps.engine.note)
        return json_answer(msgspec.to_builtins(artifact), status=201)

    async def attestation(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        deps, running = self._deps, partial(self.running, seat.identity)
        fact = await seat.reports.take(request, deps.report, running, deps.masker, deps.engine.note)
        return json_answer(msgspec.to_builtins(fact), status=201)

    async def deployment(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        size, seconds = self._deps.limits.max_artifact_bytes, self._deps.limits.body_timeout_seconds
        named = await read_model(request, schemas.DeploymentRequest, limit_bytes=size, timeout_seconds=seconds)
        running = partial(self.running, seat.identity)
        return json_answer(await deploying(self._deps.engine, running, seat.deploying, named.artifact_digest))

    def spans_welcome(self, request: web.BaseRequest) -> str:
        """The Content-Encoding of a request that can be relayed: OTLP/HTTP in protobuf, plain or gzip."""
        if self._deps.relay is None:
            raise GiveUpError("Spans are not relayed here.", reason="relay_disabled")
        require_media_type(request, OTLP)
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise ProblemError("Only gzip is understood.", reason="media_type_unsupported")
        return encoding

    async def spans(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        encoding = self.spans_welcome(request)
        relay = self._deps.relay
        assert relay is not None, "no spans are welcome without one"
        record = self.running(seat.identity)
        limits = self._deps.limits
        size, seconds = limits.max_spans_bytes, limits.body_timeout_seconds
        async with seat.relaying:  # what waits here has not been read, so it is not in our memory
            body = await read_body(request, limit_bytes=size, timeout_seconds=seconds, compressed=True)
            self.running(seat.identity)  # a slow body must not outlive the job
            relayed = await relay(record.id, body, encoding)
        seat.spans.add(relayed)
        if seat.spans.due(asyncio.get_running_loop().time(), limits.spans_note_seconds):
            await self._deps.engine.note(record.id, seat.spans.take())
        return web.Response(body=relay_answer(relayed), content_type=OTLP)

    async def leave(self, seat: Seat) -> None:
        """Note what was counted since the last note; too late is no harm, the count is only for people."""
        record = self._deps.engine.record_of_runner(seat.identity.name)
        if record is not None and seat.spans.pending:
            with suppress(OrchestratorError):
                await self._deps.engine.note(record.id, seat.spans.take())
