"""Revoke first, delete second, verify gone third, then close."""

from __future__ import annotations

import pytest
from records import (
    ABSENT,
    CANCEL,
    DEADLINES,
    ENDED,
    TO_RUNNING,
    TO_TEARDOWN,
    TO_WAITING,
    after,
    asks,
    exited,
    failure,
    record,
    view,
)  # fmt: skip

from orchestrator.lifecycle.backoff import backoff_ns
from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.observation import SECOND, Action, Step
from orchestrator.model import events as e
from orchestrator.testing import stories

ENDING = record(*TO_TEARDOWN)
DELETED = record(*TO_TEARDOWN, stories.DELETED)
NOTE = e.ProvenanceSigned("{}", ())


def test_the_order_is_revoke_delete_look_close_finish():
    assert asks(decide(ENDING, after(ENDING, 0), DEADLINES)) is Action.REVOKE
    assert asks(decide(ENDING, after(ENDING, 0, revoked=True), DEADLINES)) is Action.DELETE_RUNNER
    step = decide(ENDING, after(ENDING, 0, revoked=True, deleted=True), DEADLINES)
    assert step == Step(facts=(e.RunnerDeleted(stories.RUNNER),))
    seen = {"revoked": True, "deleted": True}
    assert asks(decide(DELETED, after(DELETED, 0, **seen), DEADLINES)) is Action.LOOK_AT_RUNNER
    assert asks(decide(DELETED, after(DELETED, 0, runner=ABSENT, **seen), DEADLINES)) is Action.CLOSE
    step = decide(DELETED, after(DELETED, 0, runner=ABSENT, evidence=(NOTE,), **seen), DEADLINES)
    assert step == Step(facts=(NOTE, e.JobFinished()))


@pytest.mark.parametrize("still", [view(), exited(0), view(uid="another")])
def test_nothing_is_called_gone_while_anything_of_the_name_is_there(still):
    seen = after(DELETED, 1, revoked=True, deleted=True, runner=still, looks=3)
    assert decide(DELETED, seen, DEADLINES) == Step(wake_ns=seen.now_ns + backoff_ns(3))


def test_a_deletion_accepted_before_a_restart_is_not_taken_for_gone():
    assert asks(decide(DELETED, after(DELETED, 0, revoked=True), DEADLINES)) is Action.DELETE_RUNNER


def test_a_job_that_never_had_a_runner_has_nothing_to_delete():
    job = record(*TO_WAITING, ENDED)
    assert asks(decide(job, after(job, 0), DEADLINES)) is Action.REVOKE
    assert asks(decide(job, after(job, 0, revoked=True), DEADLINES)) is Action.CLOSE
    assert decide(job, after(job, 0, revoked=True, evidence=()), DEADLINES) == Step(facts=(e.JobFinished(),))


@pytest.mark.parametrize("transient", [True, False])
def test_what_fails_is_tried_again_for_ever(transient):
    seen = after(ENDING, 1, revoked=True, failure=failure(transient=transient), failures=2)
    assert decide(ENDING, seen, DEADLINES) == Step(wake_ns=seen.now_ns + backoff_ns(2))


def test_what_is_not_gone_in_time_raises_one_alarm_that_names_it():
    seen = after(ENDING, 50, revoked=True, failure=failure(), failures=2)
    step = decide(ENDING, seen, DEADLINES)
    (alarm,) = step.facts
    assert alarm == e.AlarmRaised("teardown_stuck", "not gone 50 s after the end: the backend is away")
    assert step.wake_ns is not None
    alarmed = record(*TO_TEARDOWN, alarm)
    assert decide(alarmed, after(alarmed, 500, failure=failure(), failures=2), DEADLINES).facts == ()
    still = after(DELETED, 50, revoked=True, deleted=True, runner=view(), looks=3)
    (alarm,) = decide(DELETED, still, DEADLINES).facts
    assert isinstance(alarm, e.AlarmRaised)
    assert stories.RUNNER in alarm.detail


def test_the_bound_is_noticed_on_time_and_not_after_a_long_back_off():
    seen = after(DELETED, 49, deleted=True, runner=ABSENT, unrevoked=failure(), failures=20)
    assert decide(DELETED, seen, DEADLINES).wake_ns == DELETED.ended_at_ns + DEADLINES.teardown_ns
    late = after(DELETED, 50, deleted=True, runner=ABSENT, unrevoked=failure(), failures=20)
    step = decide(DELETED, late, DEADLINES)
    assert (len(step.facts), step.wake_ns) == (1, late.now_ns + backoff_ns(20))


def test_what_is_gone_after_its_bound_raises_the_alarm_before_its_receipt_is_made():
    gone = {"revoked": True, "deleted": True, "runner": ABSENT}
    assert asks(decide(DELETED, after(DELETED, 49.9, **gone), DEADLINES)) is Action.CLOSE
    step = decide(DELETED, after(DELETED, 50, **gone), DEADLINES)
    alarm = e.AlarmRaised("teardown_stuck", "not gone 50 s after the end: it was seen to be gone later")
    assert step == Step(facts=(alarm,))
    alarmed = record(*TO_TEARDOWN, stories.DELETED, alarm)
    assert asks(decide(alarmed, after(alarmed, 51, **gone), DEADLINES)) is Action.CLOSE


def test_a_revocation_that_fails_does_not_keep_the_runner_alive_and_the_job_does_not_finish_without_it():
    seen = {"unrevoked": failure(text="the gateway is away"), "failures": 4}
    assert asks(decide(ENDING, after(ENDING, 1, **seen), DEADLINES)) is Action.DELETE_RUNNER
    gone = after(DELETED, 1, deleted=True, runner=ABSENT, **seen)
    assert decide(DELETED, gone, DEADLINES) == Step(wake_ns=gone.now_ns + backoff_ns(4), vacant=True)
    late = after(DELETED, 50, deleted=True, runner=ABSENT, **seen)
    (alarm,) = decide(DELETED, late, DEADLINES).facts
    assert isinstance(alarm, e.AlarmRaised)
    assert alarm.detail.endswith("not revoked: the gateway is away")


def test_the_finish_says_when_revoking_was_over_only_where_the_deletion_did_not():
    gone = {"revoked": True, "revoked_ns": 7, "deleted": True, "runner": ABSENT, "evidence": ()}
    for deleted, told in ((e.RunnerDeleted(stories.RUNNER), 7), (e.RunnerDeleted(stories.RUNNER, 5), 0)):
        job = record(*TO_TEARDOWN, deleted)
        assert decide(job, after(job, 1, **gone), DEADLINES) == Step(facts=(e.JobFinished(revoked_at_ns=told),))


def test_a_cancel_after_the_end_changes_nothing():
    job = record(*TO_RUNNING, ENDED, CANCEL)
    assert asks(decide(job, after(job, 0), DEADLINES)) is Action.REVOKE


def test_a_finished_job_asks_for_nothing():
    job = record(*TO_TEARDOWN, stories.DELETED, stories.FINISHED)
    assert decide(job, after(job, 0), DEADLINES) == Step()
    assert decide(job, after(job, 10 * SECOND, failure=failure()), DEADLINES) == Step()
