"""Our encoder against the OpenTelemetry SDK's own, fed with the same spans."""

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as sdk_encode
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from orchestrator.telemetry import encode, semconv
from orchestrator.telemetry.records import LogRecordData, Severity, SpanRecord, SpanStatus
from orchestrator.telemetry.spans import trace_of
from orchestrator.testing.stories import WHOLE, facts_for, offer

RESOURCE = {"service.name": "orchestrator", "service.version": "0"}
KINDS = {1: SpanKind.INTERNAL, 2: SpanKind.SERVER}


def context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))


def readable(span: SpanRecord) -> ReadableSpan:
    error = span.status is SpanStatus.ERROR
    return ReadableSpan(
        name=span.name,
        context=context(span.trace_id, span.span_id),
        parent=context(span.trace_id, span.parent_span_id) if span.parent_span_id else None,
        resource=Resource(RESOURCE, semconv.SCHEMA_URL),
        attributes=dict(span.attributes),
        links=[Link(context(link.trace_id, link.span_id), dict(link.attributes)) for link in span.links],
        kind=KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.status_message) if error else Status(StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope(encode.SCOPE, schema_url=semconv.SCHEMA_URL),
    )


@pytest.mark.parametrize("story", WHOLE)
def test_the_sdk_would_have_written_the_same(story: str) -> None:
    spans = trace_of(
        facts_for(offer(attempt=2, parent_traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"), WHOLE[story])
    ).spans
    ours = ExportTraceServiceRequest.FromString(encode.encode_spans(tuple(spans), RESOURCE))
    theirs = sdk_encode([readable(span) for span in spans])
    for request in (ours, theirs):  # the SDK writes its own flag bits (parent is remote) and we write W3C's
        for span in request.resource_spans[0].scope_spans[0].spans:
            span.flags = 0
            for link in span.links:
                link.flags = 0
    assert ours == theirs


def test_open_spans_are_never_sent() -> None:
    spans = trace_of(facts_for(offer(), WHOLE["success"][:5])).spans
    request = ExportTraceServiceRequest.FromString(encode.encode_spans(tuple(spans), RESOURCE))
    names = [span.name for span in request.resource_spans[0].scope_spans[0].spans]
    assert names == ["queue", "policy", "wait", "provision", "bind"]


def test_requests_are_joined_by_joining_their_bytes() -> None:
    traces = [trace_of(facts_for(offer(str(number)), WHOLE["success"])) for number in range(3)]
    joined = b"".join(encode.encode_spans(trace.spans, RESOURCE) for trace in traces)
    assert len(ExportTraceServiceRequest.FromString(joined).resource_spans) == 3
    logs = b"".join(encode.encode_events(trace.events, RESOURCE) for trace in traces)
    assert len(ExportLogsServiceRequest.FromString(logs).resource_logs) == 3
    assert encode.encode_events((), RESOURCE) == b""


def test_every_kind_of_attribute_is_written_and_redacted() -> None:
    values = {"text": "x s3cret", "yes": True, "int": 1 << 80, "float": 0.5, "list": ("s3cret", "b")}
    event = LogRecordData("e", 1, "a" * 32, "b" * 16, "c" * 32, Severity.WARN, values)
    masked = encode.encode_events((event,), RESOURCE, lambda text: text.replace("s3cret", "*"))
    record = ExportLogsServiceRequest.FromString(masked).resource_logs[0].scope_logs[0].log_records[0]
    got = {pair.key: pair.value for pair in record.attributes}
    assert got["text"].string_value == "x *"
    assert got["yes"].bool_value is True
    assert got["int"].int_value == (1 << 63) - 1
    assert got["float"].double_value == 0.5
    assert [item.string_value for item in got["list"].array_value.values] == ["*", "b"]
    assert got["log.record.uid"].string_value == "c" * 32
    assert (record.severity_number, record.severity_text, record.event_name) == (13, "WARN", "e")
