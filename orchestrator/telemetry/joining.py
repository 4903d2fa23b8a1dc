"""Where a trace of ours stands to its platform's. Pure."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.model.job import JobOffer
from orchestrator.telemetry import ids
from orchestrator.telemetry.platform_trace import PlatformTrace, missing_facts, platform_trace
from orchestrator.telemetry.records import SpanLink, Trace
from orchestrator.telemetry.semconv import OWN


def at_its_platform(trace: Trace, offer: JobOffer, *, join: bool) -> Trace:
    """The trace with a link to its platform's span of the job, or with `join` below that span; as it is where neither
    can be. In both it is linked to the attempt before, by the ids that this has at the platform: which of our records
    had that attempt's job cannot be said, and when joined our spans of it are there. The root says which facts of a job
    of GitHub's all this would have needed."""
    lacking = missing_facts(offer)
    if lacking:
        root = trace.spans[0]
        attributes = {**root.attributes, f"{OWN}platform.trace.missing": lacking}
        trace = replace(trace, spans=(replace(root, attributes=attributes), *trace.spans[1:]))
    platform = platform_trace(offer)
    if platform is None:
        return trace
    if platform.before is not None:
        trace = _linked(trace, *platform.before, "previous_attempt")
    return _joined(trace, platform) if join else _linked(trace, platform.trace_id, platform.span_id, "platform")


def sent_trace_id(offer: JobOffer) -> str:
    """The id of the trace that such a job's spans are in when traces are joined."""
    platform = platform_trace(offer)
    return platform.trace_id if platform is not None else ids.trace_id(offer.key.id)


def sent_traceparent(offer: JobOffer) -> str:
    """The W3C `traceparent` to hand to such a job when traces are joined."""
    return f"00-{sent_trace_id(offer)}-{ids.span_id(offer.key.id, ids.EXECUTE)}-01"


def _linked(trace: Trace, trace_id: str, span_id: str, what: str) -> Trace:
    root = trace.spans[0]
    link = SpanLink(trace_id, span_id, {f"{OWN}link": what})
    return replace(trace, spans=(replace(root, links=(*root.links, link)), *trace.spans[1:]))


def _joined(trace: Trace, platform: PlatformTrace) -> Trace:
    """The root says by which id our own records, the audit log and receipts among them, know the trace."""
    root, *others = trace.spans
    attributes = {**root.attributes, f"{OWN}trace.id": root.trace_id}
    top = replace(root, parent_span_id=platform.span_id, attributes=attributes)
    spans = tuple(replace(span, trace_id=platform.trace_id) for span in (top, *others))
    return Trace(spans, tuple(replace(event, trace_id=platform.trace_id) for event in trace.events))
