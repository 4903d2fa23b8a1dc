"""A runner whose job its platform names: nothing is believed before it is named, and no exit is taken for success."""

from __future__ import annotations

from dataclasses import replace

import pytest
from records import (
    ABSENT,
    CANCEL,
    DEADLINES,
    POOL,
    TO_BINDING,
    TO_RUNNING,
    after,
    asks,
    exited,
    failure,
    outcome,
    told,
    view,
)
from records import record as ordinary

from orchestrator.lifecycle.backoff import backoff_ns
from orchestrator.lifecycle.bind import Refusal
from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.observation import SECOND, Action, Step
from orchestrator.lifecycle.platform import judge_naming
from orchestrator.lifecycle.provision import runner_spec
from orchestrator.model import events as e
from orchestrator.model.decision import CONFIGURATION, Obligations, Stage, Verdict
from orchestrator.model.egress import EgressRule
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.platform import PlatformResult
from orchestrator.model.record import Record
from orchestrator.model.runner import ExitCause, Obstacle, Pending, RunnerState
from orchestrator.testing import stories
from orchestrator.testing.stories import COMPLETED, EXITED, NAMED, NAMED_REFUSED, PLATFORM_JOB, REFUSED

PLATFORM, REGISTRY = EgressRule("platform.example"), EgressRule("registry.example")


def record(*steps: e.Event) -> Record:
    return ordinary(*steps, the_offer=stories.platform_offer())


UNNAMED = record(*TO_RUNNING)
HAS_JOB = record(*TO_RUNNING, NAMED)
DENIED = record(*TO_RUNNING, NAMED_REFUSED, REFUSED)


def said(word: str) -> e.PlatformJobCompleted:
    return e.PlatformJobCompleted(PlatformResult(word, "message"))


def at(job: Record, since_ns: int, seconds: float, **seen):
    return replace(after(job, 0, **seen), now_ns=since_ns + int(seconds * SECOND))


def exit_event(code: int | None = 0, cause: ExitCause | None = ExitCause.EXITED) -> e.RunnerExited:
    return e.RunnerExited(stories.RUNNER, code, cause)


# Before there is a job.


def test_a_demanded_runner_is_admitted_by_the_configuration_with_the_platforms_hosts_as_far_as_the_pool_goes():
    job = record()
    pool = replace(POOL, egress=(PLATFORM, REGISTRY))
    [admitted] = decide(job, after(job, 0, pool=pool), DEADLINES).facts
    assert isinstance(admitted, e.JobAdmitted)
    assert (admitted.decision.engine, admitted.decision.stage) == (CONFIGURATION, Stage.ADMISSION)
    assert [reason.code for reason in admitted.decision.reasons] == ["platform_demand"]
    assert admitted.decision.obligations == Obligations(egress=(PLATFORM,))
    narrow = decide(job, after(job, 0, pool=replace(POOL, egress=(REGISTRY,))), DEADLINES).facts[0]
    assert narrow.decision.obligations.egress == ()
    assert told(decide(job, after(job, 0, pool=None), DEADLINES)) == (Result.ERROR, EndReason.UNKNOWN_POOL)


def test_the_backends_own_stop_leaves_time_to_be_named():
    whole = ordinary(*TO_RUNNING)
    assert runner_spec(UNNAMED, POOL).deadline_seconds == runner_spec(whole, POOL).deadline_seconds + 3600


def test_an_idle_runner_is_looked_at_and_given_up_when_no_job_is_named_in_time():
    assert asks(decide(UNNAMED, after(UNNAMED, 0), DEADLINES)) is Action.LOOK_AT_RUNNER
    until = UNNAMED.bound_at_ns + 60 * SECOND
    assert decide(UNNAMED, after(UNNAMED, 59, runner=view()), DEADLINES) == Step(wake_ns=until)
    step = decide(UNNAMED, after(UNNAMED, 60, runner=view()), DEADLINES)
    assert told(step) == (Result.CANCELLATION, EndReason.NO_JOB)
    assert "60 s" in outcome(step).message
    assert not UNNAMED.live
    assert UNNAMED.bound


# While it runs.


def test_the_name_brings_identity_and_egress_and_the_jobs_own_time_begins():
    decision = replace(stories.decision(), obligations=Obligations(egress=(REGISTRY,), max_duration_seconds=100))
    admitted = e.JobAdmitted(replace(stories.decision(), obligations=Obligations(egress=(PLATFORM,))))
    job = record(admitted, *TO_RUNNING[1:], e.PlatformJobNamed(PLATFORM_JOB, decision))
    assert job.live
    assert job.obligations == Obligations(egress=(PLATFORM, REGISTRY), max_duration_seconds=100)
    assert (job.offer.caller, job.offer.spec.name, job.offer.spec.pipeline) == (
        PLATFORM_JOB.caller,
        "unit tests",
        "ci.yml",
    )
    assert (job.id, job.offer.spec.awaits_platform_job) == (UNNAMED.id, True)
    assert job.began_at_ns == job.named_at_ns > job.bound_at_ns
    assert decide(job, at(job, job.named_at_ns, 99, runner=view()), DEADLINES).facts == ()
    assert told(decide(job, at(job, job.named_at_ns, 100, runner=view()), DEADLINES))[1] is EndReason.RUN_TIMEOUT


