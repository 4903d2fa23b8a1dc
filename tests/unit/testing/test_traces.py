"""The judge of received traces: it finds nothing in good ones, and each way in which one can be broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from orchestrator.telemetry.encode import encode_events, encode_spans
from orchestrator.telemetry.spans import trace_of
from orchestrator.testing.stories import WHOLE, facts_for, offer
from orchestrator.testing.traces import ReceivedTrace


def sent(story: str) -> ReceivedTrace:
    """A story's trace as it goes over the wire."""
    trace = trace_of(facts_for(offer(), WHOLE[story]))
    spans, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
    spans.ParseFromString(encode_spans(trace.spans, {}))
    logs.ParseFromString(encode_events(trace.events, {}))
    return ReceivedTrace(
        offer().key.id,
        [span for group in spans.resource_spans for scope in group.scope_spans for span in scope.spans],
        [log for group in logs.resource_logs for scope in group.scope_logs for log in scope.log_records],
    )


# A refusal and the end that it is are one step of the engine's, at one moment; that story lets time pass between them.
@pytest.mark.parametrize("story", sorted(WHOLE.keys() - {"denied"}))
def test_good_traces_have_no_problems(story: str) -> None:
    assert sent(story).problems() == []


def test_the_tree_says_everything_that_matters_in_order() -> None:
    assert sent("success").tree() == (
        "RUN build result=success reason=completed\n"
        "  queue\n"
        "  policy verdict=allow\n"
        "  wait\n"
        "  provision\n"
        "  bind\n"
        "  execute\n"
        "    identity.exchange verdict=allow outcome=issued\n"
        "  teardown\n"
        "    delete\n"
        "    verify\n"
    )
    assert "  execute ! exit_nonzero\n" in sent("failure").tree()


def without(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name != name]


def named(spans: list[Span], name: str) -> Span:
    return next(span for span in spans if span.name == name)


def drop(key: str, of: Span) -> None:
    kept = [pair for pair in of.attributes if pair.key != key]
    del of.attributes[:]
    of.attributes.extend(kept)


def later(span: Span) -> None:
    span.start_time_unix_nano += 1


BREAKS: dict[str, tuple[Callable[[list[Span]], list[Span] | None], str]] = {
    "no root": (lambda spans: spans[1:], "roots"),
    "two roots": (lambda spans: named(spans, "bind").ClearField("parent_span_id"), "roots"),
    "a copy": (lambda spans: [*spans, spans[2]], "came 2 times"),
    "not ended": (lambda spans: named(spans, "bind").ClearField("end_time_unix_nano"), "bind: not ended"),
    "no parent": (lambda spans: without(spans, "teardown"), "hangs below nothing"),
    "a phase is missing": (lambda spans: without(spans, "bind"), "lies time"),
    "the last phase is missing": (lambda spans: without(spans, "verify"), "does not end with"),
    "a hole": (lambda spans: later(named(spans, "provision")), "lies time"),
    "a late begin": (lambda spans: later(named(spans, "queue")), "does not begin with"),
    "outside its parent": (
        lambda spans: setattr(named(spans, "verify"), "end_time_unix_nano", 1 << 62),
        "reaches beyond teardown",
    ),
    "another trace": (lambda spans: setattr(spans[1], "trace_id", b"\1" * 16), "another trace"),
    "a drawn id": (lambda spans: setattr(named(spans, "queue"), "span_id", b"\1" * 8), "cannot be derived"),
    "a client span": (lambda spans: setattr(named(spans, "bind"), "kind", Span.SPAN_KIND_CLIENT), "kind 3"),
    "no result": (lambda spans: drop("orchestrator.job.result", spans[0]), "no result"),
    "another word for the result": (lambda spans: drop("cicd.pipeline.task.run.result", spans[0]), "is None"),
    "a root that is no error": (lambda spans: spans[0].status.Clear(), "the root's status is 0"),
    "no type of the error": (lambda spans: drop("error.type", named(spans, "execute")), "do not go together"),
    "no phase with the error": (
        lambda spans: (drop("error.type", named(spans, "execute")), named(spans, "execute").status.Clear())[1],
        "no phase says",
    ),
    "called ok": (lambda spans: setattr(named(spans, "bind").status, "code", Status.STATUS_CODE_OK), "call a span OK"),
    "a foreign attribute": (lambda spans: named(spans, "bind").attributes.add(key="script") and None, "script"),
    "an attribute twice": (lambda spans: spans[0].attributes.extend(spans[0].attributes[:1]), "twice"),
    "sent while open": (lambda spans: spans[0].attributes.add(key="orchestrator.open") and None, "while open"),
    "no state": (lambda spans: drop("cicd.pipeline.run.state", named(spans, "bind")), "no cicd.pipeline.run.state"),
}


@pytest.mark.parametrize("how", BREAKS)
def test_what_is_broken_is_found(how: str) -> None:
    breaks, expected = BREAKS[how]
    trace = sent("failure")
    spans = list(trace.spans)
    broken = replace(trace, spans=breaks(spans) or spans)
    assert any(expected in problem for problem in broken.problems()), broken.problems()


def test_a_joined_trace_hangs_below_its_platforms_span() -> None:
    trace = sent("success")
    platform = ("0bd0afbe17036e89e4a05c993dace1da", "55b9b8b34bb88fcf")
    joined = replace(trace, below=platform)
    assert joined.problems() == ["roots: []"]
    for one in (*trace.spans, *trace.logs):
        one.trace_id = bytes.fromhex(platform[0])
    trace.spans[0].parent_span_id = bytes.fromhex(platform[1])
    assert joined.problems() == []
    assert joined.tree() == sent("success").tree()
    assert replace(joined, below=("1" * 32, platform[1])).problems()[0] == "RUN build: of another trace"


def test_broken_events_are_found() -> None:
    trace = sent("success")
    for change, expected in (
        (lambda log: setattr(log, "span_id", b"\1" * 8), "of no span"),
        (lambda log: log.attributes.pop(), "no log.record.uid"),
        (lambda log: setattr(log, "time_unix_nano", 1), "before the job"),
    ):
        trace = sent("success")
        change(trace.logs[0])
        assert any(expected in problem for problem in trace.problems()), trace.problems()
    twice = replace(trace, logs=[*trace.logs, trace.logs[-1]])
    assert any("came 2 times" in problem for problem in twice.problems())
