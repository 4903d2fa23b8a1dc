"""A real OTLP/HTTP receiver (traces and logs, protobuf, gzip) for tests and demos, with switches for faults.

It keeps what it accepted in memory. It is a receiver, not a store: nothing is bounded but the request.
Source: OTLP specification 1.x, section *OTLP/HTTP*.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from aiohttp import web
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PROTOBUF = "application/x-protobuf"


class Fault(StrEnum):
    """What becomes of one request. Only `SLOW`, `PARTIAL` (all but one item) and `KEPT_RESET` keep its data."""

    TOO_MANY = "too_many"
    UNAVAILABLE = "unavailable"
    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    SLOW = "slow"
    PARTIAL = "partial"
    RESET = "reset"
    KEPT_RESET = "kept_reset"


@dataclass
class OtlpReceiver:
    """Use it as `async with OtlpReceiver() as receiver:` and send to `receiver.endpoint`.

    `faults` are used up one for each request, in order; `trace_faults` and `log_faults` first for their
    signal. `retry_after_seconds` is what 429 and 503 ask for, `slow_seconds` how long `SLOW` waits.
    """

    port: int = 0
    host: str = "127.0.0.1"
    retry_after_seconds: float = 0
    slow_seconds: float = 0.2
    max_request_bytes: int = 64 << 20
    faults: deque[Fault] = field(default_factory=deque)
    trace_faults: deque[Fault] = field(default_factory=deque)
    log_faults: deque[Fault] = field(default_factory=deque)
    trace_requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    log_requests: list[ExportLogsServiceRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Condition()

    @property
    def endpoint(self) -> str:
        """Base URL, without a signal's path."""
        return f"http://{self.host}:{self.port}"

    @property
    def spans(self) -> list[Span]:
        """Every span accepted, in order of arrival, copies included."""
        return [
            span
            for request in self.trace_requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    @property
    def resources(self) -> list[Resource]:
        return [group.resource for request in self.trace_requests for group in request.resource_spans]

    @property
    def logs(self) -> list[LogRecord]:
        """Every log record accepted, in order of arrival, copies included."""
        return [
            record
            for request in self.log_requests
            for group in request.resource_logs
            for scope in group.scope_logs
            for record in scope.log_records
        ]

    async def wait_for_spans(self, count: int, timeout_seconds: float = 10) -> list[Span]:
        """Wait until at least `count` spans have arrived.

        Raises:
            TimeoutError: they have not, in time.
        """
        async with asyncio.timeout(timeout_seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.spans) >= count)
        return self.spans

    async def wait_for_calls(self, count: int, timeout_seconds: float = 10) -> None:
        """Wait until `count` requests have come in, refused ones included.

        Raises:
            TimeoutError: they have not, in time.
        """
        async with asyncio.timeout(timeout_seconds), self._changed:
            await self._changed.wait_for(lambda: self.calls >= count)

    async def start(self) -> None:
        """Listen; on the same port as before after a `stop`."""
        app = web.Application(client_max_size=self.max_request_bytes)
        app.router.add_post("/v1/traces", self._traces)
        app.router.add_post("/v1/logs", self._logs)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, reuse_address=True).start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port; what was received stays."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _traces(self, request: web.Request) -> web.StreamResponse:
        message, answer = ExportTraceServiceRequest(), ExportTraceServiceResponse()
        fault, refusal = await self._begin(request, self.trace_faults, message)
        if refusal is not None:
            return refusal
        if fault is Fault.PARTIAL:
            scope = next(scope for group in message.resource_spans for scope in group.scope_spans if scope.spans)
            del scope.spans[-1]
            answer.partial_success.rejected_spans = 1
            answer.partial_success.error_message = "one span refused on purpose"
        self.trace_requests.append(message)
        return await self._end(request, fault, answer.SerializeToString())

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        message, answer = ExportLogsServiceRequest(), ExportLogsServiceResponse()
        fault, refusal = await self._begin(request, self.log_faults, message)
        if refusal is not None:
            return refusal
        if fault is Fault.PARTIAL:
            scope = next(scope for group in message.resource_logs for scope in group.scope_logs if scope.log_records)
            del scope.log_records[-1]
            answer.partial_success.rejected_log_records = 1
        self.log_requests.append(message)
        return await self._end(request, fault, answer.SerializeToString())

    async def _begin(
        self, request: web.Request, own: deque[Fault], message: ExportTraceServiceRequest | ExportLogsServiceRequest
    ) -> tuple[Fault | None, web.StreamResponse | None]:
        body = await request.read()
        async with self._changed:
            self.calls += 1
            self._changed.notify_all()
        queue = own or self.faults
        fault = queue.popleft() if queue else None
        headers = {"Retry-After": f"{self.retry_after_seconds:g}"}
        match fault:
            case Fault.TOO_MANY:
                return fault, web.Response(status=429, headers=headers)
            case Fault.UNAVAILABLE:
                return fault, web.Response(status=503, headers=headers)
            case Fault.BAD_REQUEST:
                return fault, web.Response(status=400)
            case Fault.NOT_FOUND:
                return fault, web.Response(status=404)
            case Fault.RESET:
                return fault, _reset(request)
            case _:
                pass
        if request.content_type != PROTOBUF:
            return fault, web.Response(status=415)
        try:
            message.ParseFromString(body)
        except DecodeError:
            return fault, web.Response(status=400)
        self.bodies.append(body)
        return fault, None

    async def _end(self, request: web.Request, fault: Fault | None, body: bytes) -> web.StreamResponse:
        async with self._changed:
            self._changed.notify_all()
        if fault is Fault.KEPT_RESET:
            return _reset(request)
        if fault is Fault.SLOW:
            await asyncio.sleep(self.slow_seconds)
        return web.Response(body=body, content_type=PROTOBUF)


def _reset(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
