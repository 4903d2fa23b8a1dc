"""A running job follows its runner to the end, which is told with its true cause; it is never started again."""

from __future__ import annotations

import pytest
from records import (
    ABSENT,
    CANCEL,
    DEADLINES,
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

from orchestrator.lifecycle.backoff import backoff_ns
from orchestrator.lifecycle.decide import decide
from orchestrator.lifecycle.observation import SECOND, Action, Step
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.runner import ExitCause
from orchestrator.testing import stories

RUNNING = record(*TO_RUNNING)


def test_the_runner_is_looked_at_and_then_followed_to_its_limit():
    assert asks(decide(RUNNING, after(RUNNING, 0), DEADLINES)) is Action.LOOK_AT_RUNNER
    step = decide(RUNNING, after(RUNNING, 1, runner=view()), DEADLINES)
    assert step == Step(wake_ns=RUNNING.bound_at_ns + 600 * SECOND)


@pytest.mark.parametrize(
    ("seen", "result", "reason", "code"),
    [
        (exited(0), Result.SUCCESS, EndReason.COMPLETED, 0),
        (exited(0, None), Result.SUCCESS, EndReason.COMPLETED, 0),
        (exited(7), Result.FAILURE, EndReason.EXIT_NONZERO, 7),
        (exited(None, None), Result.FAILURE, EndReason.EXIT_NONZERO, None),
        (exited(139, ExitCause.SIGNALLED), Result.FAILURE, EndReason.KILLED_BY_SIGNAL, 139),
        (exited(137, ExitCause.OUT_OF_MEMORY), Result.ERROR, EndReason.OUT_OF_MEMORY, 137),
        (exited(143, ExitCause.DEADLINE), Result.TIMEOUT, EndReason.RUN_TIMEOUT, 143),
        (exited(0, ExitCause.LOST), Result.ERROR, EndReason.RUNNER_LOST, None),
        (ABSENT, Result.ERROR, EndReason.RUNNER_LOST, None),
        (view(uid="another"), Result.ERROR, EndReason.RUNNER_LOST, None),
        (exited(0, ExitCause.SIGNALLED), Result.FAILURE, EndReason.KILLED_BY_SIGNAL, 0),
    ],
)
def test_each_end_has_its_cause(seen, result, reason, code):
    step = decide(RUNNING, after(RUNNING, 1, runner=seen), DEADLINES)
    assert told(step) == (result, reason)
    assert outcome(step).exit_code == code
    assert len(step.facts) == 1


def test_every_cause_is_told_apart():
    for cause in ExitCause:
        assert decide(RUNNING, after(RUNNING, 1, runner=exited(1, cause)), DEADLINES).facts


def test_a_lost_runner_is_said_with_what_the_backend_knows():
    step = decide(RUNNING, after(RUNNING, 1, runner=exited(0, ExitCause.LOST, detail="node gone")), DEADLINES)
    assert outcome(step).message.endswith("not started again. node gone.")


def test_the_run_has_an_end():
    assert decide(RUNNING, after(RUNNING, 599, runner=view()), DEADLINES).facts == ()
    assert told(decide(RUNNING, after(RUNNING, 600, runner=view()), DEADLINES))[1] is EndReason.RUN_TIMEOUT
    assert told(decide(RUNNING, after(RUNNING, 600, failure=failure()), DEADLINES))[1] is EndReason.RUN_TIMEOUT
    short = record(*TO_RUNNING, the_offer=stories.offer(timeout_seconds=30))
    assert told(decide(short, after(short, 30, runner=view()), DEADLINES))[1] is EndReason.RUN_TIMEOUT


def test_an_exit_seen_at_the_deadline_is_an_exit():
    assert told(decide(RUNNING, after(RUNNING, 601, runner=exited(0)), DEADLINES))[1] is EndReason.COMPLETED


def test_a_pool_taken_out_of_the_configuration_keeps_its_running_jobs():
    assert decide(RUNNING, after(RUNNING, 601, pool=None, runner=view()), DEADLINES).facts == ()


def test_a_look_that_fails_decides_nothing_and_is_tried_again():
    for transient in (True, False):
        seen = after(RUNNING, 1, failure=failure(transient=transient), failures=4)
        assert decide(RUNNING, seen, DEADLINES) == Step(wake_ns=seen.now_ns + backoff_ns(4))


def test_a_cancelled_job_is_ended_whatever_its_runner_does():
    job = record(*TO_RUNNING, CANCEL)
    for seen in (view(), exited(0), ABSENT):
        assert told(decide(job, after(job, 1, runner=seen), DEADLINES)) == (
            Result.CANCELLATION,
            EndReason.CANCELLED,
        )
