from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from orchestrator.model import events as e
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import MOVES, Phase, advance
from orchestrator.model.record import MissingOfferError
from orchestrator.telemetry import ids
from orchestrator.telemetry.open_span import MAX_SPANS, STAGES, own_span_ids
from orchestrator.telemetry.records import SpanKind, SpanStatus, Trace
from orchestrator.telemetry.spans import trace_of
from orchestrator.telemetry.waterfall import trace_document
from orchestrator.testing import stories
from orchestrator.testing.stories import (
    ADMITTED,
    BOUND,
    CANARY,
    CREATED,
    DELETED,
    DENIED_HOST,
    EXCHANGE,
    FINISHED,
    ISSUED,
    MARKER,
    MS,
    RUNNER,
    STARTED,
    T0,
    WHOLE,
    end,
    facts_for,
    offer,
)

OWN_IDS = frozenset(own_span_ids(offer().key.id))
_NOTES = st.sampled_from(
    [
        EXCHANGE,
        ISSUED,
        e.TokenRefused("sts.example", "policy_denied"),
        DENIED_HOST,
        CANARY,
        DELETED,
        CREATED,
        e.DaemonRestarted("daemon-2", T0),
        e.JobWaited(e.WaitReason.BACKEND_UNAVAILABLE),
        e.JobCancelRequested("operator"),
        e.AlarmRaised("second_claim", "x"),
        e.SpansRelayed(3, 1),
        e.LogClosed(1, 2, 3),
        e.ArtifactReported("wheel", "sha256:00"),
        e.ArtifactNamed("sha256:00"),
        e.ProvenanceSigned(MARKER, ("sha256:00",)),
        stories.NAMED,
        stories.NAMED_REFUSED,
        stories.COMPLETED,
        stories.EXITED,
        stories.POD_STARTED,
        stories.POD_ENDED,
        e.RunnerDeleted(RUNNER, T0 + 9 * MS),
        e.LogClosed(1, 0, 0, T0 + 7 * MS),
        e.JobWaited(e.WaitReason.QUOTA_EXHAUSTED),
    ]
)
_MOVES = {
    e.JobAdmitted: ADMITTED,
    e.ProvisionStarted: STARTED,
    e.RunnerCreated: CREATED,
    e.RunnerVanished: e.RunnerVanished(RUNNER),
    e.RunnerBound: BOUND,
    e.JobEnded: end(Result.FAILURE, EndReason.EXIT_NONZERO, 1),
    e.JobFinished: FINISHED,
}


@st.composite
def histories(draw) -> list[e.Fact]:
    """The facts of a job, cut off anywhere, with notes anywhere; legal by the phase table."""
    phase, steps = Phase.QUEUED, []
    for _ in range(draw(st.integers(0, 25))):
        moves = [_MOVES[kind] for kind in MOVES[phase] if kind in _MOVES]
        event = draw(st.sampled_from(moves) if moves and draw(st.booleans()) else _NOTES)
        if event is FINISHED and draw(st.booleans()):
            event = e.JobFinished(("mount",))
        phase = advance(phase, event)
        steps.append(event)
    facts, at_ns = [], T0
    first = draw(st.sampled_from([offer(), stories.platform_offer()]))
    for index, event in enumerate([e.JobOffered(first), *steps]):
        at_ns += draw(st.integers(0, 5 * MS))
        facts.append(e.Fact(offer().key.id, at_ns, event, index + 1))
    return facts


def well_formed(trace: Trace) -> None:
    root, *others = trace.spans
    by_id = {span.span_id: span for span in trace.spans}
    assert len(by_id) == len(trace.spans)
    assert root.parent_span_id == ""
    whole_run = "cicd.pipeline.run.id" in root.attributes
    assert root.kind is (SpanKind.SERVER if whole_run else SpanKind.INTERNAL)
    assert set(by_id) <= OWN_IDS
    assert [span.start_ns for span in others] == sorted(span.start_ns for span in others)
    for span in trace.spans:
        assert span.trace_id == root.trace_id == ids.trace_id(offer().key.id)
        assert span.end_ns is None or span.start_ns <= span.end_ns
    for span in others:
        parent = by_id[span.parent_span_id]
        assert parent.start_ns <= span.start_ns
        if parent.end_ns is not None:
            assert span.end_ns is not None
            assert span.end_ns <= parent.end_ns
    assert all(event.span_id in by_id for event in trace.events)
    assert len({event.uid for event in trace.events}) == len(trace.events)
    assert MARKER not in repr(trace)


