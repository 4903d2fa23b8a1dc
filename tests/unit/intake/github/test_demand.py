"""How many runners a set needs: the count, the messages, and what contradicts itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.github.names import registered_name
from orchestrator.intake.github.scale_sets.demand import (
    Backoff,
    Envelope,
    Ledger,
    Patient,
    Slot,
    SlotState,
    Untold,
    believed,
    ended_without_job,
    plan,
    slot_of,
)
from orchestrator.intake.github.scale_sets.messages import JobMessage, JobMessageKind, Statistics
from orchestrator.model.events import JobCancelRequested
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import Phase
from orchestrator.model.platform import PlatformResult, PlatformState
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName, RunnerState, RunnerView, runner_name

KIND = JobMessageKind
SPEC = JobSpec("runner", PoolName("linux"), "exec", awaits_platform_job=True)
RECORD = Record(JobOffer(JobKey("acme", "job-1"), SPEC, Caller("i", "s")), 5, platform=PlatformState())


def message(kind: JobMessageKind, job: str = "a", at: int | None = 1, runner: str = "") -> JobMessage:
    return JobMessage(kind, job, assigned_at_ns=at, runner_name=runner, request_id=1)


def slots(*states: SlotState) -> list[Slot]:
    return [Slot(JobId(f"acme.job-{number}.1"), state, number) for number, state in enumerate(states)]


def keys(count: int) -> list[JobKey]:
    return [JobKey("acme", f"new-{number}") for number in range(count)]


# --- slots


def platform(**changes) -> PlatformState:
    return replace(PlatformState(), **changes)


EXIT = RunnerView(RunnerName("r"), RunnerState.EXITED, "u", 0)
OUTCOME = Outcome(Result.ERROR, EndReason.RUNNER_LOST, "gone")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, SlotState.COMING),
        ({"phase": Phase.WAITING}, SlotState.COMING),
        ({"phase": Phase.BINDING, "runner": RunnerName("r")}, SlotState.STARTING),
        ({"phase": Phase.RUNNING, "runner": RunnerName("r")}, SlotState.FREE),
        ({"phase": Phase.RUNNING, "platform": platform(named_at_ns=1)}, SlotState.BUSY),
        ({"phase": Phase.RUNNING, "platform": platform(named_at_ns=1, exit=EXIT)}, SlotState.BUSY),
        ({"phase": Phase.RUNNING, "platform": platform(exit=EXIT)}, SlotState.OVER),
        ({"phase": Phase.RUNNING, "platform": platform(completed=PlatformResult("failed"))}, SlotState.OVER),
        ({"phase": Phase.RUNNING, "cancel": JobCancelRequested("x")}, SlotState.OVER),
        ({"phase": Phase.TEARDOWN, "outcome": OUTCOME}, SlotState.OVER),
    ],
)
def test_what_a_record_is_to_the_demand(changes, state):
    assert slot_of(replace(RECORD, **changes)) == Slot(RECORD.id, state, 5)


@pytest.mark.parametrize(
    ("reason", "named", "failed"),
    [
        (EndReason.IMAGE_PULL_FAILED, 0, True),
        (EndReason.NO_JOB, 0, True),
        (EndReason.CANCELLED, 0, False),
        (EndReason.JOB_FAILED, 1, False),
    ],
)
def test_which_ends_make_the_next_runner_wait(reason, named, failed):
    outcome = Outcome(Result.ERROR, reason, "")
    assert ended_without_job(replace(RECORD, outcome=outcome, platform=platform(named_at_ns=named))) is failed
    assert not ended_without_job(RECORD)
    assert ended_without_job(replace(RECORD, platform=platform(exit=EXIT))), "as soon as the runner is gone"
    assert not ended_without_job(replace(RECORD, platform=platform(exit=EXIT), cancel=JobCancelRequested("x")))


# --- messages


def test_an_envelope_is_sorted():
    jobs = [
        message(KIND.AVAILABLE, "x"),
        message(KIND.ASSIGNED, "a"),
        message(KIND.ASSIGNED, "b"),
        message(KIND.STARTED, "b", runner="r"),
        message(KIND.ASSIGNED, "c"),
        message(KIND.COMPLETED, "c"),
    ]
    found = Ledger().read(jobs)
    assert [job.job_id for job in found.assigned] == ["a"]
    assert [job.job_id for job in found.available] == ["x"]
    assert [job.job_id for job in found.started] == ["b"]
    assert [job.job_id for job in found.completed] == ["c"]
    assert found.open == 2


def test_what_was_completed_is_not_assigned_by_a_late_message():
    ledger = Ledger()
    ledger.read([message(KIND.COMPLETED, at=7)])
    assert ledger.read([message(KIND.ASSIGNED, at=7)]).assigned == ()
    assert len(ledger.read([message(KIND.ASSIGNED, at=8)]).assigned) == 1


def test_a_job_that_is_assigned_again_counts_once():
    ledger = Ledger()
    found = ledger.read([message(KIND.ASSIGNED, at=1), message(KIND.COMPLETED, at=1), message(KIND.ASSIGNED, at=2)])
    assert [job.assigned_at_ns for job in found.assigned] == [2]
    assert (found.open, ledger.open) == (1, 1)


def test_a_completion_without_a_time_ends_what_came_before_it_only():
    ledger = Ledger()
    found = ledger.read([message(KIND.ASSIGNED, at=1), message(KIND.COMPLETED, at=None), message(KIND.ASSIGNED, at=2)])
    assert [job.assigned_at_ns for job in found.assigned] == [2]


def test_an_old_completion_does_not_end_a_newer_assignment():
    found = Ledger().read([message(KIND.ASSIGNED, at=2), message(KIND.COMPLETED, at=1)])
    assert [job.assigned_at_ns for job in found.assigned] == [2]


def test_jobs_on_runners_that_are_no_slots_need_none():
    ledger = Ledger()
    mine = slots(SlotState.BUSY)
    ours = registered_name(runner_name(mine[0].job_id), 1)
    lost = registered_name(RunnerName("runner-" + "a" * 24), 1)
    ledger.read([message(KIND.STARTED, "a", runner=ours), message(KIND.STARTED, "b", runner=lost)])
    assert ledger.strays(mine, running=2) == 1
    assert ledger.strays(mine, running=1) == 0, "the service counts only the one that is ours"
    ledger.read([message(KIND.COMPLETED, "b", runner=lost)])
    assert ledger.strays(mine, running=2) == 0


def test_open_jobs_are_known_from_messages_and_from_records():
    ledger = Ledger()
    ledger.assume("old")
    ours = registered_name(RunnerName("runner-" + "a" * 24), 1)
    ledger.read([message(KIND.ASSIGNED, "a"), message(KIND.STARTED, "b", runner=ours)])
    assert ledger.open == 3
    ledger.settled(RunnerName("runner-" + "a" * 24))
    ledger.read([message(KIND.COMPLETED, "old")])
    assert ledger.open == 1


messages = st.lists(
    st.builds(
        message,
        st.sampled_from(list(KIND)),
        st.sampled_from("abc"),
        st.none() | st.integers(1, 3),
        st.sampled_from(["", registered_name(RunnerName("runner-" + "a" * 24), 1), "theirs"]),
    ),
    max_size=12,
)


@given(messages)
def test_reading_the_same_again_assigns_nothing_that_was_completed(jobs):
    ledger = Ledger()
    first = ledger.read(jobs)
    again = ledger.read(jobs)
    closed = {(job.job_id, job.assigned_at_ns) for job in first.completed if job.assigned_at_ns is not None}
    for found in (first, again):
        rounds = [(job.job_id, job.assigned_at_ns) for job in found.assigned]
        assert len({ref for ref, _ in rounds}) == len(rounds)
    assert not closed & {(job.job_id, job.assigned_at_ns) for job in again.assigned}


@given(messages, st.none() | st.integers(0, 5))
def test_a_count_is_believed_unless_the_envelope_disproves_it(jobs, count):
    envelope = Ledger().read(jobs)
    statistics = None if count is None else Statistics(assigned=count)
    told = believed(statistics, envelope)
    assert told == (count if count is not None and count >= envelope.open else None)
    assert believed(Statistics(), Envelope()) == 0


# --- plans

states = st.lists(st.sampled_from(list(SlotState)), max_size=8)


@given(st.integers(0, 12), st.integers(0, 6), states, st.integers(0, 4), st.integers(0, 10))
def test_a_plan_meets_the_count_within_the_bound(assigned, announced, have, strays, bound):
    existing = slots(*have)
    todo = plan(assigned, keys(announced), existing, strays, bound)
    counted = sum(slot.counts for slot in existing)
    need = max(assigned - strays, 0)
    made = len(todo.offers) + todo.fillers
    assert made == min(max(need - counted, 0), max(bound - len(existing), 0))
    assert made + todo.withheld == max(need - counted, 0)
    assert todo.fillers == 0 or len(todo.offers) == announced
    assert not (made and todo.surplus)
    idle = [slot for slot in existing if slot.state < SlotState.BUSY]
    assert len(todo.surplus) == min(max(counted - need, 0), len(idle))
    assert set(todo.surplus) <= {slot.job_id for slot in idle}


def test_what_has_cost_least_is_given_up_first():
    existing = slots(SlotState.FREE, SlotState.COMING, SlotState.STARTING, SlotState.COMING, SlotState.BUSY)
    todo = plan(2, (), existing, 0, 10)
    assert todo.surplus == ("acme.job-3.1", "acme.job-1.1", "acme.job-2.1")


# --- patience


def test_a_surplus_must_last():
    patient = Patient(10)
    assert patient.lasting(3, 0) == 0
    assert patient.lasting(2, 5) == 0
    assert patient.lasting(4, 10) == 2, "so many were too many all the time"
    assert patient.lasting(2, 11) == 0
    assert patient.lasting(0, 12) == 0
    assert patient.lasting(2, 100) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 4)), max_size=30))
def test_never_more_are_given_up_than_were_too_many_at_every_look(looks):
    patient, now, since = Patient(10), 0.0, []
    for surplus, passed in looks:
        now += passed
        since = [*since, (now, surplus)] if surplus else []
        lasting = patient.lasting(surplus, now)
        if lasting:
            assert now - since[0][0] >= 10
            assert lasting <= min(count for _, count in since)
            since = []


def test_failures_in_a_row_wait_longer_up_to_a_bound():
    backoff = Backoff(1, 10)
    assert [backoff.failed(0) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert backoff.until == 10
    assert backoff.failed(0, 0.5) == 5
    backoff.succeeded()
    assert (backoff.until, backoff.failed(100)) == (0, 1)


@given(st.integers(0, 2000))
def test_no_number_of_failures_breaks_the_wait(count):
    backoff = Backoff(1, 60)
    for _ in range(count):
        assert 0 < backoff.failed(0) <= 60


def test_a_job_that_ended_here_is_no_demand_until_github_says_so():
    untold, ledger, runner = Untold(), Ledger(), RunnerName("runner-" + "a" * 24)
    assert (untold.count(ledger, 0), untold.over_at(0)) == (0, None)
    untold.ended(runner, 10)
    untold.ended(runner, 50)
    assert (untold.count(ledger, 60), untold.over_at(60)) == (1, 70)
    assert (untold.count(ledger, 70), untold.over_at(70)) == (0, None)
    untold.ended(runner, 71)
    assert untold.count(ledger, 72) == 0, "a record that takes long to end is not counted anew"
    untold.told(runner)
    untold.ended(runner, 80)
    assert untold.count(ledger, 81) == 1
