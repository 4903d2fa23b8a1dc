"""A job's place in the trace that GitHub's receiver makes of its workflow run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model import events as e
from orchestrator.model.job import Caller, JobOffer
from orchestrator.telemetry import ids
from orchestrator.telemetry.joining import sent_trace_id, sent_traceparent
from orchestrator.telemetry.open_span import own_span_ids
from orchestrator.telemetry.platform_trace import PlatformTrace, missing_facts, platform_trace
from orchestrator.telemetry.spans import trace_of
from orchestrator.telemetry.waterfall import trace_document
from orchestrator.testing import stories
from orchestrator.testing.stories import PLATFORM, PLATFORM_JOB, facts_for, platform_offer

FACTS = {"repository": "octo/site", "run_id": "9753949763", "run_attempt": "1", "check_run_id": "26920038674"}
TAKEN = frozenset(("55b9b8b34bb88fcf", "de3cc97bbbb4d696", "1497fe109b00d3c0"))
THEIRS = PlatformTrace("0bd0afbe17036e89e4a05c993dace1da", "55b9b8b34bb88fcf", TAKEN)
"""By the receiver's recipe (collector-contrib, `receiver/githubreceiver`), worked out with `sha256sum`."""


def named(facts: dict[str, str]) -> list[e.Event]:
    job = replace(PLATFORM_JOB, caller=Caller("https://platform.example", "repo:octo/site", facts))
    known = e.PlatformJobNamed(job, stories.decision())
    return [known if event is stories.NAMED else event for event in PLATFORM["success"]]


def dispatched(issuer: str, facts: dict[str, str]) -> JobOffer:
    return replace(stories.offer(), caller=Caller(issuer, "repo:octo/site", facts))


def test_ids_are_those_of_the_receiver() -> None:
    offer = dispatched("https://token.actions.githubusercontent.com", FACTS)
    assert platform_trace(offer) == THEIRS
    # Which job of the run it is is not known: the run's own span.
    run = platform_trace(replace(offer, caller=replace(offer.caller, facts=FACTS | {"check_run_id": ""})))
    assert run == PlatformTrace(THEIRS.trace_id, "1497fe109b00d3c0", frozenset(("1497fe109b00d3c0",)))


def test_ids_are_those_that_the_receivers_own_tests_expect() -> None:
    """Numbers of `receiver/githubreceiver/testdata/workflow-run-expected.yaml` in collector-contrib."""
    facts = {"run_id": "14460881260", "run_attempt": "13"}
    found = platform_trace(dispatched("https://token.actions.githubusercontent.com", facts))
    assert found is not None
    assert (found.trace_id, found.span_id) == ("731ec8a47fd7450f753a812a4a8aa5a0", "aba151af7cfbcf0f")
    assert found.before is not None
    assert found.before[0] == "3ab150c94bf95169f4958bc860bddc3b"


@pytest.mark.parametrize("join", [False, True])
def test_an_attempt_is_linked_to_the_one_before(join: bool) -> None:
    again = facts_for(platform_offer(), named(FACTS | {"run_attempt": "2", "check_run_id": "26920038675"}))
    root = trace_of(again, join=join).spans[0]
    links = {link.attributes["orchestrator.link"]: (link.trace_id, link.span_id) for link in root.links}
    assert links["previous_attempt"] == (THEIRS.trace_id, "1497fe109b00d3c0"), "of the run: each attempt has new jobs"
    assert ("platform" in links) is not join


@pytest.mark.parametrize(
    ("facts", "lacking"),
    [
        (FACTS, ()),
        ({"run_id": "1"}, ("run_attempt", "check_run_id")),
        (FACTS | {"run_id": "01"}, ("run_id",)),
        (FACTS | {"run_attempt": "1t"}, ("run_attempt",)),
        ({}, ("run_id", "run_attempt", "check_run_id")),
    ],
)
def test_it_is_said_which_facts_are_missing(facts: dict[str, str], lacking: tuple[str, ...]) -> None:
    offer = dispatched("https://token.actions.githubusercontent.com", facts)
    assert missing_facts(offer) == lacking
    assert (platform_trace(offer) is None) == bool({"run_id", "run_attempt"} & set(lacking))
    root = trace_of(facts_for(offer, [])).spans[0]
    assert root.attributes.get("orchestrator.platform.trace.missing", ()) == lacking


def test_nobody_else_can_say_that_it_is_a_job_of_github() -> None:
    stranger = dispatched("https://token.actions.githubusercontent.com.evil.example", FACTS)
    assert platform_trace(stranger) is None
    assert missing_facts(stranger) == ()
    assert trace_of(facts_for(stranger, []), join=True) == trace_of(facts_for(stranger, []))


def test_a_named_job_is_linked_to_its_platforms_span() -> None:
    facts = facts_for(platform_offer(), named(FACTS))
    root = trace_of(facts).spans[0]
    assert root.trace_id == ids.trace_id(platform_offer().key.id)
    assert [(link.trace_id, link.span_id, link.attributes["orchestrator.link"]) for link in root.links] == [
        (THEIRS.trace_id, THEIRS.span_id, "platform")
    ]
    assert trace_of(facts_for(platform_offer(), stories.TO_WORK)).spans[0].links == ()  # not named yet


def test_joined_it_is_below_that_span_and_otherwise_the_same() -> None:
    facts = facts_for(platform_offer(), named(FACTS))
    own, joined = trace_of(facts), trace_of(facts, join=True)
    assert {span.trace_id for span in joined.spans} == {event.trace_id for event in joined.events} == {THEIRS.trace_id}
    assert joined.spans[0].parent_span_id == THEIRS.span_id
    assert joined.spans[0].links == ()
    assert joined.spans[0].attributes["orchestrator.trace.id"] == own.spans[0].trace_id
    assert [replace(span, trace_id="") for span in joined.spans[1:]] == [
        replace(span, trace_id="") for span in own.spans[1:]
    ]
    assert [event.uid for event in joined.events] == [event.uid for event in own.events]
    document = trace_document(facts, join=True)
    assert (document["trace_id"], document["spans"][0]["parent_span_id"]) == (THEIRS.trace_id, THEIRS.span_id)


def test_no_span_of_ours_has_an_id_of_the_receivers() -> None:
    assert not TAKEN & set(own_span_ids(platform_offer().key.id))


def test_a_job_is_handed_the_trace_in_which_its_spans_will_be() -> None:
    job = platform_offer()
    assert sent_traceparent(job) == ids.traceparent(job.key.id)
    known = replace(job, caller=Caller("https://platform.example", "s", FACTS))
    assert sent_trace_id(known) == THEIRS.trace_id
    assert sent_traceparent(known).split("-")[1:3] == [THEIRS.trace_id, ids.span_id(job.key.id, ids.EXECUTE)]
