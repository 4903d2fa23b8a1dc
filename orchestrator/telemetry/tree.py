"""The span tree of one job while it grows, fact by fact. Pure; `runner_spans` draws what is below a runner's phases."""

from __future__ import annotations

from collections import Counter

from orchestrator.model import events
from orchestrator.model.decision import Decision
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId, JobOffer
from orchestrator.model.outcome import Outcome
from orchestrator.model.platform import PlatformJob, named_offer
from orchestrator.telemetry import attributes as attr
from orchestrator.telemetry import ids, semconv
from orchestrator.telemetry.exchanges import Exchanges
from orchestrator.telemetry.links import links_of
from orchestrator.telemetry.log_events import EventLog
from orchestrator.telemetry.open_span import (
    AWAITED,
    COMPLETING,
    MAX_SPANS,
    REFUSED,
    REPEATING,
    ROOT,
    STAGES,
    OpenSpan,
)
from orchestrator.telemetry.records import Attributes, AttributeValue, SpanKind, SpanRecord, SpanStatus, Trace, bounded
from orchestrator.telemetry.runner_spans import RunnerSpans
from orchestrator.telemetry.semconv import OWN

_GAP = f"{OWN}daemon.gap_seconds"


def _state(word: str) -> dict[str, AttributeValue]:
    return {semconv.CICD_PIPELINE_RUN_STATE: word}


_PENDING, _EXECUTING = _state(semconv.STATE_PENDING), _state(semconv.STATE_EXECUTING)
_FINALIZING = _state(semconv.STATE_FINALIZING)


