"""Answers that stay open: a job's output as text, its facts as server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress

import msgspec
from aiohttp import web

from orchestrator.model.events import Event, Fact, JobCompacted, JobFinished, LogClosed
from orchestrator.model.job import JobId
from orchestrator.server import schemas, views
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import Jobs
from orchestrator.server.entrance.body import read_query
from orchestrator.server.feed import FactFeed, FollowEndedError, Follower
from orchestrator.server.page.door import may_stay
from orchestrator.server.page.roles import VISITOR
from orchestrator.server.places import Reader
from orchestrator.server.stage_marks import LOOK_SECONDS, StageMarks

log = logging.getLogger("orchestrator.server")

_CHUNK_BYTES = 64 * 1024
_LOG_END: tuple[type[Event], ...] = (LogClosed, JobFinished, JobCompacted)
_EVENTS_END: tuple[type[Event], ...] = (JobFinished, JobCompacted)


class Streams:
    """Log and event streams. Their number is bounded by the feed, their memory by its buffers."""

    def __init__(self, deps: ServerDeps, jobs: Jobs, feed: FactFeed) -> None:
        self._deps = deps
        self._jobs = jobs
        self._feed = feed

    async def read_log(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, schemas.LogQuery)
        job_id, facts = await self._jobs.visible_facts(request)
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        with self._feed.follow(job_id, reader_of(request), _LOG_END) as follower:
            if query.follow == "true":
                # Read again, now that nothing can happen unseen.
                facts = await self._deps.reader.facts_of(job_id)
            over = query.follow == "false" or _ended(facts, _LOG_END)
            with suppress(ConnectionError):
                await response.prepare(request)
                await guard(request, response, self._copy_log(request, response, job_id, query.offset, follower, over))
        return response

    async def _copy_log(
        self,
        request: web.Request,
        response: web.StreamResponse,
        job_id: JobId,
        offset: int,
        follower: Follower,
        over: bool,
    ) -> None:
        while True:
            while chunk := await self._deps.logs.read(job_id, offset, _CHUNK_BYTES):
                offset += len(chunk)
                await self._write(request, response, chunk)
            if over:
                return
            over = await self._log_moved(job_id, offset, follower)
            _check_connected(request)

    async def _log_moved(self, job_id: JobId, offset: int, follower: Follower) -> bool:
        """Wait until the log may have grown or is over; True when it is over."""
        growth = asyncio.create_task(self._deps.logs.more(job_id, offset), name="log-growth")
        end = asyncio.create_task(follower.take(self._deps.limits.heartbeat_seconds), name="log-end")
        try:
            await asyncio.wait((growth, end), return_when=asyncio.FIRST_COMPLETED)
            if growth.done():
                growth.result()
            return bool(end.result()) if end.done() else False
        finally:
            for task in (growth, end):
                task.cancel()
            await asyncio.gather(growth, end, return_exceptions=True)

    async def read_events(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, schemas.EventsQuery)
        job_id, _ = await self._jobs.visible_facts(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        with self._feed.follow(job_id, reader_of(request)) as follower:
            facts = await self._deps.reader.facts_of(job_id)
            with suppress(ConnectionError):
                await response.prepare(request)
                follow = follower if query.follow == "true" else None
                marks = StageMarks(self._deps.engine, job_id) if query.stages == "true" else None
                await guard(request, response, self._copy_events(request, response, facts, follow, marks))
        return response

    async def _copy_events(
        self,
        request: web.Request,
        response: web.StreamResponse,
        facts: Sequence[Fact],
        follower: Follower | None,
        marks: StageMarks | None,
    ) -> None:
        last = last_event_id(request)
        await self._write(request, response, b"retry: 2000\n\n")
        while True:
            fresh = [fact for fact in facts if fact.seq > last]
            if fresh:
                last = fresh[-1].seq
            for start in range(0, len(fresh), 64):
                await self._write(request, response, b"".join(map(_sse, fresh[start : start + 64])))
            if follower is None or _ended(facts, _EVENTS_END):
                return
            facts = await self._next_facts(request, response, follower, marks)

    async def _next_facts(
        self, request: web.Request, response: web.StreamResponse, follower: Follower, marks: StageMarks | None
    ) -> Sequence[Fact]:
        """Wait for facts. Meanwhile it is told how far the runner is, and that we live."""
        heartbeat = self._deps.limits.heartbeat_seconds
        step, quiet = min(heartbeat, LOOK_SECONDS) if marks else heartbeat, 0.0
        while not (facts := await follower.take(step)):
            quiet += step
            told = marks.news() if marks else b""
            if told or quiet >= heartbeat:
                await self._write(request, response, told or b": alive\n\n")
                quiet = 0.0
        return facts

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        if not may_stay(request, self._deps.page):
            raise FollowEndedError("the session is over")
        await write(response, data, self._deps.limits.write_timeout_seconds)


def reader_of(request: web.Request) -> Reader:
    """Who takes a place among the answers that stay open. Somebody's programs take none of those of their page."""
    visitor, caller = request.get(VISITOR), request[CALLER]
    if visitor is None:
        return Reader(f"token {caller.id}")
    return Reader("", request.remote or "") if visitor.anonymous else Reader(f"page {caller.id}")


async def write(response: web.StreamResponse, data: bytes, timeout_seconds: float) -> None:
    """Raises TimeoutError: the reader does not take it."""
    async with asyncio.timeout(timeout_seconds):
        await response.write(data)


async def guard(request: web.Request, response: web.StreamResponse, copying: Coroutine[None, None, None]) -> None:
    """Run a copy whose head is sent already: whatever goes wrong now can only cut the connection.

    It is cut without the closing chunk, so that a reader never takes a part for the whole.
    """
    try:
        await copying
        await response.write_eof()
    except FollowEndedError as ended:
        log.info("stream cut: %s", ended)
    except TimeoutError:
        log.info("stream cut: the reader took nothing in time")
    except ConnectionError:
        pass
    except Exception:
        log.exception("stream cut by an unexpected error")
    else:
        return
    if request.transport is not None:
        request.transport.abort()


def _ended(facts: Sequence[Fact], ends: tuple[type[Event], ...]) -> bool:
    return any(isinstance(fact.event, ends) for fact in facts)


def _check_connected(request: web.Request) -> None:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the reader has gone")


def last_event_id(request: web.Request) -> int:
    """The number behind which a reader wants to go on; 0 from the start."""
    text = request.headers.get("Last-Event-ID", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _sse(fact: Fact) -> bytes:
    """One event. JSON has no raw line break, so one `data` line is enough."""
    view = views.event_view(fact)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (fact.seq, view["kind"].encode(), msgspec.json.encode(view))
