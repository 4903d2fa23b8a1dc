"""The trace as the API tells it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.model.events import Fact, RunnerObserved
from orchestrator.telemetry.encode import Redact, unredacted
from orchestrator.telemetry.records import (
    MAX_NAME,
    Attributes,
    AttributeValue,
    LogRecordData,
    SpanRecord,
    clip,
)
from orchestrator.telemetry.spans import trace_of


def trace_document(
    facts: Sequence[Fact],
    under_way: RunnerObserved | None = None,
    public_url: str = "",
    *,
    join: bool = False,
    redact: Redact = unredacted,
) -> dict[str, Any]:
    """The JSON of `GET /v1/jobs/{id}/trace`: `{"trace_id", "spans": [...]}`, root first.

    A span has `name`, `span_id`, `parent_span_id` (null for the root), `start_ns`, `end_ns` (null while
    open), `status` (`unset` or `error`), `attributes` and its `events` (`name`, `at_ns`, `attributes`).
    Times are Unix nanoseconds. Without facts the trace id is empty. `under_way` and `join` as for `trace_of`; every
    text goes through `redact` before it is cut.

    Raises:
        MissingOfferError: the first fact is not the job's offer.
    """
    trace = trace_of(facts, public_url=public_url, join=join, under_way=under_way)
    events: dict[str, list[dict[str, Any]]] = {}
    for event in trace.events:
        events.setdefault(event.span_id, []).append(_event(event, redact))
    spans = [_span(span, events.get(span.span_id, []), redact) for span in trace.spans]
    return {"trace_id": trace.spans[0].trace_id if trace.spans else "", "spans": spans}


def _span(span: SpanRecord, events: list[dict[str, Any]], redact: Redact) -> dict[str, Any]:
    return {
        "name": clip(redact(span.name), MAX_NAME),
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id or None,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "status": span.status.value,
        "attributes": _attributes(span.attributes, redact),
        "events": events,
    }


def _event(event: LogRecordData, redact: Redact) -> dict[str, Any]:
    return {"name": event.name, "at_ns": event.at_ns, "attributes": _attributes(event.attributes, redact)}


def _attributes(attributes: Attributes, redact: Redact) -> dict[str, Any]:
    return {key: _shown(value, redact) for key, value in attributes.items()}


def _shown(value: AttributeValue, redact: Redact) -> Any:
    if isinstance(value, str):
        return clip(redact(value))
    return [clip(redact(item)) for item in value] if isinstance(value, tuple) else value
