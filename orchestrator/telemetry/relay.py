"""Spans that a job sends for its own trace: checked, marked as a stranger's word, and passed on.

A job is untrusted, its trace is not. Whatever a job sends is rebuilt field by field, so nothing unknown
gets through; it may only be of the job's own trace, below *execute*, and can never take the id of a span of
ours (ids are derived, so a job could know them, and receivers keep the first copy of an id).
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from orchestrator.errors import GiveUpError
from orchestrator.model.events import SpansRelayed
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.telemetry import encode, ids, semconv
from orchestrator.telemetry.open_span import own_span_ids
from orchestrator.telemetry.otlp_http import TRACES, OtlpClient
from orchestrator.telemetry.platform_trace import PlatformTrace
from orchestrator.telemetry.records import AttributeValue, clip

UNTRUSTED = f"{semconv.OWN}untrusted"
_SCALARS = frozenset({"string_value", "bool_value", "int_value", "double_value"})


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What one job may send: bytes of a request (after decompression) and in all, spans alike.

    `groups` are resources in a request, and scopes in a resource; SDKs send one and a few.
    """

    request_bytes: int = 1 << 20
    groups: int = 64
    bytes_per_job: int = 64 << 20
    spans_per_request: int = 4096
    spans_per_job: int = 20_000
    attributes: int = 64
    events: int = 32
    string_chars: int = 1024
    future_seconds: int = 300


@dataclass(slots=True)
class _Spent:
    body_bytes: int = 0
    spans: int = 0


class JobSpanRelay:
    """Implements `lifecycle.ports.Revoker` too, to forget a job at its end.

    `client` is the relay's own: a job's flood must not use up the exporter's connections. `redact` masks
    secrets in every string that leaves. `joined` is a job's place in its platform's trace, in which its spans are sent
    on where traces are joined.
    """

    def __init__(
        self,
        client: OtlpClient,
        redact: encode.Redact = encode.unredacted,
        limits: RelayLimits = RelayLimits(),
        now_ns: Callable[[], int] = time.time_ns,
        joined: Callable[[JobId], PlatformTrace | None] = lambda _: None,
    ) -> None:
        self._client = client
        self._redact = redact
        self._limits = limits
        self._now_ns = now_ns
        self._joined = joined
        self._spent: dict[JobId, _Spent] = {}
        self._parsing = asyncio.Semaphore(1)  # hostile protobuf needs many times its size in memory

    async def relay(self, job_id: JobId, body: bytes, content_encoding: str = "") -> SpansRelayed:
        """Pass on what is acceptable of an OTLP/HTTP trace request of this job.

        `content_encoding` may be `gzip`, and `body` then compressed or already inflated by the server.

        Raises:
            GiveUpError: reason `spans_too_large` or `spans_invalid`.
            TryAgainError: the receiver does not answer; the job's SDK may send again.
        """
        spent = self._spent.setdefault(job_id, _Spent())
        spent.body_bytes += len(body)
        if spent.body_bytes > self._limits.bytes_per_job:
            raise GiveUpError(f"a job may send {self._limits.bytes_per_job} bytes of spans", reason="spans_too_large")
        room = self._limits.spans_per_job - spent.spans
        sieve = _Sieve(job_id, self._limits, self._redact, self._now_ns(), self._joined(job_id))
        async with self._parsing:
            out, counted = await asyncio.to_thread(self._sift, sieve, body, content_encoding, room)
        if counted.accepted:
            spent.spans += counted.accepted
            await self._client.post(TRACES, out)
        return counted

    async def revoke(self, record: Record) -> None:
        """The job has ended: what it spent is no longer needed."""
        self._spent.pop(record.id, None)

    def _sift(self, sieve: _Sieve, body: bytes, content_encoding: str, room: int) -> tuple[bytes, SpansRelayed]:
        request = ExportTraceServiceRequest()
        try:
            request.ParseFromString(_inflated(body, content_encoding, self._limits.request_bytes))
        except DecodeError:
            raise GiveUpError(
                "the request is no OTLP trace request",
                reason="spans_invalid",
                fix="send application/x-protobuf; OTLP's JSON is not accepted here",
            ) from None
        if len(request.resource_spans) > self._limits.groups:
            raise GiveUpError("the request has too many resources", reason="spans_too_large")
        total, groups = 0, []
        for group in request.resource_spans:
            scopes = []
            for scope in group.scope_spans[: self._limits.groups]:
                # Not even looked at beyond the bound: a job must not buy our time with two-byte spans.
                looked_at = scope.spans[: max(self._limits.spans_per_request - total, 0)]
                total += len(scope.spans)
                spans = list(sieve.spans(looked_at, room - sieve.accepted))
                if spans:
                    name, version = sieve.text(scope.scope.name), sieve.text(scope.scope.version)
                    scopes.append(ScopeSpans(scope=InstrumentationScope(name=name, version=version), spans=spans))
            if scopes:
                groups.append(ResourceSpans(resource=sieve.resource(group.resource), scope_spans=scopes))
        counted = SpansRelayed(accepted=sieve.accepted, refused=total - sieve.accepted)
        return bytes(ExportTraceServiceRequest(resource_spans=groups).SerializeToString()), counted