class Tree:
    """Feed it a job's facts after its offer, in order, then take the trace.

    `_step` is the one phase (or, in teardown, the one part of it) that is open now.
    """

    def __init__(self, job_id: JobId, offer: JobOffer, offered_at_ns: int, public_url: str) -> None:
        self._job_id = job_id
        self._trace_id = ids.trace_id(job_id)
        self.offer = offer
        self._public_url = public_url
        self._now = offered_at_ns
        self._ordinals: Counter[str] = Counter()
        self._dropped = 0
        self._is_named = False
        self._log = EventLog(job_id)
        self._root = OpenSpan(f"RUN {offer.spec.name}", ids.span_id(job_id, ROOT), "", offered_at_ns)
        self._root.attributes |= attr.of_offer(offer, public_url)
        self._spans = [self._root]
        self._exchanges = Exchanges()
        self._runner = RunnerSpans(self._open)
        self._execute: OpenSpan | None = None
        self._teardown: OpenSpan | None = None
        self._step: OpenSpan | None = self._open("queue", self._root, _PENDING)

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
            case events.JobRefused(decision) if not self.offer.spec.awaits_platform_job:  # else it came with the name
                self._decided(decision)
            case events.ProvisionStarted() | events.RunnerCreated() | events.RunnerVanished() | events.RunnerBound():
                self._runner_moved(event)
            case events.PlatformJobNamed() | events.RunnerExited():
                self._platform_moved(event)
            case events.JobEnded(outcome):
                self._ended(outcome)
            case events.RunnerDeleted(revoked_at_ns=revoked_at_ns) if self._is_at("delete"):
                self._deleted(revoked_at_ns)
            case events.JobFinished(leftovers, revoked_at_ns):
                self._finished(leftovers, revoked_at_ns)
            case events.DaemonRestarted(last_fact_at_ns=before):
                self._restarted(before)
            case _:
                self._noted(event)

    def _noted(self, event: events.Event) -> None:
        match event:
            case events.RunnerObserved():
                self._runner.note(event)
            case events.ExchangeDecided(audience, decision):
                self._exchange_decided(audience, decision)
            case events.TokenIssued(audience=audience) | events.TokenRefused(audience=audience):
                self._exchanges.answer(event, audience, self._now)
            case events.JobWaited(reason=reason) if reason is not events.WaitReason.RUNNER_STARTING:
                self._runner.wait(reason, self._now)
                self._note({f"{OWN}wait.reason": reason.value})
            case events.LogClosed(drained_at_ns=drained_at_ns):
                self._runner.log_closed(min(drained_at_ns or self._now, self._now))
            case _:
                pass

    def look(self, under_way: events.RunnerObserved | None) -> None:
        """Draw how far the runner of a job that goes on is by now. The last thing to be told."""
        self._runner.so_far(under_way)

    def trace(self, now_ns: int | None = None) -> Trace:
        """What the facts so far say; with `now_ns`, open spans end there for the time being."""
        dropped = self._dropped + self._log.dropped
        if dropped:
            self._root.attributes[f"{OWN}trace.dropped"] = dropped
        root, *others = (self._record(span, now_ns) for span in self._spans)
        return Trace((root, *sorted(others, key=lambda span: span.start_ns)), tuple(self._log.records))

    def _decided(self, decision: Decision) -> None:
        asked = self._now - max(decision.duration_ns, 0)
        start = max(asked, self._step.start_ns if self._step is not None else self._root.start_ns)
        self._close_step(start)
        policy = self._open("policy", self._root, {**_PENDING, **attr.of_decision(decision)}, start)
        policy.close(self._now)

    def _platform_moved(self, event: events.PlatformJobNamed | events.RunnerExited) -> None:
        at = self._step.name if self._step is not None else ""
        if isinstance(event, events.PlatformJobNamed):
            if at in (AWAITED, COMPLETING) and not self._is_named:
                self._named(event.job, event.decision)
        elif self.offer.spec.awaits_platform_job and at in (AWAITED, REFUSED, ids.EXECUTE):
            self._runner.exited(self._now)
            self._runner.enter(self._follow(COMPLETING, {**_FINALIZING, **self._worker()}))

    def _named(self, job: PlatformJob, decision: Decision) -> None:
        """From here on the trace is that of the job which the platform has proven."""
        self._is_named = True
        for key in attr.of_offer(self.offer, self._public_url):
            del self._root.attributes[key]
        self.offer = named_offer(self.offer, job)
        self._root.name = f"RUN {job.name}"
        self._root.attributes |= attr.of_offer(self.offer, self._public_url)
        waited, worker = self._is_at(AWAITED), self._worker()
        self._decided(decision)
        if not waited:  # the runner had ended before
            self._step = self._open(COMPLETING, self._root, {**_FINALIZING, **worker})
        elif decision.allowed:
            self._execute = self._follow(ids.EXECUTE, {**_EXECUTING, **worker})
            self._runner.enter(self._execute)
        else:
            self._follow(REFUSED, {**_FINALIZING, **worker})

    def _worker(self) -> dict[str, AttributeValue]:
        """The runner, as the open step names it."""
        known = self._step.attributes if self._step is not None else {}
        return {key: known[key] for key in (semconv.CICD_WORKER_NAME, semconv.CICD_WORKER_ID) if key in known}

    def _runner_moved(
        self, event: events.ProvisionStarted | events.RunnerCreated | events.RunnerVanished | events.RunnerBound
    ) -> None:
        worker: dict[str, AttributeValue] = {semconv.CICD_WORKER_NAME: event.runner}
        match event:
            case events.ProvisionStarted(number=number):
                self._runner.begin(self._follow("provision", {**_PENDING, **worker, f"{OWN}runner.number": number}))
            case events.RunnerCreated(uid=uid) if self._is_at("provision"):
                self._note({semconv.CICD_WORKER_ID: uid})
                self._runner.enter(self._follow("bind", {**_PENDING, **worker, semconv.CICD_WORKER_ID: uid}))
            case events.RunnerVanished() if self._step is not None:
                self._step.fail("runner_vanished")
                self._runner.over(self._now, "runner_vanished")
                self._follow("wait", {**_PENDING, f"{OWN}wait.reason": events.WaitReason.RUNNER_VANISHED.value})
            case events.RunnerBound(uid=uid):
                if not self._is_at("bind"):  # the claim overtook the create call's return
                    self._runner.enter(self._follow("bind", _PENDING))
                self._note(attr.of_binding(event))
                self._runner.bound(self._now, event.proof)
                worker[semconv.CICD_WORKER_ID] = uid
                if self.offer.spec.awaits_platform_job:
                    self._runner.enter(self._follow(AWAITED, {**_PENDING, **worker}))
                else:
                    self._execute = self._follow(ids.EXECUTE, {**_EXECUTING, **worker})
                    self._runner.enter(self._execute)
            case _:
                pass

    def _ended(self, outcome: Outcome) -> None:
        self._exchanges.cut(self._now)
        if attr.status_of(outcome) is SpanStatus.ERROR:
            for span in filter(None, (self._root, self._step)):
                span.fail(attr.error_type(outcome), outcome.message)
        self._runner.over(self._now, attr.error_type(outcome))
        self._root.attributes |= attr.of_outcome(outcome, own_pipeline=attr.whole_run(self.offer))
        self._close_step(self._now)
        self._teardown = self._open("teardown", self._root, _FINALIZING)
        self._runner.enter(self._teardown)
        self._follow("delete" if self._ordinals["provision"] else "verify", _FINALIZING)

    def _deleted(self, revoked_at_ns: int) -> None:
        """Only now it is known when revoking was over: *delete* has covered both until here."""
        delete = self._step
        if delete is not None and delete.start_ns <= revoked_at_ns <= self._now:
            self._revoked(revoked_at_ns)
            delete.start_ns = revoked_at_ns
        self._follow("verify", _FINALIZING)

    def _revoked(self, at_ns: int) -> None:
        if self._teardown is not None and not self._ordinals["revoke"]:
            self._open("revoke", self._teardown, _FINALIZING, self._teardown.start_ns).close(min(at_ns, self._now))

    def _finished(self, leftovers: tuple[str, ...], revoked_at_ns: int) -> None:
        if revoked_at_ns:  # only after the deletion, and so beside it
            self._revoked(revoked_at_ns)
        if leftovers and self._teardown is not None:
            self._teardown.fail("leftovers")
            self._teardown.attributes[f"{OWN}teardown.leftovers"] = len(leftovers)
        self._step = None
        self._exchanges.cut(self._now)
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
        self._exchanges.add(audience, self._open("identity.exchange", parent, values, asked))

    def _owner_of(self, event: events.Event) -> OpenSpan:
        """The span an event belongs to: the exchange for tokens, *execute* for the job's own connections."""
        owner = self._step or self._teardown or self._root
        match event:
            case events.TokenIssued(audience=audience) | events.TokenRefused(audience=audience):
                owner = self._exchanges.of(audience) or owner
            case events.EgressDecided(canary=False) if self._execute is not None:
                owner = self._execute
            case _:
                pass
        return owner if owner.kept else self._root

    def _open(self, name: str, parent: OpenSpan, attributes: Attributes, start_ns: int | None = None) -> OpenSpan:
        span_id = ids.span_id(self._job_id, name, self._ordinals[name])
        self._ordinals[name] += 1
        start = self._now if start_ns is None else start_ns
        span = OpenSpan(name, span_id, parent.span_id, max(start, parent.start_ns), attributes=dict(attributes))
        if (len(self._spans) >= MAX_SPANS and name in REPEATING) or self._ordinals[name] > STAGES.get(name, MAX_SPANS):
            span.kept = False
            self._dropped += 1
        else:
            self._spans.append(span)
        return span

    def _follow(self, name: str, attributes: Attributes) -> OpenSpan:
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

    def _record(self, span: OpenSpan, now_ns: int | None) -> SpanRecord:
        is_root, end_ns, attributes = span is self._root, span.end_ns, span.attributes
        if end_ns is None and now_ns is not None:
            end_ns, attributes = max(now_ns, self._now), {**attributes, f"{OWN}open": True}
        return SpanRecord(
            name=span.name,
            trace_id=self._trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent,
            start_ns=span.start_ns,
            end_ns=end_ns,
            kind=SpanKind.SERVER if is_root and attr.whole_run(self.offer) else SpanKind.INTERNAL,
            status=span.status,
            status_message=span.message,
            attributes=attributes,
            links=links_of(self.offer) if is_root else (),
        )
