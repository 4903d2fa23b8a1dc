"""From spans and events to OTLP's protobuf. Pure; too slow for the event loop, so call it in a thread.

Each function encodes one job into a whole request. Requests can be joined by joining their bytes, because
`resource_spans` and `resource_logs` are repeated fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from orchestrator.telemetry import semconv
from orchestrator.telemetry.records import MAX_NAME, Attributes, LogRecordData, SpanRecord, SpanStatus, clip

Redact = Callable[[str], str]
"""Masks what is known to be secret in a text."""


class KeyValues(Protocol):
    """A message's list of attributes."""

    def add(self) -> KeyValue: ...


SCOPE = "orchestrator"
_INT64 = (1 << 63) - 1
_SAMPLED = 1


def unredacted(text: str) -> str:
    return text


def encode_spans(spans: tuple[SpanRecord, ...], resource: Attributes, redact: Redact = unredacted) -> bytes:
    """An `ExportTraceServiceRequest` of the *ended* spans; open ones are left out, since the first copy wins."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(schema_url=semconv.SCHEMA_URL)
    put(group.resource.attributes, resource, unredacted)
    scope = group.scope_spans.add(schema_url=semconv.SCHEMA_URL)
    scope.scope.name = SCOPE
    for span in spans:
        if span.end_ns is not None:
            _put_span(scope.spans.add(), span, span.end_ns, redact)
    return bytes(request.SerializeToString())


def encode_events(events: tuple[LogRecordData, ...], resource: Attributes, redact: Redact = unredacted) -> bytes:
    """An `ExportLogsServiceRequest` of the events; no bytes when there are none."""
    if not events:
        return b""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add(schema_url=semconv.SCHEMA_URL)
    put(group.resource.attributes, resource, unredacted)
    scope = group.scope_logs.add(schema_url=semconv.SCHEMA_URL)
    scope.scope.name = SCOPE
    for event in events:
        _put_event(scope.log_records.add(), event, redact)
    return bytes(request.SerializeToString())


def rejected_spans(answer: bytes) -> int:
    """How many spans a receiver's success was not for; an answer that is no protobuf still was a success."""
    response = ExportTraceServiceResponse()
    return max(int(response.partial_success.rejected_spans), 0) if _parsed(response, answer) else 0


def rejected_events(answer: bytes) -> int:
    """The same of events."""
    response = ExportLogsServiceResponse()
    return max(int(response.partial_success.rejected_log_records), 0) if _parsed(response, answer) else 0


def _parsed(response: Message, answer: bytes) -> bool:
    try:
        response.ParseFromString(answer)
    except DecodeError:
        return False
    return True


def put(target: KeyValues, attributes: Attributes, redact: Redact) -> None:
    """Add the attributes to a message's list; every string has gone through `redact`, and then is cut to its bound.

    Filling messages in place takes less than half the time of building and copying them.
    """
    add = target.add
    for key, value in attributes.items():
        pair = add()
        pair.key = key
        if isinstance(value, str):
            pair.value.string_value = clip(redact(value))
        elif isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = max(-_INT64, min(value, _INT64))
        elif isinstance(value, float):
            pair.value.double_value = value
        else:
            items = pair.value.array_value.values
            for item in value:
                items.add().string_value = clip(redact(item))


def _put_span(message: Span, span: SpanRecord, end_ns: int, redact: Redact) -> None:
    message.trace_id = bytes.fromhex(span.trace_id)
    message.span_id = bytes.fromhex(span.span_id)
    message.parent_span_id = bytes.fromhex(span.parent_span_id)
    message.name = clip(redact(span.name), MAX_NAME)
    message.kind = int(span.kind)  # type: ignore[assignment]
    message.start_time_unix_nano = span.start_ns
    message.end_time_unix_nano = end_ns
    message.flags = _SAMPLED
    put(message.attributes, span.attributes, redact)
    for link in span.links:
        linked = message.links.add()
        linked.trace_id = bytes.fromhex(link.trace_id)
        linked.span_id = bytes.fromhex(link.span_id)
        put(linked.attributes, link.attributes, redact)
    message.status.code = Status.STATUS_CODE_UNSET
    if span.status is SpanStatus.ERROR:
        message.status.code = Status.STATUS_CODE_ERROR
        message.status.message = clip(redact(span.status_message))


def _put_event(message: LogRecord, event: LogRecordData, redact: Redact) -> None:
    message.time_unix_nano = event.at_ns
    message.observed_time_unix_nano = event.at_ns
    message.severity_number = int(event.severity)  # type: ignore[assignment]
    message.severity_text = event.severity.name
    message.event_name = event.name
    message.trace_id = bytes.fromhex(event.trace_id)
    message.span_id = bytes.fromhex(event.span_id)
    message.flags = _SAMPLED
    put(message.attributes, event.attributes, redact)
    put(message.attributes, {semconv.LOG_RECORD_UID: event.uid}, unredacted)
