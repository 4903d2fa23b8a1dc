"""Each cause and each obstacle of a runner reaches the job's outcome with its own reason and a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from records import (
    DEADLINES,
    TO_BINDING,
    TO_PROVISIONING,
    TO_RUNNING,
    after,
    asks,
    exited,
    failure,
    outcome,
    record,
    told,
    view,
)  # fmt: skip

from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.observation import SECOND, Action, Step
from orchestrator.model import events as e
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.runner import ExitCause, Obstacle, Pending, RunnerState
from orchestrator.testing import stories

BINDING, RUNNING, PROVISIONING = record(*TO_BINDING), record(*TO_RUNNING), record(*TO_PROVISIONING)

CAUSES = {
    ExitCause.EVICTED: EndReason.RUNNER_EVICTED,
    ExitCause.PREEMPTED: EndReason.RUNNER_PREEMPTED,
    ExitCause.NODE_LOST: EndReason.NODE_LOST,
    ExitCause.DELETED: EndReason.RUNNER_DELETED,
    ExitCause.START_FAILED: EndReason.RUNNER_START_FAILED,
    ExitCause.AGENT_FAILED: EndReason.AGENT_FAILED,
}


@pytest.mark.parametrize("job", [BINDING, RUNNING], ids=["before", "with the work"])
@pytest.mark.parametrize(("cause", "reason"), CAUSES.items())
def test_what_happened_to_the_runner_is_the_reason(job, cause, reason):
    step = decide(job, after(job, 1, runner=exited(None, cause, detail="the machine said so.")), DEADLINES)
    assert told(step) == (Result.ERROR, reason)
    assert outcome(step).message.endswith("the machine said so.")
    if cause is not ExitCause.AGENT_FAILED:
        assert ("user code may have run" in outcome(step).message) == (job is RUNNING)


@pytest.mark.parametrize("job", [BINDING, RUNNING], ids=["before", "with the work"])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (69, "could not reach the runner API"),
        (77, "claim was refused"),
        (78, "not told what it has to know"),
        (1, "ended unexpectedly"),
        (None, "ended unexpectedly"),
    ],
)
def test_the_agents_codes_are_told_in_words(job, code, words):
    """None of them says that egress is open: that comes with a claim, and `judge_claim` ends the job."""
    step = decide(job, after(job, 1, runner=exited(code, ExitCause.AGENT_FAILED)), DEADLINES)
    assert outcome(step).reason is EndReason.AGENT_FAILED
    assert words in outcome(step).message


def test_a_backends_own_deadline_before_the_claim_is_a_timeout():
    step = decide(BINDING, after(BINDING, 1, runner=exited(143, ExitCause.DEADLINE)), DEADLINES)
    assert told(step) == (Result.TIMEOUT, EndReason.BIND_TIMEOUT)


def test_the_end_of_a_runner_that_is_gone_counts_if_it_was_seen():
    gone = view(RunnerState.ABSENT, exit_code=0, cause=ExitCause.EXITED)
    assert told(decide(RUNNING, after(RUNNING, 1, runner=gone), DEADLINES)) == (Result.SUCCESS, EndReason.COMPLETED)
    other = replace(gone, uid="another")
    assert told(decide(RUNNING, after(RUNNING, 1, runner=other), DEADLINES))[1] is EndReason.RUNNER_LOST
    # Before the work, a runner that is gone is replaced whatever became of it.
    step = decide(BINDING, after(BINDING, 1, runner=gone), DEADLINES)
    assert isinstance(step.facts[0], e.RunnerVanished)


OBSTACLES = {
    Obstacle.UNSCHEDULABLE: (e.WaitReason.UNSCHEDULABLE, EndReason.UNSCHEDULABLE),
    Obstacle.IMAGE_PULL: (e.WaitReason.IMAGE_PULL, EndReason.IMAGE_PULL_FAILED),
    Obstacle.START_FAILING: (e.WaitReason.START_FAILING, EndReason.RUNNER_START_FAILED),
}


def hindered(obstacle, since_ns, limit: float = 300, detail="0/3 nodes"):
    return view(pending=Pending(obstacle, detail, since_ns, int(limit * SECOND)))


@pytest.mark.parametrize(("obstacle", "words"), OBSTACLES.items())
@pytest.mark.parametrize("facts", [TO_BINDING, TO_RUNNING], ids=["before", "with the work"])
def test_an_obstacle_is_a_stated_wait_for_as_long_as_it_may_stand(facts, obstacle, words):
    job = record(*facts)
    if job.bound_uid and obstacle is Obstacle.UNSCHEDULABLE:
        # Whoever claimed the work has a machine, so this is no news of it.
        step = decide(job, after(job, 301, runner=hindered(obstacle, job.phase_since_ns)), DEADLINES)
        assert step == Step(wake_ns=job.bound_at_ns + 600 * SECOND)
        return
    since = job.phase_since_ns
    step = decide(job, after(job, 100, runner=hindered(obstacle, since)), DEADLINES)
    assert step.facts == (e.JobWaited(words[0], "0/3 nodes"),)
    waiting = record(*facts, *step.facts)
    assert waiting.wait == step.facts[0]
    # Another wording of the same obstacle is no news.
    again = decide(waiting, after(waiting, 101, runner=hindered(obstacle, since, detail="0/4 nodes")), DEADLINES)
    assert again.facts == ()
    assert again.wake_ns is not None
    late = decide(waiting, after(waiting, 301, runner=hindered(obstacle, since)), DEADLINES)
    assert told(late) == (Result.ERROR, words[1])
    assert "0/3 nodes" in outcome(late).message


def test_a_hopeless_obstacle_ends_at_once():
    step = decide(BINDING, after(BINDING, 0, runner=hindered(Obstacle.IMAGE_PULL, 0, limit=0)), DEADLINES)
    assert told(step) == (Result.ERROR, EndReason.IMAGE_PULL_FAILED)


def test_when_the_obstacle_is_gone_the_wait_is_over_and_the_agent_has_its_whole_time():
    waiting = record(*TO_BINDING, e.JobWaited(e.WaitReason.UNSCHEDULABLE, "0/3 nodes"))
    placed = waiting.phase_since_ns + 100 * SECOND
    seen = after(waiting, 101, runner=view(placed_at_ns=placed))
    step = decide(waiting, seen, DEADLINES)
    assert step.facts == (e.JobWaited(e.WaitReason.RUNNER_STARTING),)
    starting = record(*TO_BINDING, e.JobWaited(e.WaitReason.UNSCHEDULABLE, "0/3 nodes"), *step.facts)
    assert starting.wait is None
    assert decide(starting, seen, DEADLINES) == Step(wake_ns=placed + DEADLINES.bind_ns)
    late = replace(seen, now_ns=placed + DEADLINES.bind_ns)
    assert told(decide(starting, late, DEADLINES)) == (Result.TIMEOUT, EndReason.BIND_TIMEOUT)


def test_a_machine_of_the_future_gives_no_more_time():
    seen = after(BINDING, 1, runner=view(placed_at_ns=BINDING.phase_since_ns + 9999 * SECOND))
    assert decide(BINDING, seen, DEADLINES) == Step(wake_ns=seen.now_ns + DEADLINES.bind_ns)


def test_an_outage_while_an_obstacle_stands_does_not_end_the_job():
    waiting = record(*TO_BINDING, e.JobWaited(e.WaitReason.UNSCHEDULABLE))
    step = decide(waiting, after(waiting, 15, failure=failure(), failures=1), DEADLINES)
    assert step.facts == ()
    assert step.wake_ns is not None


def test_the_jobs_own_limit_holds_while_its_image_is_pulled():
    seen = after(RUNNING, 601, runner=hindered(Obstacle.IMAGE_PULL, RUNNING.phase_since_ns, limit=9999))
    assert told(decide(RUNNING, seen, DEADLINES)) == (Result.TIMEOUT, EndReason.RUN_TIMEOUT)


def test_a_bound_job_waits_no_more():
    bound = record(*TO_BINDING, e.JobWaited(e.WaitReason.IMAGE_PULL), stories.BOUND)
    assert bound.wait is None


NO_QUOTA = failure(reason="quota_exhausted", text="exceeded quota: pods, used: pods=4")


def test_a_full_quota_is_a_wait_for_capacity():
    # The capacity deadline here is 20 s, the one of provisioning 30 s.
    step = decide(PROVISIONING, after(PROVISIONING, 10, failure=NO_QUOTA, failures=1), DEADLINES)
    assert step.facts == (e.JobWaited(e.WaitReason.QUOTA_EXHAUSTED, NO_QUOTA.text),)
    waiting = record(*TO_PROVISIONING, *step.facts)
    other = failure(reason="quota_exhausted", text="exceeded quota: pods, used: pods=3")
    assert decide(waiting, after(waiting, 11, failure=other, failures=2), DEADLINES).facts == ()
    assert asks(decide(waiting, after(waiting, 12), DEADLINES)) is Action.CREATE_RUNNER
    # An outage in between does not put the other deadline back in force.
    assert decide(waiting, after(waiting, 13, failure=failure(), failures=3), DEADLINES).facts == ()
    late = decide(waiting, after(waiting, 20), DEADLINES)
    assert told(late) == (Result.TIMEOUT, EndReason.CAPACITY_TIMEOUT)
    assert NO_QUOTA.text in outcome(late).message


def test_a_longer_capacity_deadline_outlasts_provisioning():
    patient = replace(DEADLINES, capacity_ns=9999 * SECOND)
    step = decide(PROVISIONING, after(PROVISIONING, 31, failure=NO_QUOTA, failures=1), patient)
    assert step.facts == (e.JobWaited(e.WaitReason.QUOTA_EXHAUSTED, NO_QUOTA.text),)


def test_what_the_cluster_refuses_for_good_has_its_own_reason():
    refused = failure(transient=False, reason="create_refused", text="violates PodSecurity")
    step = decide(PROVISIONING, after(PROVISIONING, 1, failure=refused), DEADLINES)
    assert told(step) == (Result.ERROR, EndReason.CREATE_REFUSED)
    assert "violates PodSecurity" in outcome(step).message


def test_a_pod_that_somebody_changed_ends_the_job_with_an_alarm():
    changed = failure(transient=False, reason="pod_changed", text="changed: spec.containers")
    step = decide(PROVISIONING, after(PROVISIONING, 1, failure=changed), DEADLINES)
    assert told(step) == (Result.ERROR, EndReason.POD_CHANGED)
    assert step.facts[0] == e.AlarmRaised("pod_changed", "changed: spec.containers")
    assert "spec.containers" in outcome(step).message


def test_the_other_sides_wish_to_wait_is_kept_within_bounds():
    wish = replace(failure(), wait_ns=7 * SECOND)
    seen = after(PROVISIONING, 1, failure=wish, failures=1)
    assert decide(PROVISIONING, seen, DEADLINES).wake_ns == seen.now_ns + 7 * SECOND
    endless = replace(wish, wait_ns=10**6 * SECOND)
    step = decide(PROVISIONING, replace(seen, failure=endless), DEADLINES)
    assert step.wake_ns == PROVISIONING.phase_since_ns + DEADLINES.provision_ns