@given(histories())
def test_any_history_cut_anywhere_gives_a_well_formed_trace(facts: list[e.Fact]) -> None:
    for length in range(1, len(facts) + 1):
        trace = trace_of(facts[:length])
        well_formed(trace)
        finished = any(isinstance(fact.event, e.JobFinished) for fact in facts[:length])
        assert all((span.end_ns is not None) for span in trace.spans) == finished
        assert trace.spans[0].end_ns is None or finished


@given(histories())
def test_the_same_facts_give_the_same_trace_and_ids_never_change(facts: list[e.Fact]) -> None:
    whole = trace_of(facts)
    assert whole == trace_of(facts)
    known = {span.span_id: span.name for span in whole.spans[1:]}
    for length in range(1, len(facts)):
        root, *others = trace_of(facts[:length]).spans
        assert root.span_id == whole.spans[0].span_id  # its name is the job's, which may be learnt later
        # Whether a stage that goes on has a span in the end depends on whether somebody sees it end.
        sure = [span for span in others if span.end_ns is not None or span.name not in STAGES]
        assert {span.span_id: span.name for span in sure}.items() <= known.items()


@given(histories())
def test_phases_follow_each_other_without_gap_or_overlap(facts: list[e.Fact]) -> None:
    root, *others = trace_of(facts, now_ns=facts[-1].at_ns).spans
    tiles = [span for span in others if span.parent_span_id == root.span_id and span.name != "identity.exchange"]
    assert tiles[0].start_ns == root.start_ns
    assert tiles[-1].end_ns == root.end_ns
    assert [span.end_ns for span in tiles[:-1]] == [span.start_ns for span in tiles[1:]]


@pytest.mark.parametrize("story", WHOLE)
def test_every_span_of_every_finished_story_is_ended(story: str) -> None:
    trace = trace_of(facts_for(offer(), WHOLE[story]))
    well_formed(trace)
    assert all(span.end_ns is not None for span in trace.spans)
    outcome = next(event.outcome for event in WHOLE[story] if isinstance(event, e.JobEnded))
    root = trace.spans[0]
    assert root.attributes["orchestrator.job.result"] == outcome.result.value
    failed = outcome.result in {Result.FAILURE, Result.ERROR, Result.TIMEOUT}
    assert root.status is (SpanStatus.ERROR if failed else SpanStatus.UNSET)
    assert root.attributes.get("error.type") == (outcome.reason.value if failed else None)


@pytest.mark.parametrize(
    ("story", "spans"),
    [
        ("success", ["platform.queued", "policy", "execute", "identity.exchange", "platform.completing"]),
        ("completed_after_exit", ["platform.queued", "policy", "execute", "platform.completing"]),
        ("named_after_exit", ["platform.queued", "platform.completing", "policy", "platform.completing"]),
        ("no_job", ["platform.queued"]),
        ("refused", ["platform.queued", "policy", "platform.refused"]),
        ("second_job", ["platform.queued", "policy", "execute"]),
    ],
)
def test_the_time_before_a_job_is_named_is_told_apart(story: str, spans: list[str]) -> None:
    trace = trace_of(facts_for(stories.platform_offer(), stories.PLATFORM[story]))
    well_formed(trace)
    root, *others = trace.spans
    before = ["queue", "policy", "wait", "provision", "bind"]
    assert [span.name for span in others] == [*before, *spans, "teardown", "delete", "verify"]
    named = any(isinstance(event, e.PlatformJobNamed) for event in stories.PLATFORM[story])
    assert root.name == ("RUN unit tests" if named else "RUN linux")
    assert root.attributes.get("cicd.pipeline.name") == ("ci.yml" if named else "linux")
    assert root.attributes["orchestrator.caller.issuer"] == (
        "https://platform.example" if named else "https://issuer.example"
    )
    for span in others:
        if span.name.startswith(("platform.", "execute")):
            assert span.attributes["cicd.worker.id"] == "uid-1", span.name


