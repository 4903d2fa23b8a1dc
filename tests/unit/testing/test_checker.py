"""The judge itself: a planted breach of each promise is found, and a good history is not blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model import events as e
from orchestrator.model.job import JobId, JobKey, JobOffer
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.runner import RunnerName
from orchestrator.testing import stories
from orchestrator.testing.checker import World, broken_promises
from orchestrator.testing.stories import ADMITTED, BOUND, CREATED, DELETED, FINISHED, RUNNER, STARTED

OFFER = stories.offer()
ID = OFFER.key.id
DONE = stories.end(Result.SUCCESS, EndReason.COMPLETED, 0)
TO_WORK: list[e.Event] = [ADMITTED, STARTED, CREATED, BOUND]
WAITED = e.JobWaited(e.WaitReason.POOL_FULL, "full")


def verdict(steps: list[e.Event], *, at_rest: bool = True, **world) -> list[str]:
    return broken_promises(World(**world), {ID: stories.facts_for(OFFER, steps)}, at_rest=at_rest)


def only(problems: list[str], promise: str) -> str:
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{promise}: ")
    return problems[0]


@pytest.mark.parametrize("story", list(stories.WHOLE))
def test_whole_jobs_keep_every_promise(story: str):
    bound = any(isinstance(event, e.RunnerBound) for event in stories.WHOLE[story])
    given = [(ID, "uid-1")] if bound else []
    uses = [(ID, stories.T0)] if bound else []
    assert verdict(stories.WHOLE[story], accepted=[ID], handed_out=given, identity_uses=uses) == []


def test_p1_an_acknowledged_job_that_is_nowhere():
    assert "not in the journal" in only(broken_promises(World(accepted=[JobId("s.gone.1")]), {}), "P1")


def test_p1_waiting_without_a_reason():
    assert "without a reason" in only(verdict([ADMITTED], accepted=[ID]), "P1")
    assert verdict([ADMITTED, WAITED], accepted=[ID]) == []


def test_p1_finished_without_an_outcome_contradicts_itself():
    assert "contradict" in only(verdict([FINISHED], accepted=[ID]), "P1")


@pytest.mark.parametrize("steps", [[], [ADMITTED, STARTED], [ADMITTED, STARTED, CREATED], [*TO_WORK, DONE]])
def test_p1_stuck_when_everything_is_at_rest(steps: list[e.Event]):
    assert "stuck" in only(verdict(steps, accepted=[ID]), "P1")
    assert verdict(steps, accepted=[ID], at_rest=False) == []


@pytest.mark.parametrize("reason", [EndReason.EXITED_BEFORE_CLAIM, EndReason.BIND_TIMEOUT, EndReason.PROVISION_FAILED])
def test_p1_a_job_that_had_its_work_is_not_reported_as_one_that_had_not(reason: EndReason):
    steps = [*TO_WORK, stories.end(Result.ERROR, reason), DELETED, FINISHED]
    assert reason.value in only(verdict(steps, accepted=[ID]), "P1")


def test_p1_facts_that_contradict_each_other_are_a_finding_and_no_crash():
    assert "contradict" in verdict([FINISHED, BOUND])[0]
    assert "contradict" in only(broken_promises(World(), {ID: [e.Fact(ID, 1, ADMITTED, 1)]}), "P1")


def test_p2_work_handed_out_twice():
    same = verdict(TO_WORK, handed_out=[(ID, "uid-1"), (ID, "uid-1")])
    assert "2 times, to 1 runners" in only(same, "P2")
    two = verdict(TO_WORK, handed_out=[(ID, "uid-1"), (ID, "uid-2")])
    assert any("to 2 runners" in problem for problem in two)


def test_p2_work_that_went_to_a_runner_that_is_not_the_bound_one():
    assert "bound to uid-1" in only(verdict(TO_WORK, handed_out=[(ID, "uid-2")]), "P2")
    assert "bound to none" in only(
        verdict([ADMITTED, STARTED, CREATED], handed_out=[(ID, "uid-1")], at_rest=False), "P2"
    )


def test_p2_two_bindings_and_a_new_runner_after_the_work_was_given():
    assert any("bound 2 times" in problem for problem in verdict([*TO_WORK, BOUND]))
    assert any("new runner" in problem for problem in verdict([*TO_WORK, STARTED]))


def test_p3_a_runner_left_behind():
    left = verdict([*TO_WORK, DONE, DELETED, FINISHED], remaining=[RUNNER])
    assert "left behind" in only(left, "P3")
    assert only(broken_promises(World(remaining=[RunnerName("orphan")]), {}), "P3")
    assert verdict(TO_WORK, remaining=[RUNNER]) == []
    assert verdict([*TO_WORK, DONE, DELETED, FINISHED], remaining=[RUNNER], at_rest=False) == []


def test_p4_identity_used_after_the_end_or_without_a_binding():
    ended_at = stories.facts_for(OFFER, [*TO_WORK, DONE])[-1].at_ns
    steps = [*TO_WORK, DONE, DELETED, FINISHED]
    assert verdict(steps, identity_uses=[(ID, ended_at)]) == []
    assert "1 ns after its end" in only(verdict(steps, identity_uses=[(ID, ended_at + 1)]), "P4")
    assert "never bound" in only(verdict([ADMITTED, WAITED], identity_uses=[(ID, ended_at)]), "P4")
    assert "never bound" in only(broken_promises(World(identity_uses=[(ID, 1)]), {}), "P4")


# Of jobs that their platform names.

AWAITS = stories.platform_offer()
OTHER = JobOffer(JobKey("dispatch", "43"), AWAITS.spec, AWAITS.caller)
NAMED, COMPLETED, EXITED = stories.NAMED, stories.COMPLETED, stories.EXITED


def judged(steps: list[e.Event], **world) -> list[str]:
    return broken_promises(World(**world), {ID: stories.facts_for(AWAITS, steps)})


@pytest.mark.parametrize("story", list(stories.PLATFORM))
def test_whole_jobs_that_a_platform_named_keep_every_promise(story: str):
    steps = stories.PLATFORM[story]
    facts = stories.facts_for(AWAITS, steps)
    uses = [(ID, fact.at_ns) for fact in facts if fact.event is NAMED and story != "refused"]
    assert judged(steps, accepted=[ID], handed_out=[(ID, "uid-1")], identity_uses=uses) == []


@pytest.mark.parametrize("steps", [[NAMED], [COMPLETED], [stories.NAMED_REFUSED, stories.REFUSED, COMPLETED], []])
def test_p1_a_success_that_nobody_vouches_for(steps: list[e.Event]):
    whole = [*TO_WORK, *steps, EXITED, DONE, DELETED, FINISHED]
    assert "completed" in only(judged(whole, accepted=[ID]), "P1")


def test_p2_a_platforms_job_that_two_runners_have_and_a_runner_that_has_two():
    facts = {job.key.id: stories.facts_for(job, [*TO_WORK, NAMED]) for job in (AWAITS, OTHER)}
    assert "given to 2 runners" in only(broken_promises(World(), facts), "P2")
    second = e.PlatformJobNamed(replace(stories.PLATFORM_JOB, key="another"), NAMED.decision)
    assert "named 2 times" in only(judged([*TO_WORK, NAMED, second]), "P2")


def test_p4_identity_used_before_the_name_or_in_spite_of_policy():
    named_at = stories.facts_for(AWAITS, [*TO_WORK, NAMED])[-1].at_ns
    assert judged([*TO_WORK, NAMED], identity_uses=[(ID, named_at)]) == []
    assert "before" in only(judged([*TO_WORK, NAMED], identity_uses=[(ID, named_at - 1)]), "P4")
    assert "before" in only(judged(TO_WORK, identity_uses=[(ID, named_at)]), "P4")
    refused = [*TO_WORK, stories.NAMED_REFUSED, stories.REFUSED]
    assert "policy refused" in only(judged(refused, identity_uses=[(ID, named_at)]), "P4")
