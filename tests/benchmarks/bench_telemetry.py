"""CPU that one job's telemetry costs, and our encoder against the OpenTelemetry SDK's on the same spans.

`floor` of the encoder is the SDK's (data classes built, then encoded); the other figures have no floor but
the engine's aim of 1,000 jobs a second on one core, that is 1,000 µs a job.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as sdk_encode
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, TraceFlags

from orchestrator.telemetry import encode
from orchestrator.telemetry.metrics import Metrics
from orchestrator.telemetry.records import SpanRecord
from orchestrator.telemetry.spans import trace_of
from orchestrator.testing.stories import WHOLE, facts_for, offer

JOBS = 2000
RESOURCE = {"service.name": "orchestrator", "service.version": "0", "service.instance.id": "bench"}


def cpu_us(work: Callable[[], object]) -> float:
    """Best of three rounds, in microseconds of processor time a job."""
    rounds = []
    for _ in range(3):
        begun = time.process_time()
        work()
        rounds.append((time.process_time() - begun) / JOBS * 1e6)
    return min(rounds)


def sdk(spans: tuple[SpanRecord, ...]) -> bytes:
    def context(span_id: str) -> SpanContext:
        return SpanContext(int(spans[0].trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))

    scope = InstrumentationScope(encode.SCOPE)
    return sdk_encode(
        [
            ReadableSpan(
                span.name,
                context(span.span_id),
                context(span.parent_span_id) if span.parent_span_id else None,
                SDK_RESOURCE,
                dict(span.attributes),
                kind=SpanKind.INTERNAL,
                status=Status(),
                start_time=span.start_ns,
                end_time=span.end_ns,
                instrumentation_scope=scope,
            )
            for span in spans
        ]
    ).SerializeToString()


SDK_RESOURCE = Resource(RESOURCE)


def main() -> None:
    facts = [facts_for(offer(str(number)), WHOLE["success"]) for number in range(JOBS)]
    traces = [trace_of(one) for one in facts]
    spans = len(traces[0].spans)
    reading = cpu_us(lambda: [trace_of(one) for one in facts])
    ours = cpu_us(lambda: [encode.encode_spans(trace.spans, RESOURCE) for trace in traces])
    floor = cpu_us(lambda: [sdk(trace.spans) for trace in traces])
    events = cpu_us(lambda: [encode.encode_events(trace.events, RESOURCE) for trace in traces])
    counting = cpu_us(lambda: Metrics({"default": 4}).observe([fact for one in facts for fact in one]))
    figures = {
        "encode_spans": {"ours": ours, "floor": floor, "ratio": ours / floor, "unit": f"µs CPU a job of {spans} spans"},
        "read_trace": {"ours": reading, "floor": 1000.0, "ratio": reading / 1000, "unit": "µs CPU a job"},
        "encode_events": {"ours": events, "floor": 1000.0, "ratio": events / 1000, "unit": "µs CPU a job"},
        "metrics": {"ours": counting, "floor": 1000.0, "ratio": counting / 1000, "unit": "µs CPU a job"},
    }
    for name, figure in figures.items():
        print(f"{name:14} {figure['ours']:8.1f} / {figure['floor']:7.1f} = {figure['ratio']:.2f}  {figure['unit']}")
    out = Path("build/bench/telemetry.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