def test_a_job_of_a_platforms_run_never_passes_for_a_run_of_its_own() -> None:
    """Nothing of what was said of the demanded runner stays once its job is named."""
    facts = {"repository": "octo/site", "run_id": "9001", "run_attempt": "1"}
    job = replace(stories.PLATFORM_JOB, caller=replace(stories.PLATFORM_JOB.caller, facts=facts))
    story = [*stories.TO_WORK, e.PlatformJobNamed(job, ADMITTED.decision), end(Result.SUCCESS, EndReason.COMPLETED)]
    the_offer = stories.platform_offer()
    before = trace_of(facts_for(the_offer, stories.TO_WORK)).spans[0]
    after = trace_of(facts_for(the_offer, [*story, DELETED, FINISHED])).spans[0]
    assert before.kind is after.kind is SpanKind.INTERNAL
    assert "cicd.pipeline.run.id" not in before.attributes
    assert after.attributes["cicd.pipeline.run.id"] == "9001"
    assert after.attributes["cicd.pipeline.task.run.id"] == the_offer.key.id
    assert "cicd.pipeline.result" not in after.attributes
    unnamed = trace_of(facts_for(the_offer, stories.PLATFORM["no_job"])).spans[0]
    assert not unnamed.attributes.keys() & {"cicd.pipeline.run.id", "cicd.pipeline.result"}


def test_a_part_of_a_named_pipeline_is_no_run_and_a_lone_job_is_one() -> None:
    part = trace_of(facts_for(offer(pipeline="nightly"), WHOLE["success"])).spans[0]
    assert (part.kind, part.attributes["cicd.pipeline.name"]) == (SpanKind.INTERNAL, "nightly")
    assert not part.attributes.keys() & {"cicd.pipeline.run.id", "cicd.pipeline.result"}
    whole = trace_of(facts_for(offer(), WHOLE["success"])).spans[0]
    assert whole.kind is SpanKind.SERVER
    assert whole.attributes["cicd.pipeline.run.id"] == offer().key.id
    assert whole.attributes["cicd.pipeline.result"] == "success"


def test_an_exchange_that_nobody_answered_says_so_also_after_the_end() -> None:
    late = [*stories.TO_WORK, end(Result.SUCCESS, EndReason.COMPLETED, 0), EXCHANGE, DELETED, FINISHED]
    spans = trace_of(facts_for(offer(), late)).spans
    (exchange,) = [span for span in spans if span.name == "identity.exchange"]
    assert exchange.attributes["orchestrator.token.outcome"] == "unanswered"


def names(story: str) -> list[str]:
    return [span.name for span in trace_of(facts_for(offer(), WHOLE[story])).spans]


def test_the_tree_of_a_job_that_went_well() -> None:
    spans = trace_of(facts_for(offer(), WHOLE["success"])).spans
    root, execute = spans[0], next(span for span in spans if span.name == "execute")
    depth = {span.name: span.parent_span_id for span in spans}
    assert names("success") == [
        "RUN build", "queue", "policy", "wait", "provision", "bind", "execute", "identity.exchange",
        "teardown", "delete", "verify",
    ]  # fmt: skip
    assert depth["identity.exchange"] == execute.span_id == ids.traceparent(offer().key.id).split("-")[2]
    assert depth["delete"] == depth["verify"] == next(span for span in spans if span.name == "teardown").span_id
    assert {depth[name] for name in ("queue", "policy", "wait", "provision", "bind", "execute")} == {root.span_id}
    policy = next(span for span in spans if span.name == "policy")
    assert policy.end_ns - policy.start_ns == 2 * MS
    assert policy.attributes["orchestrator.policy.reasons"] == ("protected_branch",)
    assert next(span for span in spans if span.name == "bind").attributes["orchestrator.egress.proof.holds"] is True


def test_trees_of_jobs_that_went_otherwise() -> None:
    assert names("denied") == ["RUN build", "queue", "policy", "teardown", "verify"]
    assert names("admission_timeout") == ["RUN build", "queue", "teardown", "verify"]
    assert names("claim_overtakes_create") == names("lost")
    assert names("vanished_then_success")[3:9] == ["wait", "provision", "bind", "wait", "provision", "bind"]
    root = trace_of(facts_for(offer(), WHOLE["denied"])).spans[0]
    assert root.attributes["cicd.pipeline.task.run.result"] == "skip"


