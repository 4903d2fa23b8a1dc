"""The wait for the claim, and who may have the work."""

from __future__ import annotations

from dataclasses import replace

import pytest
from records import (
    ABSENT,
    CANCEL,
    DEADLINES,
    POOL,
    PROOF,
    TO_BINDING,
    TO_PROVISIONING,
    TO_RUNNING,
    TO_TEARDOWN,
    TO_WAITING,
    after,
    asks,
    exited,
    failure,
    outcome,
    record,
    told,
    view,
)  # fmt: skip

from orchestrator.lifecycle.backoff import backoff_ns
from orchestrator.lifecycle.bind import Refusal, judge_claim
from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.observation import SECOND, Action, Step
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model import events as e
from orchestrator.model.egress import EgressProof
from orchestrator.model.journey import RunnerStage, StageBegan, TimeSource
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.runner import ExitCause, RunnerState
from orchestrator.testing import stories

BINDING = record(*TO_BINDING)
ME = RunnerIdentity(stories.RUNNER, "uid-1")


def test_the_runner_is_looked_at_and_then_waited_for():
    assert asks(decide(BINDING, after(BINDING, 0), DEADLINES)) is Action.LOOK_AT_RUNNER
    step = decide(BINDING, after(BINDING, 1, runner=view()), DEADLINES)
    assert step == Step(wake_ns=BINDING.phase_since_ns + 40 * SECOND)


@pytest.mark.parametrize("seen", [ABSENT, view(uid="another"), view(RunnerState.EXITED, uid="another", exit_code=0)])
def test_a_runner_that_is_gone_or_another_one_has_vanished(seen):
    (vanished,) = decide(BINDING, after(BINDING, 1, runner=seen), DEADLINES).facts
    assert isinstance(vanished, e.RunnerVanished)


def test_a_runner_that_ended_before_its_claim_is_told_with_its_cause():
    step = decide(BINDING, after(BINDING, 1, runner=exited(3, detail="no python")), DEADLINES)
    assert told(step) == (Result.ERROR, EndReason.EXITED_BEFORE_CLAIM)
    assert "exit code 3). no python" in outcome(step).message
    assert outcome(step).exit_code is None, "the job itself never ran"
    step = decide(BINDING, after(BINDING, 1, runner=exited(137, ExitCause.OUT_OF_MEMORY)), DEADLINES)
    assert told(step) == (Result.ERROR, EndReason.OUT_OF_MEMORY)


def test_the_wait_for_the_claim_has_an_end():
    assert decide(BINDING, after(BINDING, 39.9, runner=view()), DEADLINES).facts == ()
    step = decide(BINDING, after(BINDING, 40, runner=view()), DEADLINES)
    assert told(step) == (Result.TIMEOUT, EndReason.BIND_TIMEOUT)
    blind = decide(BINDING, after(BINDING, 40, failure=failure(), failures=2), DEADLINES)
    assert told(blind) == (Result.TIMEOUT, EndReason.BIND_TIMEOUT)


def test_a_look_that_fails_decides_nothing_and_is_tried_again():
    for transient in (True, False):
        seen = after(BINDING, 1, failure=failure(transient=transient), failures=3)
        assert decide(BINDING, seen, DEADLINES) == Step(wake_ns=seen.now_ns + backoff_ns(3))


def test_a_cancel_goes_before_everything_else():
    job = record(*TO_BINDING, CANCEL)
    assert told(decide(job, after(job, 1, runner=exited(3)), DEADLINES)) == (
        Result.CANCELLATION,
        EndReason.CANCELLED,
    )


def test_the_runner_with_proof_is_bound():
    assert judge_claim(BINDING, POOL, ME, PROOF) == e.RunnerBound(stories.RUNNER, "uid-1", PROOF)


def test_a_claim_may_overtake_the_create_calls_return():
    early = record(*TO_PROVISIONING)
    assert judge_claim(early, POOL, ME, PROOF).uid == "uid-1"


def refused(job, identity=ME, proof=PROOF, pool=POOL) -> Refusal:
    with pytest.raises(Refusal) as caught:
        judge_claim(job, pool, identity, proof)
    return caught.value


@pytest.mark.parametrize("steps", [TO_RUNNING, TO_TEARDOWN], ids=["running", "ended"])
@pytest.mark.parametrize("uid", ["uid-1", "another"])
def test_work_is_never_handed_out_twice(steps, uid):
    refusal = refused(record(*steps), RunnerIdentity(stories.RUNNER, uid))
    assert refusal.reason == "already_bound"
    (alarm,) = refusal.facts
    assert isinstance(alarm, e.AlarmRaised)
    assert alarm.alarm == "second_claim"


def test_nothing_is_handed_out_after_the_end_or_a_cancel():
    never_bound = record(*TO_BINDING, stories.end(Result.TIMEOUT, EndReason.BIND_TIMEOUT))
    for job in (record(*TO_BINDING, CANCEL), never_bound):
        assert (refused(job).reason, refused(job).facts) == ("job_ended", ())


def test_only_the_jobs_own_runner_may_claim():
    for steps in ([], TO_WAITING):
        assert refused(record(*steps)).reason == "runner_unknown"
    assert refused(BINDING, RunnerIdentity("another-runner", "uid-1")).reason == "runner_unknown"
    foreign = refused(BINDING, RunnerIdentity(stories.RUNNER, "another"))
    assert foreign.reason == "runner_unknown"
    assert [fact.alarm for fact in foreign.facts if isinstance(fact, e.AlarmRaised)] == ["foreign_runner"]


@pytest.mark.parametrize(
    "proof", [EgressProof(), EgressProof(reached=("metadata",)), EgressProof(denied=("dns",), reached=("metadata",))]
)
def test_without_proof_the_job_ends_where_the_pool_demands_it(proof):
    for pool in (POOL, None):
        refusal = refused(BINDING, proof=proof, pool=pool)
        assert refusal.reason == "egress_unproven"
        (end,) = refusal.facts
        assert isinstance(end, e.JobEnded)
        assert end.outcome.reason is EndReason.EGRESS_UNPROVEN
    lenient = replace(POOL, require_egress_proof=False)
    assert judge_claim(BINDING, lenient, ME, proof).proof == proof


def test_when_a_proof_that_failed_was_tried_goes_on_record_before_the_end():
    tried = EgressProof((), ("tcp:192.0.2.1:80",), 36, 37, 39)
    note, end = refused(BINDING, proof=tried, pool=POOL).facts
    assert isinstance(end, e.JobEnded)
    assert note == e.RunnerObserved(
        ME.name,
        ME.uid,
        (StageBegan(RunnerStage.START, 36, TimeSource.AGENT), StageBegan(RunnerStage.PROVE, 37, TimeSource.AGENT)),
    )
