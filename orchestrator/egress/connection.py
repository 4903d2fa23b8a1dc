"""The job's side of one connection: from its request to its end."""

from __future__ import annotations

import asyncio

from orchestrator.egress.answers import CONNECTED, TLS_ACCESS_DENIED
from orchestrator.egress.client_hello import HelloError, HelloGate
from orchestrator.egress.entrance import Entrance
from orchestrator.egress.http_body import BodyError
from orchestrator.egress.incoming import DRAIN_SECONDS, MAX_DRAINED, IncomingConnection
from orchestrator.egress.request import Request
from orchestrator.egress.resolve import UnreachableError
from orchestrator.egress.upstream import Stage, UpstreamConnection, reset

_LISTABLE = "if the host is yours, the operator can list it with its address in egress.names"


class ClientConnection(IncomingConnection):
    """One per accepted connection. Its verdict is told once: at a refusal, else when both sides are gone."""

    def __init__(self, entrance: Entrance) -> None:
        super().__init__(entrance)
        self._hello: HelloGate | None = None
        self._task: asyncio.Task[None] | None = None
        self._upstream: UpstreamConnection | None = None
        self._reason = ""
        self._mark = -1
        self._drained = 0

    # --- the job's transport ---

    def data_received(self, data: bytes) -> None:
        stage = self.stage
        if stage is Stage.RELAY:
            self._relay(data)
        elif stage is Stage.HEAD:
            self._buffer += data
            self._read_head()
        elif stage is Stage.HELLO:
            self._read_hello(data)
        elif stage is Stage.CONNECTING:
            self._buffer += data
            self.transport.pause_reading()
        else:
            self._drained += len(data)
            if self._drained > MAX_DRAINED:
                reset(self.transport)

    def eof_received(self) -> bool:
        """True keeps the way back to the job open."""
        self._eof = True
        if self.stage is Stage.CONNECTING:
            return True
        if self.stage is Stage.HELLO:
            self.report.tell(False, "no_client_hello")
        upstream, request = self._upstream, self._request
        if self.stage is not Stage.RELAY or upstream is None or upstream.eof or request is None:
            return False
        if request.body is None:
            upstream.transport.write_eof()
        elif not request.body.done:
            self._reason = "request_cut_short"
            upstream.abort()  # to the destination, half a body must not look like a whole one
            return False
        return True

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def resume_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        if self.stage is Stage.RELAY and exc is not None:
            self._reason = self._reason or "reset"
        self.stage = Stage.CLOSED
        if self._upstream is not None:
            self._upstream.abort() if self._reason else self._upstream.close()
        self._finish()

    # --- told by the destination's side ---

    def upstream_spoke_first(self) -> None:
        """It sent something before the job did; no TLS server does that, and an ended client wants no more."""
        if self.stage is Stage.HELLO:
            self._deny_tunnel("not_tls")

    def upstream_eof(self) -> bool:
        """True keeps the way up to the destination open."""
        if self.stage is Stage.HELLO:
            self.report.tell(False, "no_client_hello")
        if self.stage is not Stage.RELAY or self._request is None or self._request.body is not None:
            self._drain()  # for a plain request: the only one of this connection is answered
            return False
        if self._eof:
            self.transport.close()
            return False
        self.transport.write_eof()
        return True

    def upstream_lost(self, exc: Exception | None) -> None:
        if self.stage in {Stage.HELLO, Stage.RELAY}:
            if self.stage is Stage.HELLO:
                self.report.tell(False, "no_client_hello")
            if exc is None:
                self.transport.close()
            else:
                self._reason = self._reason or "reset"
                reset(self.transport)  # to the job, what was cut off must not look complete
        self._finish()

    # --- told by the gateway ---

    def end(self, reason: str) -> None:
        """Cut both sides off, now."""
        self._reason = self._reason or reason
        if self._task is not None:
            self._task.cancel()
        reset(self.transport)
        if self._upstream is not None:
            self._upstream.abort()

    def judge_again(self) -> None:
        """The runner's rules have changed: end the connection if they do not allow it any more. One whose request is
        not here yet is judged by them when it comes."""
        if self._request is None or (self._upstream is None and self.stage is not Stage.CONNECTING):
            return  # nothing of it leads anywhere
        was = self._request.verdict
        if not self.runner.rules.decide(was.host, was.port, was.protocol).allowed:
            self.end("rules_changed")

    def sweep(self, now: float) -> None:
        """End the connection when its stage is overdue. To be called a few times within each timeout."""
        unsent = 0 if self.stage is Stage.CLOSED else self.transport.get_write_buffer_size()
        if self._upstream is not None:
            unsent += self._upstream.unsent()
        if self.stage in {Stage.RELAY, Stage.CLOSED} or (self.stage is Stage.DRAIN and unsent):
            mark = self.report.bytes_up + self.report.bytes_down + unsent
            if mark != self._mark:
                self._mark = mark
                self._deadline = now + self.standing.config.idle_timeout_seconds
        if now < self._deadline:
            return
        if self.stage is Stage.HEAD:
            self._refuse("head_timeout", "the request head did not arrive in time")
        elif self.stage is Stage.HELLO:
            self._deny_tunnel("hello_timeout")
        elif self.stage is Stage.DRAIN:
            reset(self.transport)
        else:
            self.end("idle_timeout")

    # --- the request ---

    def _follow(self, request: Request) -> None:
        """Do what was asked for, if the runner's rules allow it."""
        verdict = request.verdict
        if not verdict.allowed:
            self._refuse(verdict.reason, str(verdict), verdict.hint)
        elif self.runner.exhausted:
            self._refuse(self.runner.exhausted, "the job has used up its bytes")
        else:
            self.stage = Stage.CONNECTING
            # A net below the connect timeout itself.
            self._deadline = self._loop.time() + 2 * self.runner.config.connect_timeout_seconds + DRAIN_SECONDS
            self._task = self._loop.create_task(self._connect(verdict.host, verdict.port, request))

    async def _connect(self, host: str, port: int, request: Request) -> None:
        runner = self.runner
        try:
            upstream, self.report.address = await runner.pins.connect(
                host, port, lambda: UpstreamConnection(self), runner.config.connect_timeout_seconds
            )
        except UnreachableError as error:
            self._unreachable(error)
        else:
            self._established(upstream, request)

    def _unreachable(self, error: UnreachableError) -> None:
        self.transport.resume_reading()
        self._refuse(error.reason, str(error), _LISTABLE if error.refused else "", allowed=not error.refused)

    def _established(self, upstream: UpstreamConnection, request: Request) -> None:
        if upstream.lost:
            self._unreachable(UnreachableError("connect_failed", "the destination closed the connection at once"))
            return
        self._upstream = upstream
        if upstream.spoke_first:
            upstream.abort()
            self._refuse("not_tls" if request.body is None else "not_http", "the destination speaks before it is asked")
            return
        early, self._buffer = bytes(self._buffer), bytearray()
        self.transport.resume_reading()
        if request.body is None:
            self.transport.write(CONNECTED)
            self.stage = Stage.HELLO
            self._hello = HelloGate(request.verdict.host)
            self._deadline = self._loop.time() + self.runner.config.head_timeout_seconds
            if early:
                self._read_hello(early)
        else:
            self.stage = Stage.RELAY
            self._send(request.head)
            if early:
                self._relay(early)
        if self._eof and not self.eof_received():
            self.transport.close()

    def _read_hello(self, data: bytes) -> None:
        assert self._hello is not None
        try:
            first = self._hello.feed(data)
        except HelloError as error:
            self._deny_tunnel(error.reason)
            return
        if first is not None:
            self._hello = None
            self.stage = Stage.RELAY
            self._send(first)

    # --- bytes and ends ---

    def _relay(self, data: bytes) -> None:
        if self._request is not None and self._request.body is not None:
            try:
                data = self._request.body.feed(data)
            except BodyError:
                self.end("bad_request_body")
                return
        if data:
            self._send(data)

    def _send(self, data: bytes) -> None:
        if self._upstream is not None and self.runner.spend_up(len(data)):
            self.report.bytes_up += len(data)
            self._upstream.transport.write(data)

    def _deny_tunnel(self, reason: str) -> None:
        self.report.tell(False, reason)
        if reason != "not_tls":
            self.transport.write(TLS_ACCESS_DENIED)
        if self._upstream is not None:
            self._upstream.abort()
        self._drain()

    def _finish(self) -> None:
        if self.stage is not Stage.CLOSED or (self._upstream is not None and not self._upstream.lost):
            return
        if self._request is not None:
            self.report.tell(self._request.verdict.allowed, self._reason)
        self.standing.detach(self)
