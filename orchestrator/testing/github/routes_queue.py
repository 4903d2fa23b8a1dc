"""The message queue of a session: polling, and deleting what was dealt with."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestrator.testing.github.faults import Faults
from orchestrator.testing.github.model import Message, ScaleSet, Session
from orchestrator.testing.github.routes_service import ServiceRoutes
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.tokens import Kind
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Plane, Reply

_EXPIRED = "GitHub.Actions.Runtime.WebApi.RunnerScaleSetSessionExpiredException"
QUEUE_PATH = "/scalesets/message"


class QueueRoutes:
    """Polls are held until something happens or the hold time is over."""

    def __init__(self, state: GitHubState, faults: Faults, service: ServiceRoutes) -> None:
        self._state = state
        self._faults = faults
        self._service = service

    def endpoints(self) -> list[Endpoint]:
        kinds = (Kind.QUEUE,)
        return [
            Endpoint("GET", QUEUE_PATH, self._poll, Plane.QUEUE, kinds),
            Endpoint("DELETE", QUEUE_PATH + "/{message}", self._delete, Plane.QUEUE, kinds),
        ]

    async def _poll(self, call: Call) -> Reply:
        session = self._session(call)
        one = session.scale_set
        last = call.query("lastMessageId") or "0"
        capacity = call.request.headers.get("X-ScaleSetMaxCapacity", "")
        if not last.isdigit() or not capacity.isascii() or not capacity.isdigit():
            raise ApiError(400, "lastMessageId and X-ScaleSetMaxCapacity must be whole numbers of 0 or more.")
        one.capacity = int(capacity)
        session.polls += 1
        try:
            self._state.assignment.pump(one)
            self._state.notify()
            message = await self._next(session, int(last))
        finally:
            session.polls -= 1
            session.seen_at = one.seen_at = self._state.clock.now()
        return Reply(202) if message is None else Reply(200, self._envelope(one, message))

    async def _next(self, session: Session, last: int) -> Message | None:
        one, clock = session.scale_set, self._state.clock
        until = clock.now() + self._state.options.poll_hold
        while True:
            if one.session is not session:
                raise ApiError(400, "The session has expired.", _EXPIRED)
            message = self._state.assignment.next_message(one, last)
            if message is not None or (left := until - clock.now()) <= 0:
                if self._faults.drop_backlog:
                    one.events.clear()
                return message
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            one.waiters.add(waiter)
            try:
                await clock.wait(waiter, left)
            finally:
                one.waiters.discard(waiter)

    async def _delete(self, call: Call) -> Reply:
        self._session(call).scale_set.messages.pop(call.number("message"), None)
        return Reply(204)

    def _session(self, call: Call) -> Session:
        wanted = call.grant.session if call.grant else ""
        if call.query("sessionId") != wanted or call.query("source") != "runnerscalesets":
            raise ApiError(400, "The query of the message queue URL is missing.", "System.ArgumentException")
        for one in self._state.sets.values():
            if one.session is not None and one.session.id == wanted:
                session = self._state.active_session(one)
                if session is not None:
                    return session
        raise ApiError(400, "The session has expired.", _EXPIRED)

    def _envelope(self, one: ScaleSet, message: Message) -> dict[str, Any]:
        return {
            "messageId": message.id,
            "messageType": "RunnerScaleSetJobMessages",
            "body": message.body,
            "statistics": self._service.statistics(one),
        }
