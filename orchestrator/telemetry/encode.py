"""From spans and events to OTLP's protobuf. Pure; too slow for the event loop, so call it in a thread.

Each function encodes one job into a whole request. Requests can be joined by joining their bytes, because
`resource_spans` and `resource_logs` are repeated fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from orchestrator.telemetry import semconv
from orchestrator.telemetry.records import Attributes, AttributeValue, LogRecordData, SpanLink, SpanRecord, SpanStatus

Redact = Callable[[str], str]
"""Masks what is known to be secret in a text."""

SCOPE = "orchestrator"
_INT64 = (1 << 63) - 1
_SAMPLED = 1


def unredacted(text: str) -> str:
    return text


def encode_spans(spans: tuple[SpanRecord, ...], resource: Attributes, redact: Redact = unredacted) -> bytes:
    """An `ExportTraceServiceRequest` of the *ended* spans; open ones are left out, since the first copy wins."""
    scope = ScopeSpans(
        scope=InstrumentationScope(name=SCOPE),
        spans=[_span(span, redact) for span in spans if span.end_ns is not None],
        schema_url=semconv.SCHEMA_URL,
    )
    group = ResourceSpans(resource=_resource(resource), scope_spans=[scope], schema_url=semconv.SCHEMA_URL)
    return bytes(ExportTraceServiceRequest(resource_spans=[group]).SerializeToString())


def encode_events(events: tuple[LogRecordData, ...], resource: Attributes, redact: Redact = unredacted) -> bytes:
    """An `ExportLogsServiceRequest` of the events; no bytes when there are none."""
    if not events:
        return b""
    scope = ScopeLogs(
        scope=InstrumentationScope(name=SCOPE),
        log_records=[_event(event, redact) for event in events],
        schema_url=semconv.SCHEMA_URL,
    )
    group = ResourceLogs(resource=_resource(resource), scope_logs=[scope], schema_url=semconv.SCHEMA_URL)
    return bytes(ExportLogsServiceRequest(resource_logs=[group]).SerializeToString())


def key_values(attributes: Mapping[str, AttributeValue], redact: Redact = unredacted) -> list[KeyValue]:
    """Attributes as OTLP writes them; every string has gone through `redact`."""
    return [KeyValue(key=key, value=_value(value, redact)) for key, value in attributes.items()]


def _value(value: AttributeValue, redact: Redact) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=redact(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=max(-_INT64, min(value, _INT64)))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=redact(item)) for item in value]))


def _resource(attributes: Attributes) -> Resource:
    return Resource(attributes=key_values(attributes))


def _span(span: SpanRecord, redact: Redact) -> Span:
    return Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id),
        name=redact(span.name),
        kind=int(span.kind),  # type: ignore[arg-type]
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns or 0,
        attributes=key_values(span.attributes, redact),
        links=[_link(link, redact) for link in span.links],
        status=_status(span, redact),
        flags=_SAMPLED,
    )


def _status(span: SpanRecord, redact: Redact) -> Status:
    if span.status is SpanStatus.ERROR:
        return Status(code=Status.STATUS_CODE_ERROR, message=redact(span.status_message))
    return Status(code=Status.STATUS_CODE_UNSET)


def _link(link: SpanLink, redact: Redact) -> Span.Link:
    return Span.Link(
        trace_id=bytes.fromhex(link.trace_id),
        span_id=bytes.fromhex(link.span_id),
        attributes=key_values(link.attributes, redact),
    )


def _event(event: LogRecordData, redact: Redact) -> LogRecord:
    return LogRecord(
        time_unix_nano=event.at_ns,
        observed_time_unix_nano=event.at_ns,
        severity_number=int(event.severity),  # type: ignore[arg-type]
        severity_text=event.severity.name,
        event_name=event.name,
        trace_id=bytes.fromhex(event.trace_id),
        span_id=bytes.fromhex(event.span_id),
        flags=_SAMPLED,
        attributes=key_values({**event.attributes, semconv.LOG_RECORD_UID: event.uid}, redact),
    )
