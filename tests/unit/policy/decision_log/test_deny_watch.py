"""A bundle that denies far more than the one before it is noticed once, and one job alone cannot make it look so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.events import Fact, JobOffered
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.record import begin
from orchestrator.policy.decide import Answered
from orchestrator.policy.decision_log.deny_watch import DenyWatch, Jump, Sensitivity
from orchestrator.policy.document import Evaluation

from .conftest import SECOND, START

WATCH = Sensitivity(0.25, 20, 600 * SECOND)


def asked(job: int, allowed: bool, at_ns: int = START, stage: Stage = Stage.EXCHANGE) -> Answered:
    verdict = Verdict.ALLOW if allowed else Verdict.DENY
    offer = JobOffer(JobKey("dispatch", f"j{job}"), JobSpec("b", PoolName("p"), "x"), Caller("i", "s"))
    record = begin(Fact(offer.key.id, START, JobOffered(offer)))
    return Answered(Decision("d", stage, verdict), Evaluation(verdict), record, at_ns, b"{}")


def run(watch: DenyWatch, answers: list[bool], first: int = 0, at_ns: int = START) -> list[Jump]:
    told = [watch.decided(asked(first + number, allowed, at_ns)) for number, allowed in enumerate(answers)]
    return [jump for jump in told if jump is not None]


def watching(before: list[bool]) -> DenyWatch:
    watch = DenyWatch(WATCH)
    assert run(watch, before) == []
    watch.changed(START)
    return watch


def test_a_jump_is_told_once():
    watch = watching([True] * 38 + [False] * 2)
    [jump] = run(watch, [True] * 14 + [False] * 26, 1000)
    assert (jump.before, jump.before_count) == (0.05, 40)
    assert jump.after - jump.before >= 0.25
    assert jump.after_count >= 20
    watch.changed(START)
    assert run(watch, [False] * 40, 2000), "against what was last in force"


def test_less_than_the_least_proves_nothing():
    assert run(watching([True] * 19), [False] * 100, 1000) == []
    assert run(watching([True] * 20), [False] * 19, 1000) == []


def test_the_same_rate_as_before_is_none():
    assert run(watching([False] * 40), [False] * 100, 1000) == []
    assert run(watching([True] * 30 + [False] * 10), [True] * 60 + [False] * 30, 1000) == []


def test_only_for_a_while_and_only_after_a_change():
    assert run(watching([True] * 40), [False] * 100, 1000, START + 601 * SECOND) == []
    unchanged = DenyWatch(WATCH)
    assert run(unchanged, [True] * 40 + [False] * 100) == []


def test_one_job_that_asks_again_and_again_counts_once():
    watch = watching([True] * 40)
    assert [jump for _ in range(500) if (jump := watch.decided(asked(7000, False)))] == []
    assert run(watch, [True] * 30, 1000) == []


def test_questions_of_pull_requests_count_for_nothing():
    watch = watching([True] * 40)
    told = [watch.decided(asked(1000 + number, False, stage=Stage.CHECK)) for number in range(100)]
    assert set(told) == {None}


def test_a_share_of_zero_never_tells():
    watch = DenyWatch(Sensitivity(0, 20, 600 * SECOND))
    run(watch, [True] * 40)
    watch.changed(START)
    assert run(watch, [False] * 100, 1000) == []


def test_a_second_change_in_a_row_is_measured_against_what_was_long_in_force():
    watch = watching([True] * 40)
    run(watch, [False] * 3, 1000)
    watch.changed(START)
    [jump] = run(watch, [False] * 30, 2000)
    assert jump.before == 0


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=300))
def test_no_more_than_one_alarm_and_only_on_a_true_jump(answers):
    watch = watching([True] * 40)
    last: dict[int, bool] = {}
    jumps = []
    for job, allowed in answers:
        last[job] = allowed
        jump = watch.decided(asked(1000 + job, allowed))
        if jump is not None:
            jumps.append(jump)
            assert len(last) >= 20
            assert abs(jump.after - sum(not one for one in last.values()) / len(last)) < 1e-9
            assert jump.after >= 0.25
    assert len(jumps) <= 1
