"""An admitted job: a slot, a durable intent, exactly one runner, or a stated reason why not."""

from __future__ import annotations

from dataclasses import replace

from records import (
    ABSENT,
    CANCEL,
    DEADLINES,
    POOL,
    TO_BINDING,
    TO_PROVISIONING,
    TO_WAITING,
    after,
    asks,
    failure,
    outcome,
    record,
    told,
    view,
)  # fmt: skip

from orchestrator.lifecycle.backoff import backoff_ns
from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.observation import SECOND, Action, Step
from orchestrator.lifecycle.provision import MAX_RUNNERS, run_limit_seconds, runner_spec
from orchestrator.model import events as e
from orchestrator.model.decision import Obligations
from orchestrator.model.egress import EgressRule
from orchestrator.model.outcome import EndReason, Result
from orchestrator.testing import stories

WAITING = record(*TO_WAITING)
PROVISIONING = record(*TO_PROVISIONING)
VANISHED = e.RunnerVanished(stories.RUNNER, "gone")
FULL = e.JobWaited(e.WaitReason.POOL_FULL, "all 2 runners of pool 'default' are in use")


def test_a_slot_is_taken_first():
    assert asks(decide(WAITING, after(WAITING, 0), DEADLINES)) is Action.TAKE_SLOT


def test_with_a_slot_the_intent_is_recorded_before_anything_is_made():
    step = decide(WAITING, after(WAITING, 0, slot=True), DEADLINES)
    spec = runner_spec(WAITING, POOL)
    assert step == Step(facts=(e.ProvisionStarted(spec.name, spec.digest, 1, "memory"),))


def test_a_full_pool_is_a_reason_said_once():
    step = decide(WAITING, after(WAITING, 0, slot=False), DEADLINES)
    assert step == Step(facts=(FULL,), wake_ns=WAITING.phase_since_ns + 20 * SECOND)
    told_before = record(*TO_WAITING, FULL)
    assert decide(told_before, after(told_before, 1, slot=False), DEADLINES).facts == ()


def test_a_pool_of_one_is_told_as_one():
    seen = replace(after(WAITING, 0, slot=False), pool=replace(POOL, capacity=1))
    assert decide(WAITING, seen, DEADLINES).facts == (
        e.JobWaited(e.WaitReason.POOL_FULL, "the only runner of pool 'default' is in use"),
    )


def test_waiting_for_a_runner_has_an_end():
    assert told(decide(WAITING, after(WAITING, 20), DEADLINES)) == (Result.TIMEOUT, EndReason.CAPACITY_TIMEOUT)
    assert told(decide(WAITING, after(WAITING, 20, slot=False), DEADLINES))[1] is EndReason.CAPACITY_TIMEOUT
    assert isinstance(decide(WAITING, after(WAITING, 20, slot=True), DEADLINES).facts[0], e.ProvisionStarted)


def test_a_job_whose_runner_vanished_late_waits_anew():
    """It was admitted long ago and holds its slot: the wait for a first runner says nothing about a second."""
    again = record(*TO_BINDING, VANISHED)
    late = replace(again, admitted_at_ns=again.phase_since_ns - 3600 * SECOND)
    assert asks(decide(late, after(late, 0), DEADLINES)) is Action.TAKE_SLOT


def test_a_vanished_runner_is_replaced_under_the_next_number():
    again = record(*TO_BINDING, VANISHED)
    (started,) = decide(again, after(again, 0, slot=True), DEADLINES).facts
    assert isinstance(started, e.ProvisionStarted)
    assert (started.number, started.runner) == (2, stories.RUNNER)


def test_runners_that_keep_vanishing_end_the_job():
    steps = list(TO_BINDING)
    for number in range(2, MAX_RUNNERS + 1):
        steps += [VANISHED, replace(stories.STARTED, number=number), stories.CREATED]
    worn_out = record(*steps, VANISHED)
    assert told(decide(worn_out, after(worn_out, 0, slot=True), DEADLINES)) == (
        Result.ERROR,
        EndReason.PROVISION_FAILED,
    )


def test_a_pool_taken_out_of_the_configuration_ends_what_waits_for_it():
    for job in (WAITING, PROVISIONING):
        assert told(decide(job, after(job, 0, pool=None), DEADLINES)) == (Result.ERROR, EndReason.UNKNOWN_POOL)


def test_the_runner_is_made_and_has_until_the_deadline():
    step = decide(PROVISIONING, after(PROVISIONING, 0), DEADLINES)
    assert asks(step) is Action.CREATE_RUNNER
    assert step.wake_ns == PROVISIONING.phase_since_ns + 30 * SECOND


