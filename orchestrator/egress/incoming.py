"""The beginning of a connection: from its acceptance to a request whose asker is known."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import cast

from orchestrator.egress.answers import refusal
from orchestrator.egress.entrance import Entrance, Unidentified
from orchestrator.egress.http_head import HeadError
from orchestrator.egress.request import Request, judge, take_head
from orchestrator.egress.rules import NO_RULES
from orchestrator.egress.runner import Report, RunnerEgress, Standing
from orchestrator.egress.upstream import Stage, reset

DRAIN_SECONDS = 2.0
"""How long a client may take to go once it is answered."""
MAX_DRAINED = 1 << 20
"""Bytes of an answered client that are thrown away before it is cut off."""


class IncomingConnection(asyncio.Protocol, ABC):
    """Until its request is identified it counts as its `standing`'s, and has no `runner`."""

    transport: asyncio.Transport
    standing: Standing
    runner: RunnerEgress
    report: Report

    def __init__(self, entrance: Entrance) -> None:
        self.stage = Stage.HEAD
        self._entrance = entrance
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._buffer = bytearray()
        self._request: Request | None = None
        self._eof = False

    @abstractmethod
    def _follow(self, request: Request) -> None:
        """Do what `runner` asks for, if its rules allow it."""

    @abstractmethod
    def end(self, reason: str) -> None:
        """Cut both sides off, now."""

    @abstractmethod
    def judge_again(self) -> None:
        """The runner's rules have changed: end the connection if they do not allow it any more."""

    @abstractmethod
    def sweep(self, now: float) -> None:
        """End the connection when its stage is overdue. To be called a few times within each timeout."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's only looks like one
        self.standing = self._entrance.meet(transport)
        self.report = Report(self.standing)
        self._deadline = self._loop.time() + self.standing.config.head_timeout_seconds
        self._count(self.standing)

    def _read_head(self) -> None:
        try:
            head = take_head(self._buffer)
            if head is None:
                return
            found = self._entrance.identify(self.transport, head)
            request = judge(head, NO_RULES if isinstance(found, Unidentified) else found.rules)
        except HeadError as error:
            self._refuse(error.reason, str(error))
            return
        self._request, self.report.verdict = request, request.verdict
        if isinstance(found, Unidentified):
            if self._count(found.standing):
                self._refuse(found.reason, found.detail)
        elif self._count(found):
            self.runner = found
            self._follow(request)

    def _count(self, standing: Standing) -> bool:
        """Count as `standing`'s from now on; False when it has no room for one more, which the client is told."""
        if self.standing is not standing:
            self.standing.detach(self)
            self.standing = self.report.standing = standing
        elif self in standing.connections:
            return True
        refused = standing.attach(self)
        if refused and standing.refusable():
            self._refuse(refused, "too many connections are open")
        elif refused:
            self.report.tell(False, refused)
            reset(self.transport)
        return not refused

    def _refuse(self, reason: str, detail: str, hint: str = "", *, allowed: bool = False) -> None:
        self.report.tell(allowed, reason)
        self.transport.write(refusal(reason, detail, hint))
        self._drain()

    def _drain(self) -> None:
        """Say no more and let the client read it: closing upon unread bytes would reset what we just said."""
        if self.stage is Stage.CLOSED:
            return
        self.stage = Stage.DRAIN
        self._buffer.clear()
        self._deadline = self._loop.time() + DRAIN_SECONDS
        if self._eof:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()
