"""A job's record is the fold of its facts, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model import events as e
from orchestrator.model.decision import Obligations
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import IllegalMoveError, Phase
from orchestrator.model.record import MissingOfferError, Record, apply, begin, fold
from orchestrator.testing import stories
from orchestrator.testing.stories import ADMITTED, BOUND, CREATED, DELETED, FINISHED, MS, RUNNER, STARTED, T0

OFFER = stories.offer()
FULL = e.JobWaited(e.WaitReason.POOL_FULL, "full")
DONE = stories.end(Result.SUCCESS, EndReason.COMPLETED, 0)


def record(*steps: e.Event) -> Record:
    return fold(stories.facts_for(OFFER, steps))


def at(place: int) -> int:
    """When the event at this place (the offer is 0) happened."""
    return T0 + place * 10 * MS


def test_a_job_begins_with_its_offer():
    begun = record()
    assert (begun.id, begun.phase, begun.offered_at_ns, begun.phase_since_ns) == (OFFER.key.id, Phase.QUEUED, T0, T0)
    for facts in ([], [e.Fact(OFFER.key.id, T0, ADMITTED)]):
        with pytest.raises(MissingOfferError):
            fold(facts)


def test_each_fact_leaves_its_mark():
    decided = e.JobAdmitted(replace(stories.decision(), obligations=Obligations(max_duration_seconds=5)))
    waiting = record(decided, FULL)
    assert (waiting.phase, waiting.admitted_at_ns, waiting.phase_since_ns) == (Phase.WAITING, at(1), at(1))
    assert waiting.obligations.max_duration_seconds == 5
    assert waiting.wait == FULL

    started = record(ADMITTED, FULL, replace(STARTED, backend="memory", number=2))
    assert (started.runner, started.backend, started.runner_number, started.wait) == (RUNNER, "memory", 2, None)
    assert (started.phase, started.phase_since_ns) == (Phase.PROVISIONING, at(3))

    made = record(ADMITTED, STARTED, CREATED)
    assert (made.phase, made.runner_uid, made.bound_uid, made.live) == (Phase.BINDING, "uid-1", "", False)

    bound = record(ADMITTED, STARTED, CREATED, BOUND)
    assert (bound.phase, bound.bound_uid, bound.bound_at_ns, bound.live) == (Phase.RUNNING, "uid-1", at(4), True)

    ended = record(ADMITTED, STARTED, CREATED, BOUND, DONE)
    assert (ended.outcome, ended.ended_at_ns, ended.live) == (DONE.outcome, at(5), False)
    assert (ended.phase, ended.deletion_accepted, ended.finished_at_ns) == (Phase.TEARDOWN, False, 0)

    gone = record(ADMITTED, STARTED, CREATED, BOUND, DONE, DELETED, FINISHED)
    assert (gone.phase, gone.deletion_accepted, gone.finished_at_ns) == (Phase.FINISHED, True, at(7))
    assert gone.bound_uid == "uid-1"


def test_notes_do_not_move_the_phase_nor_its_beginning():
    before = record(ADMITTED, STARTED, CREATED, BOUND)
    for note in (
        stories.EXCHANGE,
        stories.ISSUED,
        stories.DENIED_HOST,
        e.DaemonRestarted("d", T0),
        e.SpansRelayed(1, 0),
    ):
        assert apply(before, e.Fact(before.id, at(9), note)) == before


def test_a_vanished_runner_leaves_the_job_waiting_with_the_reason_and_without_a_uid():
    again = record(ADMITTED, STARTED, CREATED, e.RunnerVanished(RUNNER, "gone"))
    assert (again.phase, again.runner_uid, again.runner_number) == (Phase.WAITING, "", 1)
    assert again.wait is not None
    assert again.wait.reason is e.WaitReason.RUNNER_VANISHED


def test_the_first_cancel_stands():
    first, second = e.JobCancelRequested("alice", "why"), e.JobCancelRequested("bob")
    assert record(first, second).cancel == first


def test_only_a_stuck_teardown_counts_as_alarmed():
    assert record(e.AlarmRaised("second_claim", "")).alarmed is False
    assert record(e.AlarmRaised("teardown_stuck", "")).alarmed is True
    assert record(e.AlarmRaised("teardown_stuck", ""), e.AlarmRaised("second_claim", "")).alarmed is True


def test_a_claim_that_overtook_the_create_call_stays_bound_to_its_runner():
    overtaken = record(ADMITTED, STARTED, BOUND, CREATED)
    assert (overtaken.phase, overtaken.bound_uid, overtaken.bound_at_ns) == (Phase.RUNNING, "uid-1", at(3))


@pytest.mark.parametrize(
    "steps",
    [
        [STARTED],
        [ADMITTED, STARTED, ADMITTED],
        [ADMITTED, STARTED, CREATED, BOUND, BOUND],
        [ADMITTED, STARTED, CREATED, BOUND, e.RunnerVanished(RUNNER)],
        [ADMITTED, STARTED, CREATED, BOUND, STARTED],
        [DONE, DONE],
        [FINISHED],
        [DONE, FINISHED, BOUND],
    ],
)
def test_facts_that_cannot_follow_are_refused(steps: list[e.Event]):
    with pytest.raises(IllegalMoveError):
        record(*steps)


@pytest.mark.parametrize("story", list(stories.WHOLE))
def test_folding_in_two_parts_is_folding_at_once(story: str):
    facts = stories.facts_for(OFFER, stories.WHOLE[story])
    for cut in range(1, len(facts) + 1):
        halfway = fold(facts[:cut])
        for fact in facts[cut:]:
            halfway = apply(halfway, fact)
        assert halfway == fold(facts)


def test_what_is_left_of_a_compacted_job_is_finished_and_keeps_its_fingerprint():
    outcome = Outcome(Result.FAILURE, EndReason.EXIT_NONZERO, "1", 1)
    fact = e.Fact(JobId("dispatch.x.2"), 99, e.JobCompacted("build", "default", outcome, 5, 7, "print"))
    left = begin(fact)
    assert (left.id, left.phase, left.outcome, left.offer.fingerprint) == (
        "dispatch.x.2", Phase.FINISHED, outcome, "print",
    )  # fmt: skip
    assert (left.offered_at_ns, left.finished_at_ns, left.live) == (5, 7, False)


ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_the_first_word_about_what_is_deployed_counts():
    bound = (ADMITTED, STARTED, CREATED, BOUND)
    assert record(*bound).offer.spec.artifact_digest == ""
    named = record(*bound, e.ArtifactNamed(ONE))
    assert named.offer == replace(OFFER, spec=replace(OFFER.spec, artifact_digest=ONE))
    assert (named.phase, named.live, named.phase_since_ns) == (Phase.RUNNING, True, at(4))
    assert record(*bound, e.ArtifactNamed(ONE), e.ArtifactNamed(OTHER)).offer == named.offer


def test_what_was_dispatched_goes_before_the_jobs_word():
    offer = stories.offer(artifact_digest=ONE)
    steps = (ADMITTED, STARTED, CREATED, BOUND, e.ArtifactNamed(OTHER))
    assert fold(stories.facts_for(offer, steps)).offer == offer


def test_a_platforms_job_keeps_what_it_said():
    steps = (ADMITTED, STARTED, CREATED, BOUND, stories.NAMED, e.ArtifactNamed(ONE), stories.COMPLETED)
    found = fold(stories.facts_for(stories.platform_offer(), steps))
    assert (found.offer.spec.artifact_digest, found.offer.spec.name) == (ONE, stories.PLATFORM_JOB.name)