def test_the_runner_that_the_backend_returns_is_recorded_even_when_late():
    for seconds in (0, 31):
        step = decide(PROVISIONING, after(PROVISIONING, seconds, runner=view(uid="u")), DEADLINES)
        assert step == Step(facts=(e.RunnerCreated(stories.RUNNER, "u"),))


def test_no_runner_is_made_out_of_an_absent_one():
    assert asks(decide(PROVISIONING, after(PROVISIONING, 0, runner=ABSENT), DEADLINES)) is Action.CREATE_RUNNER


def test_a_backend_that_is_away_is_a_stated_wait_with_growing_pauses():
    first = decide(PROVISIONING, after(PROVISIONING, 1, failure=failure(), failures=1), DEADLINES)
    waited = e.JobWaited(e.WaitReason.BACKEND_UNAVAILABLE, "the backend is away")
    assert first == Step(facts=(waited,), wake_ns=PROVISIONING.phase_since_ns + SECOND + backoff_ns(1))
    known = record(*TO_PROVISIONING, waited)
    later = decide(known, after(known, 1, failure=failure(), failures=5), DEADLINES)
    assert later == Step(wake_ns=known.phase_since_ns + SECOND + backoff_ns(5))


def test_the_pause_never_outlasts_the_deadline():
    step = decide(PROVISIONING, after(PROVISIONING, 29, failure=failure(), failures=20), DEADLINES)
    assert step.wake_ns == PROVISIONING.phase_since_ns + 30 * SECOND


def test_a_refusal_ends_the_job_with_the_backends_word():
    step = decide(
        PROVISIONING, after(PROVISIONING, 0, failure=failure(transient=False, reason="runner_name_clash")), DEADLINES
    )
    assert told(step) == (Result.ERROR, EndReason.PROVISION_FAILED)
    assert "[runner_name_clash]" in outcome(step).message


def test_making_the_runner_has_an_end_that_names_the_last_failure():
    assert told(decide(PROVISIONING, after(PROVISIONING, 30), DEADLINES)) == (
        Result.TIMEOUT,
        EndReason.PROVISION_TIMEOUT,
    )
    step = decide(PROVISIONING, after(PROVISIONING, 30, failure=failure(), failures=3), DEADLINES)
    assert outcome(step).message.endswith("last: the backend is away")


def test_a_cancel_ends_either_wait():
    for steps in (TO_WAITING, TO_PROVISIONING):
        job = record(*steps, CANCEL)
        step = decide(job, after(job, 0, slot=True, runner=view()), DEADLINES)
        assert told(step) == (Result.CANCELLATION, EndReason.CANCELLED)


def test_the_run_limit_is_the_least_of_job_pool_and_policy():
    def limit(timeout: int, policy: int | None) -> int:
        job = record(*TO_WAITING, the_offer=stories.offer(timeout_seconds=timeout))
        return run_limit_seconds(replace(job, obligations=Obligations(max_duration_seconds=policy)), POOL)

    assert [limit(0, None), limit(100, None), limit(0, 50), limit(100, 50), limit(9999, 9999)] == [
        600,
        100,
        50,
        50,
        600,
    ]


def test_the_spec_is_policys_egress_and_a_hard_stop_behind_ours():
    rules = (EgressRule("example.com"),)
    job = replace(WAITING, obligations=Obligations(egress=rules))
    spec = runner_spec(job, POOL)
    assert (spec.egress, spec.pool, spec.job_id) == (rules, "default", job.id)
    assert spec.deadline_seconds > run_limit_seconds(job, POOL)
    assert spec.digest == runner_spec(job, POOL).digest != runner_spec(WAITING, POOL).digest


def test_pauses_double_and_are_bounded():
    assert [backoff_ns(tries) for tries in (0, 1, 2, 3)] == [SECOND // 20, SECOND // 20, SECOND // 10, SECOND // 5]
    assert backoff_ns(10_000) == 30 * SECOND


def test_a_missing_guard_is_a_waiting_state_with_the_patience_of_capacity():
    missing = failure(reason="guard_missing")
    waited = e.JobWaited(e.WaitReason.GUARD_MISSING, missing.text)
    assert decide(PROVISIONING, after(PROVISIONING, 0, failure=missing, failures=1), DEADLINES).facts == (waited,)
    known = record(*TO_PROVISIONING, waited)
    away = after(known, 1, failure=failure(), failures=2)
    assert decide(known, away, DEADLINES).facts == ()
    # Mended, but now the quota is full: that is news.
    quota = decide(known, after(known, 1, failure=failure(reason="quota_exhausted"), failures=2), DEADLINES)
    assert [fact.reason for fact in quota.facts] == [e.WaitReason.QUOTA_EXHAUSTED]
    step = decide(known, after(known, 20), DEADLINES)
    assert told(step) == (Result.TIMEOUT, EndReason.CAPACITY_TIMEOUT)
    assert missing.text in outcome(step).message