def test_a_named_job_whose_pool_is_gone_runs_on():
    assert decide(HAS_JOB, after(HAS_JOB, 601, pool=None, runner=view()), DEADLINES).facts == ()


def test_a_refused_job_may_show_the_reason_and_no_more():
    assert not DENIED.live
    assert DENIED.obligations == UNNAMED.obligations
    assert DENIED.offer.caller == PLATFORM_JOB.caller
    until = DENIED.platform.refused_at_ns + 7 * SECOND
    assert decide(DENIED, at(DENIED, until, -1, runner=view()), DEADLINES) == Step(wake_ns=until)
    for seen in (at(DENIED, until, 0, runner=view()), at(DENIED, until, 0, failure=failure())):
        step = decide(DENIED, seen, DEADLINES)
        assert told(step) == (Result.DENIED, EndReason.POLICY_DENIED)
        assert "protected_branch" in outcome(step).message


@pytest.mark.parametrize(
    ("verdict", "told_as"),
    [
        (Verdict.UNDEFINED, (Result.DENIED, EndReason.POLICY_UNDEFINED)),
        (Verdict.ERROR, (Result.ERROR, EndReason.POLICY_ERROR)),
        (Verdict.DENY, (Result.DENIED, EndReason.POLICY_DENIED)),
    ],
)
def test_a_refused_job_ends_with_its_runner_whatever_the_platform_says(verdict, told_as):
    decision = stories.decision(verdict)
    job = record(*TO_RUNNING, e.PlatformJobNamed(PLATFORM_JOB, decision), COMPLETED)
    first = decide(job, after(job, 1, runner=exited(0)), DEADLINES)
    assert first.facts == (exit_event(),)
    job = record(*TO_RUNNING, e.PlatformJobNamed(PLATFORM_JOB, decision), COMPLETED, EXITED)
    assert told(decide(job, after(job, 1), DEADLINES)) == told_as


def test_only_the_first_name_stands():
    other = e.PlatformJobNamed(replace(PLATFORM_JOB, key="another"), stories.decision())
    assert record(*TO_RUNNING, NAMED, other).platform_key == PLATFORM_JOB.key
    assert not record(*TO_RUNNING, NAMED_REFUSED, REFUSED, other).live


def test_a_look_that_fails_decides_nothing_and_is_tried_again():
    seen = after(HAS_JOB, 1, failure=failure(), failures=4)
    assert decide(HAS_JOB, seen, DEADLINES) == Step(wake_ns=seen.now_ns + backoff_ns(4))


def test_an_image_that_cannot_be_pulled_is_told():
    pending = Pending(Obstacle.IMAGE_PULL, "no such image", UNNAMED.bound_at_ns, 5 * SECOND)
    [waited] = decide(UNNAMED, after(UNNAMED, 1, runner=view(pending=pending)), DEADLINES).facts
    assert waited == e.JobWaited(e.WaitReason.IMAGE_PULL, "no such image")
    step = decide(UNNAMED, after(UNNAMED, 6, runner=view(pending=pending)), DEADLINES)
    assert told(step)[1] is EndReason.IMAGE_PULL_FAILED


def test_a_cancelled_job_is_ended_whatever_its_runner_does():
    for steps in ((), (NAMED,), (NAMED, EXITED), (NAMED_REFUSED, REFUSED)):
        job = record(*TO_RUNNING, *steps, CANCEL)
        assert told(decide(job, after(job, 1, runner=view()), DEADLINES)) == (Result.CANCELLATION, EndReason.CANCELLED)


# The end.


@pytest.mark.parametrize(
    ("seen", "noted"),
    [
        (exited(0), exit_event()),
        (exited(7), exit_event(7)),
        (exited(137, ExitCause.OUT_OF_MEMORY), exit_event(137, ExitCause.OUT_OF_MEMORY)),
        (ABSENT, exit_event(None, ExitCause.LOST)),
        (view(uid="another"), exit_event(None, ExitCause.LOST)),
        (view(RunnerState.ABSENT, exit_code=0, cause=ExitCause.EXITED), exit_event()),
    ],
)
def test_the_runners_end_is_noted_before_anything_is_made_of_it(seen, noted):
    step = decide(HAS_JOB, after(HAS_JOB, 1, runner=seen), DEADLINES)
    assert step == Step(facts=(noted,))
    ended = record(*TO_RUNNING, NAMED, noted)
    assert not ended.live
    assert ended.platform.exit.uid == "uid-1"