def relay_answer(relayed: SpansRelayed) -> bytes:
    """The OTLP response body that tells the job's SDK what was refused (partial success)."""
    response = ExportTraceServiceResponse()
    if relayed.refused:
        response.partial_success.rejected_spans = relayed.refused
        response.partial_success.error_message = "spans of another trace, taken ids, bad times or too many"
    return bytes(response.SerializeToString())


def _inflated(body: bytes, content_encoding: str, limit: int) -> bytes:
    compressed = content_encoding.strip().lower() == "gzip" and body.startswith(b"\x1f\x8b")
    if compressed and len(body) <= limit:
        inflater = zlib.decompressobj(wbits=31)
        try:
            body = inflater.decompress(body, limit + 1)
        except zlib.error:
            raise GiveUpError("the request is not gzip", reason="spans_invalid") from None
    if len(body) > limit:
        raise GiveUpError(
            f"a trace request may have {limit} bytes",
            reason="spans_too_large",
            fix="send smaller batches (OTEL_BSP_MAX_EXPORT_BATCH_SIZE)",
        )
    return body


@lru_cache(maxsize=32)
def _taken(job_id: JobId) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(value) for value in own_span_ids(job_id))


class _Sieve:
    """Rebuilds one request's spans; `accepted` counts those that passed."""

    def __init__(
        self, job_id: JobId, limits: RelayLimits, redact: encode.Redact, now_ns: int, platform: PlatformTrace | None
    ) -> None:
        self.accepted = 0
        self._job_id = job_id
        self._limits = limits
        self._redact = redact
        self._latest_ns = now_ns + limits.future_seconds * 10**9
        own = ids.trace_id(job_id)
        self._sent_in = bytes.fromhex(platform.trace_id if platform else own)
        self._trace_ids = frozenset((bytes.fromhex(own), self._sent_in))
        self._execute = bytes.fromhex(ids.span_id(job_id, ids.EXECUTE))
        self._taken = _taken(job_id)
        if platform is not None:
            self._taken |= frozenset(map(bytes.fromhex, platform.taken))

    def spans(self, spans: Iterable[Span], room: int) -> Iterable[Span]:
        for span in spans:
            if room <= 0:
                return
            if self._acceptable(span):
                room -= 1
                self.accepted += 1
                yield self._rebuilt(span)

    def resource(self, resource: Resource) -> Resource:
        """The job's own description of itself, under a mark that it is that."""
        kept = [pair for pair in self._attributes(resource.attributes) if pair.key != semconv.SERVICE_NAME]
        name = next((pair.value.string_value for pair in resource.attributes if pair.key == semconv.SERVICE_NAME), "")
        stamps: dict[str, AttributeValue] = {
            semconv.SERVICE_NAME: self.text(name) or "job",
            f"{semconv.OWN}job.id": self._job_id,
            UNTRUSTED: True,
        }
        stamped = Resource()
        encode.put(stamped.attributes, stamps, encode.unredacted)
        stamped.attributes.extend(kept)
        return stamped

    def text(self, text: str) -> str:
        return clip(self._redact(text), self._limits.string_chars)

    def _acceptable(self, span: Span) -> bool:
        return (
            span.trace_id in self._trace_ids
            and len(span.span_id) == 8
            and any(span.span_id)
            and span.span_id not in self._taken
            and len(span.parent_span_id) in {0, 8}
            and 0 < span.start_time_unix_nano <= span.end_time_unix_nano <= self._latest_ns
        )

    def _rebuilt(self, span: Span) -> Span:
        parent = span.parent_span_id
        if not any(parent) or parent in self._taken:
            parent = self._execute
        events = [
            Span.Event(
                time_unix_nano=event.time_unix_nano,
                name=self.text(event.name),
                attributes=self._attributes(event.attributes),
            )
            for event in span.events[: self._limits.events]
        ]
        return Span(
            trace_id=self._sent_in,
            span_id=span.span_id,
            parent_span_id=parent,
            name=self.text(span.name),
            kind=span.kind if span.kind in Span.SpanKind.values() else Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=span.start_time_unix_nano,
            end_time_unix_nano=span.end_time_unix_nano,
            attributes=self._attributes(span.attributes),
            dropped_attributes_count=max(len(span.attributes) - self._limits.attributes, 0),
            events=events,
            dropped_events_count=max(len(span.events) - self._limits.events, 0),
            status=Status(
                code=span.status.code if span.status.code in Status.StatusCode.values() else Status.STATUS_CODE_UNSET,
                message=self.text(span.status.message),
            ),
            flags=span.flags & 0xFF,
        )

    def _attributes(self, attributes: Iterable[KeyValue]) -> list[KeyValue]:
        kept: list[KeyValue] = []
        for pair in attributes:
            if len(kept) >= self._limits.attributes:
                break
            value = None if pair.key.startswith(semconv.OWN) else self._value(pair.value)
            if value is not None:
                kept.append(KeyValue(key=self.text(pair.key), value=value))
        return kept

    def _value(self, value: AnyValue) -> AnyValue | None:
        kind = value.WhichOneof("value")
        if kind == "string_value":
            return AnyValue(string_value=self.text(value.string_value))
        if kind in _SCALARS:
            return value
        if kind == "array_value":
            items = value.array_value.values[: self._limits.attributes]
            scalars = [self._value(item) for item in items if item.WhichOneof("value") in _SCALARS]
            return AnyValue(array_value=ArrayValue(values=[item for item in scalars if item is not None]))
        return None