@pytest.mark.parametrize(
    ("story", "phase", "error"),
    [
        ("provision_timeout", "provision", "provision_timeout"),
        ("bind_timeout", "bind", "bind_timeout"),
        ("run_timeout", "execute", "run_timeout"),
        ("capacity_timeout", "wait", "capacity_timeout"),
        ("admission_timeout", "queue", "admission_timeout"),
        ("failure", "execute", "exit_nonzero"),
        ("vanished_then_success", "bind", "runner_vanished"),
    ],
)
def test_the_error_stands_on_the_phase_where_it_happened(story: str, phase: str, error: str) -> None:
    spans = trace_of(facts_for(offer(), WHOLE[story])).spans[1:]
    failed = [(span.name, span.attributes["error.type"]) for span in spans if span.status is SpanStatus.ERROR]
    assert failed == [(phase, error)]


def test_a_restart_is_told_apart_from_the_jobs_own_time() -> None:
    trace = trace_of(facts_for(offer(), WHOLE["restarted"]))
    by_name = {span.name: span for span in trace.spans}
    assert by_name["RUN build"].attributes["orchestrator.daemon.restarts"] == 2
    assert by_name["RUN build"].attributes["orchestrator.daemon.gap_seconds"] == pytest.approx(0.02)
    assert by_name["execute"].attributes["orchestrator.daemon.gap_seconds"] == pytest.approx(0.01)
    restarts = [event.span_id for event in trace.events if event.name == "orchestrator.daemon.restarted"]
    assert restarts == [by_name["execute"].span_id, by_name["verify"].span_id]


def test_events_belong_to_the_span_they_happened_in() -> None:
    trace = trace_of(facts_for(offer(), WHOLE["success"]))
    name_of = {span.span_id: span.name for span in trace.spans}
    assert [(event.name, name_of[event.span_id]) for event in trace.events] == [
        ("orchestrator.egress.decided", "bind"),
        ("orchestrator.token.issued", "identity.exchange"),
        ("orchestrator.egress.decided", "execute"),
    ]


def test_verdicts_that_arrive_after_the_end_still_belong_to_the_work() -> None:
    steps = [*stories.TO_WORK, end(Result.SUCCESS, EndReason.COMPLETED, 0), DENIED_HOST, DELETED, FINISHED]
    trace = trace_of(facts_for(offer(), steps))
    late = next(event for event in trace.events if event.attributes.get("orchestrator.egress.host") == "evil.example")
    assert late.span_id == ids.span_id(offer().key.id, "execute")


def test_a_callers_trace_is_linked_and_never_a_parent() -> None:
    theirs = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    root = trace_of(facts_for(offer(attempt=2, parent_traceparent=theirs), [])).spans[0]
    before = offer(attempt=1).key.id
    assert root.parent_span_id == ""
    assert root.trace_id != "a" * 32
    assert [(link.trace_id, link.span_id) for link in root.links] == [
        ("a" * 32, "b" * 16),
        (ids.trace_id(before), ids.span_id(before, "job")),
    ]
    assert trace_of(facts_for(offer(parent_traceparent="00-zz"), [])).spans[0].links == ()


def test_a_job_cannot_make_its_trace_grow_without_end() -> None:
    refused = e.TokenRefused("sts.example", "policy_denied")
    flood = [event for _ in range(2000) for event in (EXCHANGE, refused, DENIED_HOST)]
    alarm = e.AlarmRaised("second_claim", "x")
    steps = [*stories.TO_WORK, *flood, alarm, end(Result.SUCCESS, EndReason.COMPLETED, 0), DELETED, FINISHED]
    trace = trace_of(facts_for(offer(), steps, step_ns=1))
    well_formed(trace)
    assert len(trace.spans) == MAX_SPANS + 3
    assert {"teardown", "delete", "verify"} <= {span.name for span in trace.spans}
    assert any(event.name == "orchestrator.alarm.raised" for event in trace.events)
    assert len(trace.events) < 1100
    kept = len(trace.spans) - 10 + len(trace.events) - 1
    assert trace.spans[0].attributes["orchestrator.trace.dropped"] == 6001 - kept