@pytest.mark.parametrize(
    ("word", "result", "reason"),
    [
        ("succeeded", Result.SUCCESS, EndReason.COMPLETED),
        ("success", Result.SUCCESS, EndReason.COMPLETED),
        ("failed", Result.FAILURE, EndReason.JOB_FAILED),
        ("abandoned", Result.FAILURE, EndReason.JOB_FAILED),
        ("", Result.FAILURE, EndReason.JOB_FAILED),
        ("canceled", Result.CANCELLATION, EndReason.CANCELLED),
        ("cancelled", Result.CANCELLATION, EndReason.CANCELLED),
    ],
)
def test_the_platforms_word_and_the_runners_end_together_end_the_job(word, result, reason):
    for steps in ((said(word), exit_event(0)), (exit_event(0), said(word))):
        job = record(*TO_RUNNING, NAMED, *steps)
        assert told(decide(job, after(job, 1), DEADLINES)) == (result, reason)
    for cause in ExitCause:  # what the runner did afterwards changes nothing
        job = record(*TO_RUNNING, NAMED, said(word), exit_event(1, cause))
        assert told(decide(job, after(job, 1), DEADLINES)) == (result, reason)


def test_the_first_word_of_the_platform_counts():
    job = record(*TO_RUNNING, NAMED, said("failed"), said("succeeded"), EXITED)
    assert told(decide(job, after(job, 1), DEADLINES))[1] is EndReason.JOB_FAILED


def test_exit_0_proves_nothing():
    job = record(*TO_RUNNING, NAMED, EXITED)
    until = job.platform.exited_at_ns + 8 * SECOND
    assert decide(job, at(job, until, -1, runner=exited()), DEADLINES) == Step(wake_ns=until)
    step = decide(job, at(job, until, 0), DEADLINES)
    assert told(step) == (Result.ERROR, EndReason.COMPLETION_UNSEEN)
    assert outcome(step).exit_code == 0


def test_the_identity_ends_with_the_platforms_word_though_the_runner_goes_on():
    assert HAS_JOB.live
    assert not record(*TO_RUNNING, NAMED, COMPLETED).live
    assert not record(*TO_RUNNING, COMPLETED, NAMED).live


def test_a_runner_that_outlives_its_job_is_ended_with_an_alarm():
    job = record(*TO_RUNNING, NAMED, COMPLETED)
    until = job.platform.completed_at_ns + 8 * SECOND
    assert decide(job, at(job, until, -1, runner=view()), DEADLINES) == Step(wake_ns=until)
    step = decide(job, at(job, until, 0, runner=view()), DEADLINES)
    assert [type(fact) for fact in step.facts] == [e.AlarmRaised, e.JobEnded]
    assert step.facts[0].alarm == "runner_outlived_job"
    assert told(step) == (Result.SUCCESS, EndReason.COMPLETED)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (ExitCause.EVICTED, EndReason.RUNNER_EVICTED),
        (ExitCause.PREEMPTED, EndReason.RUNNER_PREEMPTED),
        (ExitCause.NODE_LOST, EndReason.NODE_LOST),
        (ExitCause.DELETED, EndReason.RUNNER_DELETED),
        (ExitCause.OUT_OF_MEMORY, EndReason.OUT_OF_MEMORY),
        (ExitCause.DEADLINE, EndReason.RUN_TIMEOUT),
        (ExitCause.AGENT_FAILED, EndReason.AGENT_FAILED),
        (ExitCause.START_FAILED, EndReason.RUNNER_START_FAILED),
    ],
)
def test_a_cause_that_speaks_for_itself_waits_for_nobody(cause, reason):
    for steps in ((), (NAMED,)):
        job = record(*TO_RUNNING, *steps, exit_event(1, cause))
        assert told(decide(job, after(job, 1), DEADLINES))[1] is reason


def test_a_lost_runner_waits_for_the_platforms_word_and_is_lost_without_it():
    job = record(*TO_RUNNING, NAMED, exit_event(None, ExitCause.LOST))
    until = job.platform.exited_at_ns + 8 * SECOND
    assert decide(job, at(job, until, -1, runner=ABSENT), DEADLINES) == Step(wake_ns=until, vacant=True)
    assert told(decide(job, at(job, until, 0), DEADLINES)) == (Result.ERROR, EndReason.RUNNER_LOST)


