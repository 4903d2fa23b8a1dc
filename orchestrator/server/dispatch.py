"""Jobs over HTTP: dispatch, read, list, cancel, trace; and the pools they run in.

An operator (a caller of the local issuer) sees every job, and so does whom the live page lets in. Any other caller
sees only their own, and another's job answers exactly as one that does not exist.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec
from aiohttp import web

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.intake import dispatch as intake
from orchestrator.journal.port import JobQuery, JobSummary
from orchestrator.lifecycle.why import Why, why
from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.job import Caller, JobId, JobOffer
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record, fold
from orchestrator.server import schemas, views
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.entrance.body import read_model, read_query
from orchestrator.server.entrance.edge import one_header
from orchestrator.server.page.roles import VISITOR
from orchestrator.telemetry.ids import parse_traceparent, trace_id, traceparent

_JOB_ID = re.compile(schemas.JOB_ID_PATTERN.removesuffix("$"))


def json_response(document: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer, encoded once and fast."""
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type="application/json", headers=headers
    )


def not_found() -> GiveUpError:
    return GiveUpError("There is no such job, or it is not yours.", reason="job_not_found")


class Jobs:
    """The handlers. Each is one operation of the route table."""

    def __init__(self, deps: ServerDeps) -> None:
        self._deps = deps

    def is_operator(self, caller: Caller) -> bool:
        return caller.issuer == self._deps.local_issuer

    def _may_see(self, caller: Caller, facts: Sequence[Fact]) -> bool:
        if self.is_operator(caller):
            return True
        match facts[0].event:
            case events.JobOffered(offer):
                return offer.caller.id == caller.id
            case events.JobCompacted(caller_id=owner):
                return owner == caller.id
            case _:
                return False

    def visible_record(self, request: web.Request) -> Record | None:
        """The record of the job a request names; None unless it is unfinished and the caller may see it."""
        record = self._deps.engine.record(JobId(request.match_info["job_id"]))
        if record is None or VISITOR in request or self.is_operator(request[CALLER]):
            return record
        return record if record.offer.caller.id == request[CALLER].id else None

    async def visible_facts(self, request: web.Request) -> tuple[JobId, Sequence[Fact]]:
        """The job a request names, with its facts; GiveUpError `job_not_found` unless the caller may see it."""
        name = request.match_info["job_id"]
        return JobId(name), await self.facts_for(request, name)

    async def facts_for(self, request: web.Request, name: str) -> Sequence[Fact]:
        """The facts of the job of this id; GiveUpError `job_not_found` unless the caller may see it."""
        facts = await self._deps.reader.facts_of(JobId(name)) if _JOB_ID.fullmatch(name) else ()
        if not facts or not (VISITOR in request or self._may_see(request[CALLER], facts)):
            raise not_found()
        return facts

    async def dispatch_job(self, request: web.Request) -> web.Response:
        limits = self._deps.limits
        read_query(request, schemas.NoQuery)
        key = intake.idempotency_key(one_header(request, "Idempotency-Key"))
        if self._deps.draining():
            raise TryAgainError(
                "The daemon drains or stops, and takes no new jobs.",
                reason="draining",
                fix="send it again later with the same idempotency key; operators: orchestrator drain --resume",
            )
        body = await read_model(
            request,
            schemas.JobRequest,
            limit_bytes=limits.max_body_bytes,
            timeout_seconds=limits.body_timeout_seconds,
        )
        parent = one_header(request, "traceparent") or ""
        offer = intake.offer(
            intake.DispatchRequest(**body.model_dump(), stated=body.model_dump(exclude_defaults=True)),
            key,
            request[CALLER],
            traceparent=parent if parse_traceparent(parent) else "",
        )
        return await self._offer(offer)

    async def _offer(self, offer: JobOffer) -> web.Response:
        job_id = offer.key.id
        headers = {"Location": f"/v1/jobs/{job_id}", "traceparent": traceparent(job_id)}
        record, created = await self._deps.engine.offer(offer)
        if created:
            return json_response(views.record_view(record, trace_id(job_id)), status=202, headers=headers)
        facts = await self._deps.reader.facts_of(job_id)
        headers["Idempotency-Replayed"] = "true"
        view = views.job_view(facts, trace_id(job_id)) if facts else views.record_view(record, trace_id(job_id))
        return json_response(view, headers=headers)

    async def get_job(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        job_id, facts = await self.visible_facts(request)
        return json_response(views.job_view(facts, trace_id(job_id)))

    async def list_jobs(self, request: web.Request) -> web.Response:
        query = read_query(request, schemas.ListQuery)
        caller = request[CALLER]
        # One line more than asked tells whether there is a next page.
        lines = await self._deps.reader.jobs(
            JobQuery(
                phase=query.phase or "",
                result=query.result or "",
                pool=query.pool or "",
                pipeline=query.pipeline or "",
                caller_id="" if VISITOR in request or self.is_operator(caller) else caller.id,
                after=query.after or "",
                limit=query.limit + 1,
            )
        )
        page = lines[: query.limit]
        following = page[-1].job_id if len(lines) > query.limit else None
        jobs = [views.summary_view(line, self._stand(line)) for line in page]
        return json_response({"jobs": jobs, "next": following})

    def _stand(self, line: JobSummary) -> Why | None:
        """Why an unfinished job stands where it stands, by what is in memory. Its place in the line is not counted."""
        record = None if line.phase is Phase.FINISHED else self._deps.engine.record(line.job_id)
        if record is None:
            return None
        return why(record, replace(self._deps.around(record, place=False), draining=self._deps.draining()))

    async def cancel_job(self, request: web.Request) -> web.Response:
        query = read_query(request, schemas.CancelQuery)
        job_id, _ = await self.visible_facts(request)
        by = request[VISITOR].who if VISITOR in request else request[CALLER].subject
        await self._deps.engine.cancel(job_id, by[:200], query.reason)
        facts = await self._deps.reader.facts_of(job_id)
        if not facts:
            raise not_found()
        return json_response(views.job_view(facts, trace_id(job_id)), status=202)

    async def read_trace(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        _, facts = await self.visible_facts(request)
        under_way = self._deps.engine.under_way(fold(facts))
        # A job can cause as many spans and events as take a tenth of a second.
        return await asyncio.to_thread(lambda: json_response(self._deps.trace(facts, under_way)))

    async def list_pools(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        states = (views.pool_view(s.pool, s.in_use, s.waiting, s.guards_missing) for s in self._deps.pools())
        return json_response({"pools": list(states)})
