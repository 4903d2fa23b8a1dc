"""A queued job: policy is asked once, and only *allow* goes on."""

from __future__ import annotations

import pytest
from records import CANCEL, DEADLINES, after, asks, outcome, record, told

from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.observation import SECOND, Action, Step
from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.model.outcome import EndReason, Result
from orchestrator.testing import stories

QUEUED = record()


def test_policy_is_asked_and_has_until_the_deadline():
    step = decide(QUEUED, after(QUEUED, 0), DEADLINES)
    assert asks(step) is Action.ASK_POLICY
    assert step.wake_ns == QUEUED.phase_since_ns + 10 * SECOND


def test_allow_admits():
    decision = stories.decision(Verdict.ALLOW)
    assert decide(QUEUED, after(QUEUED, 1, decision=decision), DEADLINES) == Step(facts=(e.JobAdmitted(decision),))


@pytest.mark.parametrize(
    ("verdict", "result", "reason"),
    [
        (Verdict.DENY, Result.DENIED, EndReason.POLICY_DENIED),
        (Verdict.UNDEFINED, Result.DENIED, EndReason.POLICY_UNDEFINED),
        (Verdict.ERROR, Result.ERROR, EndReason.POLICY_ERROR),
    ],
)
def test_whatever_is_not_allow_ends_the_job_in_the_same_commit(verdict, result, reason):
    decision = stories.decision(verdict)
    step = decide(QUEUED, after(QUEUED, 1, decision=decision), DEADLINES)
    assert step.facts[0] == e.JobRefused(decision)
    assert told(step) == (result, reason)
    assert outcome(step).message == decision.explain()


def test_every_verdict_has_its_answer():
    for verdict in Verdict:
        facts = decide(QUEUED, after(QUEUED, 1, decision=stories.decision(verdict)), DEADLINES).facts
        assert isinstance(facts[0], e.JobAdmitted) is (verdict is Verdict.ALLOW)


def test_a_policy_without_an_answer_ends_the_job_in_time():
    assert asks(decide(QUEUED, after(QUEUED, 9.9), DEADLINES)) is Action.ASK_POLICY
    step = decide(QUEUED, after(QUEUED, 10), DEADLINES)
    assert told(step) == (Result.TIMEOUT, EndReason.ADMISSION_TIMEOUT)


def test_an_answer_that_came_late_still_counts():
    step = decide(QUEUED, after(QUEUED, 60, decision=stories.decision()), DEADLINES)
    assert isinstance(step.facts[0], e.JobAdmitted)


def test_an_unknown_pool_is_said_before_policy_is_asked():
    step = decide(QUEUED, after(QUEUED, 0, pool=None), DEADLINES)
    assert told(step) == (Result.ERROR, EndReason.UNKNOWN_POOL)
    assert "'default'" in outcome(step).message


def test_a_cancelled_job_is_not_asked_about():
    cancelled = record(CANCEL)
    step = decide(cancelled, after(cancelled, 0, decision=stories.decision()), DEADLINES)
    assert told(step) == (Result.CANCELLATION, EndReason.CANCELLED)
    assert outcome(step).message == "cancelled by alice: wrong branch"