@pytest.mark.parametrize("cause", [ExitCause.LOST, ExitCause.EXITED, ExitCause.SIGNALLED, None])
def test_a_place_is_free_when_a_look_finds_nothing_of_the_runner_whatever_its_end_was(cause):
    job = record(*TO_RUNNING, NAMED, exit_event(None, cause))
    until = job.platform.exited_at_ns + 8 * SECOND
    assert decide(job, at(job, until, -1), DEADLINES) == Step(action=Action.LOOK_AT_RUNNER, wake_ns=until)
    for seen, vacant in ((ABSENT, True), (exited(), False), (view(), False), (view(uid="another"), False)):
        assert decide(job, at(job, until, -1, runner=seen), DEADLINES) == Step(wake_ns=until, vacant=vacant)


def test_a_place_is_not_free_while_nobody_can_look():
    job = record(*TO_RUNNING, NAMED, exit_event(None, ExitCause.LOST))
    until = job.platform.exited_at_ns + 8 * SECOND
    seen = at(job, until, -1, failure=failure(), failures=3)
    assert decide(job, seen, DEADLINES) == Step(wake_ns=seen.now_ns + backoff_ns(3))
    late = at(job, until, -0.01, failure=failure(), failures=30)
    assert decide(job, late, DEADLINES).wake_ns <= until + SECOND // 20, "the deadline is noticed"


@pytest.mark.parametrize(
    ("steps", "told_as"),
    [
        ((exit_event(0),), (Result.CANCELLATION, EndReason.NO_JOB)),
        ((exit_event(7),), (Result.ERROR, EndReason.EXIT_NONZERO)),
        ((exit_event(143, ExitCause.SIGNALLED),), (Result.ERROR, EndReason.EXIT_NONZERO)),
        ((exit_event(0), said("succeeded")), (Result.ERROR, EndReason.JOB_UNNAMED)),
        ((said("failed"), exit_event(0)), (Result.ERROR, EndReason.JOB_UNNAMED)),
        ((said("canceled"), exit_event(0)), (Result.CANCELLATION, EndReason.CANCELLED)),
    ],
)
def test_the_name_may_come_after_the_runners_end_and_without_it_nobody_vouches_for_a_success(steps, told_as):
    job = record(*TO_RUNNING, *steps)
    until = job.platform.exited_at_ns + 8 * SECOND
    assert decide(job, at(job, until, -1, runner=exited()), DEADLINES) == Step(wake_ns=until)
    assert told(decide(job, at(job, until, 0), DEADLINES)) == told_as
    late = record(*TO_RUNNING, *steps, NAMED)
    assert not late.live


# Who may name what.


def verdict(job: Record, holder: str | None = None) -> Refusal:
    with pytest.raises(Refusal) as refused:
        judge_naming(job, PLATFORM_JOB, JobId(holder) if holder else None)
    return refused.value


def test_a_bound_runner_without_a_job_may_be_given_one_and_has_it_then():
    assert judge_naming(UNNAMED, PLATFORM_JOB, None) is False
    assert judge_naming(HAS_JOB, PLATFORM_JOB, HAS_JOB.id) is True
    assert judge_naming(DENIED, PLATFORM_JOB, DENIED.id) is True


def test_whoever_cannot_have_a_job_is_told_why():
    assert verdict(ordinary(*TO_RUNNING)).reason == "not_awaiting"
    assert verdict(record(*TO_RUNNING, CANCEL)).reason == "job_ended"
    assert verdict(record(*TO_RUNNING, NAMED, stories.end(Result.SUCCESS, EndReason.COMPLETED))).reason == "job_ended"
    early = verdict(record(*TO_BINDING))
    assert early.reason == "runner_unknown"
    assert [fact.alarm for fact in early.facts] == ["named_before_claim"]


@pytest.mark.parametrize("before", [(NAMED,), (NAMED_REFUSED, REFUSED)])
def test_a_second_job_for_one_runner_ends_it_with_an_alarm(before):
    job = record(*TO_RUNNING, *before)
    with pytest.raises(Refusal) as refused:
        judge_naming(job, replace(PLATFORM_JOB, key="another"), None)
    assert refused.value.reason == "second_job"
    alarm, end = refused.value.facts
    assert alarm == e.AlarmRaised("second_job", f"first {PLATFORM_JOB.key}, then another")
    assert (end.outcome.result, end.outcome.reason) == (Result.ERROR, EndReason.SECOND_JOB)


def test_a_second_runner_for_one_job_ends_with_an_alarm():
    refused = verdict(UNNAMED, "dispatch.other.1")
    alarm, end = refused.facts
    assert refused.reason == alarm.alarm == end.outcome.reason == "job_already_named"
    assert "dispatch.other.1" in alarm.detail
