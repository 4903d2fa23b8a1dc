"""Spans of other traces that a job has to do with. Pure."""

from __future__ import annotations

from orchestrator.model.job import JobKey, JobOffer
from orchestrator.telemetry import ids
from orchestrator.telemetry.open_span import ROOT
from orchestrator.telemetry.records import SpanLink
from orchestrator.telemetry.semconv import OWN


def links_of(offer: JobOffer) -> tuple[SpanLink, ...]:
    """The caller's own span (a link, since a stranger's word must not put us into a trace) and the last attempt."""
    links = []
    caller = ids.parse_traceparent(offer.spec.parent_traceparent)
    if caller is not None:
        links.append(SpanLink(*caller, {f"{OWN}link": "caller"}))
    if offer.key.attempt > 1:
        before = JobKey(offer.key.source, offer.key.platform_id, offer.key.attempt - 1).id
        links.append(SpanLink(ids.trace_id(before), ids.span_id(before, ROOT), {f"{OWN}link": "previous_attempt"}))
    return tuple(links)
