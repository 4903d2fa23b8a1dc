"""The span tree of one job while it grows, fact by fact. Pure; `spans.py` draws what comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.model import events
from orchestrator.model.decision import Decision
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId, JobKey, JobOffer
from orchestrator.model.outcome import Outcome
from orchestrator.telemetry import attributes as attr
from orchestrator.telemetry import ids, semconv
from orchestrator.telemetry.log_events import EventLog
from orchestrator.telemetry.records import (
    Attributes,
    AttributeValue,
    SpanKind,
    SpanLink,
    SpanRecord,
    SpanStatus,
    Trace,
    bounded,
    clip,
)
from orchestrator.telemetry.semconv import OWN

ROOT = "job"
"""What the root span's id is derived from; its name holds the job's name."""
MAX_SPANS = 512
"""Spans of one trace beyond which those that may come without end (retries, exchanges) are only counted."""
MAX_NAME = 128
"""Longest span name in characters."""

_SINGLE = (ROOT, "queue", "policy", ids.EXECUTE, "teardown", "delete", "verify")
_REPEATING = ("wait", "provision", "bind", "identity.exchange")
_GAP = f"{OWN}daemon.gap_seconds"


def _state(word: str) -> dict[str, AttributeValue]:
    return {semconv.CICD_PIPELINE_RUN_STATE: word}


_PENDING, _EXECUTING = _state(semconv.STATE_PENDING), _state(semconv.STATE_EXECUTING)
_FINALIZING = _state(semconv.STATE_FINALIZING)


@dataclass(slots=True)
class _Span:
    name: str
    span_id: str
    parent: str
    start_ns: int
    end_ns: int | None = None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    status: SpanStatus = SpanStatus.UNSET
    message: str = ""
    kept: bool = True

    def close(self, at_ns: int) -> None:
        if self.end_ns is None:
            self.end_ns = max(at_ns, self.start_ns)

    def fail(self, error_type: str, message: str = "") -> None:
        self.status, self.message = SpanStatus.ERROR, message
        self.attributes[semconv.ERROR_TYPE] = error_type


def own_span_ids(job_id: JobId) -> Iterator[str]:
    """Every id that a span of ours can have in this job's trace; nobody else's span may take one."""
    for name in (*_SINGLE, *_REPEATING):
        for ordinal in range(MAX_SPANS if name in _REPEATING else 1):
            yield ids.span_id(job_id, name, ordinal)


class Tree:
    """Feed it a job's facts after its offer, in order, then take the trace.

    `_step` is the one phase (or, in teardown, the one part of it) that is open now.
    """

    def __init__(self, job_id: JobId, offer: JobOffer, offered_at_ns: int, public_url: str) -> None:
        self._job_id = job_id
        self._trace_id = ids.trace_id(job_id)
        self._offer = offer
        self._now = offered_at_ns
        self._ordinals: Counter[str] = Counter()
        self._dropped = 0
        self._log = EventLog(job_id)
        self._root = _Span(f"RUN {offer.spec.name}", ids.span_id(job_id, ROOT), "", offered_at_ns)
        self._root.attributes |= attr.of_offer(offer, public_url)
        self._spans = [self._root]
        self._exchanges: list[tuple[str, _Span]] = []
        self._execute: _Span | None = None
        self._teardown: _Span | None = None
        self._step: _Span | None = self._open("queue", self._root, _PENDING)

    def add(self, fact: Fact) -> None:
        """One more fact. Those that can move nothing where the job stands change nothing."""
        self._now = max(self._now, fact.at_ns)
        self._log.add(fact, self._owner_of(fact.event).span_id, self._now)
        if self._root.end_ns is None:
            self._take(fact.event)

    def _take(self, event: events.Event) -> None:
        match event:
            case events.JobAdmitted(decision):
                self._decided(decision)
                self._follow("wait", _PENDING)
            case events.JobRefused(decision):
                self._decided(decision)
            case events.ProvisionStarted() | events.RunnerCreated() | events.RunnerVanished() | events.RunnerBound():
                self._runner_moved(event)
            case events.JobEnded(outcome):
                self._ended(outcome)
            case events.RunnerDeleted() if self._is_at("delete"):
                self._follow("verify", _FINALIZING)
            case events.JobFinished(leftovers):
                self._finished(leftovers)
            case events.ExchangeDecided(audience, decision):
                self._exchange_decided(audience, decision)
            case events.TokenIssued(audience=audience):
                self._exchange_answered(audience, "issued")
            case events.TokenRefused(audience=audience):
                self._exchange_answered(audience, "refused")
            case events.JobWaited(reason=reason) if reason is not events.WaitReason.RUNNER_STARTING:
                self._note({f"{OWN}wait.reason": reason.value})
            case events.DaemonRestarted(last_fact_at_ns=before):
                self._restarted(before)
            case _:
                pass

    def trace(self, now_ns: int | None = None) -> Trace:
        """What the facts so far say; with `now_ns`, open spans end there for the time being."""
        dropped = self._dropped + self._log.dropped
        if dropped:
            self._root.attributes[f"{OWN}trace.dropped"] = dropped
        root, *others = (self._record(span, now_ns) for span in self._spans)
        return Trace((root, *sorted(others, key=lambda span: span.start_ns)), tuple(self._log.records))

    def _decided(self, decision: Decision) -> None:
        asked = self._now - max(decision.duration_ns, 0)
        start = max(asked, self._root.start_ns)
        self._close_step(start)
        policy = self._open("policy", self._root, {**_PENDING, **attr.of_decision(decision)}, start)
        policy.close(self._now)

    def _runner_moved(
        self, event: events.ProvisionStarted | events.RunnerCreated | events.RunnerVanished | events.RunnerBound
    ) -> None:
        worker: dict[str, AttributeValue] = {semconv.CICD_WORKER_NAME: event.runner}
        match event:
            case events.ProvisionStarted(number=number):
                self._follow("provision", {**_PENDING, **worker, f"{OWN}runner.number": number})
            case events.RunnerCreated(uid=uid) if self._is_at("provision"):
                self._note({semconv.CICD_WORKER_ID: uid})
                self._follow("bind", {**_PENDING, **worker, semconv.CICD_WORKER_ID: uid})
            case events.RunnerVanished() if self._step is not None:
                self._step.fail("runner_vanished")
                self._follow("wait", {**_PENDING, f"{OWN}wait.reason": events.WaitReason.RUNNER_VANISHED.value})
            case events.RunnerBound(uid=uid):
                if not self._is_at("bind"):  # the claim overtook the create call's return
                    self._follow("bind", _PENDING)
                self._note(attr.of_binding(event))
                self._execute = self._follow(ids.EXECUTE, {**_EXECUTING, **worker, semconv.CICD_WORKER_ID: uid})
            case _:
                pass

    def _ended(self, outcome: Outcome) -> None:
        for _, exchange in self._exchanges:
            exchange.attributes[f"{OWN}token.outcome"] = "unanswered"
            exchange.close(self._now)
        self._exchanges.clear()
        if attr.status_of(outcome) is SpanStatus.ERROR:
            for span in filter(None, (self._root, self._step)):
                span.fail(attr.error_type(outcome), outcome.message)
        self._root.attributes |= attr.of_outcome(outcome, own_pipeline=not self._offer.spec.pipeline)
        self._close_step(self._now)
        self._teardown = self._open("teardown", self._root, _FINALIZING)
        self._follow("delete" if self._ordinals["provision"] else "verify", _FINALIZING)

    def _finished(self, leftovers: tuple[str, ...]) -> None:
        if leftovers and self._teardown is not None:
            self._teardown.fail("leftovers")
            self._teardown.attributes[f"{OWN}teardown.leftovers"] = len(leftovers)
        self._step = None
        for span in self._spans:
            span.close(self._now)

    def _restarted(self, before_ns: int) -> None:
        """The last fact before a restart bounds the gap from above: the daemon stopped at some moment after it."""
        gap = max(self._now - before_ns, 0) / 1e9
        for span in filter(None, (self._root, self._step)):
            known = span.attributes.get(_GAP)
            span.attributes[_GAP] = gap + (known if isinstance(known, float) else 0.0)
        self._ordinals["restart"] += 1
        self._root.attributes[f"{OWN}daemon.restarts"] = self._ordinals["restart"]

    def _exchange_decided(self, audience: str, decision: Decision) -> None:
        parent = self._teardown or self._execute or self._root
        state = _FINALIZING if self._teardown else _EXECUTING
        values = {**state, **attr.of_decision(decision), **bounded({f"{OWN}token.audience": audience})}
        asked = self._now - max(decision.duration_ns, 0)
        self._exchanges.append((audience, self._open("identity.exchange", parent, values, asked)))

    def _exchange_answered(self, audience: str, outcome: str) -> None:
        exchange = self._exchange_for(audience)
        if exchange is not None:
            self._exchanges.remove((audience, exchange))
            exchange.attributes[f"{OWN}token.outcome"] = outcome
            exchange.close(self._now)

    def _exchange_for(self, audience: str) -> _Span | None:
        return next((span for wanted, span in self._exchanges if wanted == audience), None)

    def _owner_of(self, event: events.Event) -> _Span:
        """The span an event belongs to: the exchange for tokens, *execute* for the job's own connections."""
        owner = self._step or self._teardown or self._root
        match event:
            case events.TokenIssued(audience=audience) | events.TokenRefused(audience=audience):
                owner = self._exchange_for(audience) or owner
            case events.EgressDecided(canary=False) if self._execute is not None:
                owner = self._execute
            case _:
                pass
        return owner if owner.kept else self._root

    def _open(self, name: str, parent: _Span, attributes: Attributes, start_ns: int | None = None) -> _Span:
        span_id = ids.span_id(self._job_id, name, self._ordinals[name])
        self._ordinals[name] += 1
        start = self._now if start_ns is None else start_ns
        span = _Span(name, span_id, parent.span_id, max(start, parent.start_ns), attributes=dict(attributes))
        if len(self._spans) >= MAX_SPANS and name in _REPEATING:
            span.kept = False
            self._dropped += 1
        else:
            self._spans.append(span)
        return span

    def _follow(self, name: str, attributes: Attributes) -> _Span:
        """End the open step and begin the next one, at the same moment."""
        self._close_step(self._now)
        self._step = self._open(name, self._teardown or self._root, attributes)
        return self._step

    def _is_at(self, name: str) -> bool:
        return self._step is not None and self._step.name == name

    def _close_step(self, at_ns: int) -> None:
        if self._step is not None:
            self._step.close(at_ns)
            self._step = None

    def _note(self, attributes: Attributes) -> None:
        if self._step is not None:
            self._step.attributes |= attributes

    def _record(self, span: _Span, now_ns: int | None) -> SpanRecord:
        is_root = span is self._root
        end_ns, attributes = span.end_ns, span.attributes
        if end_ns is None and now_ns is not None:
            end_ns, attributes = max(now_ns, self._now), {**attributes, f"{OWN}open": True}
        return SpanRecord(
            name=clip(span.name, MAX_NAME),
            trace_id=self._trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent,
            start_ns=span.start_ns,
            end_ns=end_ns,
            kind=SpanKind.SERVER if is_root else SpanKind.INTERNAL,
            status=span.status,
            status_message=clip(span.message),
            attributes=attributes,
            links=_links(self._offer) if is_root else (),
        )


def _links(offer: JobOffer) -> tuple[SpanLink, ...]:
    """The caller's own span (a link, since a stranger's word must not put us into a trace) and the last attempt."""
    links = []
    caller = ids.parse_traceparent(offer.spec.parent_traceparent)
    if caller is not None:
        links.append(SpanLink(*caller, {f"{OWN}link": "caller"}))
    if offer.key.attempt > 1:
        before = JobKey(offer.key.source, offer.key.platform_id, offer.key.attempt - 1).id
        links.append(SpanLink(ids.trace_id(before), ids.span_id(before, ROOT), {f"{OWN}link": "previous_attempt"}))
    return tuple(links)