def test_long_and_broken_text_is_cut_and_mended() -> None:
    long = facts_for(offer(name="n" * 500, deployment_environment="\ud800" * 400), [])
    root = trace_document(long)["spans"][0]
    assert len(root["name"]) == 128
    assert len(root["attributes"]["deployment.environment.name"]) == 256
    root["attributes"]["deployment.environment.name"].encode()


def test_open_spans_can_be_ended_for_the_time_being() -> None:
    facts = facts_for(offer(), stories.TO_WORK)
    spans = trace_of(facts, now_ns=T0 + 999 * MS).spans
    assert [span.name for span in spans if span.attributes.get("orchestrator.open")] == ["RUN build", "execute"]
    assert spans[0].end_ns == T0 + 999 * MS


def test_no_facts_no_offer_and_only_the_compacted_line() -> None:
    assert trace_of([]).spans == ()
    assert trace_document([]) == {"trace_id": "", "spans": []}
    with pytest.raises(MissingOfferError):
        trace_of([e.Fact(offer().key.id, T0, ADMITTED, 1)])
    outcome = Outcome(Result.FAILURE, EndReason.EXIT_NONZERO, "x", 1)
    compacted = e.JobCompacted("build", "default", outcome, T0, T0 + 5 * MS)
    (root,) = trace_of([e.Fact(offer().key.id, T0 + 9 * MS, compacted, 9)]).spans
    assert (root.name, root.start_ns, root.end_ns, root.status) == ("RUN build", T0, T0 + 5 * MS, SpanStatus.ERROR)
    whole = facts_for(offer(), [*WHOLE["failure"], compacted])
    assert trace_of(whole).spans == trace_of(whole[:-1]).spans


def test_the_document_has_exactly_the_shape_the_api_promises() -> None:
    document = trace_document(facts_for(offer(), WHOLE["success"][:-1]))
    assert document["trace_id"] == ids.trace_id(offer().key.id)
    assert {frozenset(span) for span in document["spans"]} == {
        frozenset(("name", "span_id", "parent_span_id", "start_ns", "end_ns", "status", "attributes", "events"))
    }
    assert document["spans"][0]["parent_span_id"] is None
    assert document["spans"][0]["end_ns"] is None
    exchange = next(span for span in document["spans"] if span["name"] == "identity.exchange")
    assert [event["name"] for event in exchange["events"]] == ["orchestrator.token.issued"]
    assert exchange["events"][0]["attributes"]["orchestrator.token.session_tags"] == ["env=prod"]


def test_the_reference_page_names_every_span_event_and_attribute() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/traces.md").read_text()
    seen = set()
    for steps in WHOLE.values():
        trace = trace_of(facts_for(offer(deployment_environment="prod", artifact_digest="sha256:0"), steps), now_ns=T0)
        seen |= {span.name for span in trace.spans[1:]}
        seen |= {event.name.removeprefix("orchestrator.") for event in trace.events}
        seen |= {key.removeprefix("orchestrator.") for span in trace.spans for key in span.attributes}
    cicd = {name for name in seen if name.startswith("cicd.")}
    facts = {name for name in seen if name.startswith("caller.fact.")}
    assert facts
    assert [name for name in sorted(seen - cicd - facts) if f"`{name}`" not in page] == []


def test_what_a_phase_waited_for_is_on_its_span():
    steps = [
        ADMITTED,
        STARTED,
        e.JobWaited(e.WaitReason.QUOTA_EXHAUSTED),
        CREATED,
        e.JobWaited(e.WaitReason.UNSCHEDULABLE),
        e.JobWaited(e.WaitReason.RUNNER_STARTING),
        BOUND,
        e.JobWaited(e.WaitReason.IMAGE_PULL),
    ]
    spans = {span.name: span.attributes for span in trace_of(facts_for(offer(), steps)).spans}
    reasons = {name: attributes.get("orchestrator.wait.reason") for name, attributes in spans.items()}
    assert (reasons["provision"], reasons["bind"], reasons["execute"]) == (
        "quota_exhausted",
        "unschedulable",
        "image_pull",
    )
