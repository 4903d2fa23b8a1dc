"""What is known of jobs: never backwards, by the first rule that fits, and nothing that is over comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from github_examples import JOB
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.github.scale_sets.messages import JobMessageKind
from orchestrator.intake.github.webhooks import job_table
from orchestrator.intake.github.webhooks.job_table import MAX_OVER, JobTable, Place

SHOP = Place("acme", "shop")
QUEUED = replace(JOB, status="queued", labels=("self-hosted", "small"), runner_name="")
RUNNING = replace(QUEUED, status="in_progress", runner_name="runner-1", runner_id=7)
DONE = replace(RUNNING, status="completed", conclusion="success")


@pytest.fixture
def table():
    return JobTable([("small",), ("large", "gpu")])


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        (("self-hosted",), 0),
        (("small",), 0),
        (("Self-Hosted", "SMALL"), 0),
        (("gpu",), 1),
        (("self-hosted", "gpu", "large"), 1),
        (("small", "gpu"), None),
        (("ubuntu-latest",), None),
        ((), None),
    ],
)
def test_the_first_rule_with_all_labels_takes_a_job(table, labels, rule):
    assert table.rule_of(labels) == rule


def test_a_job_goes_forward_only(table):
    assert table.see(SHOP, QUEUED) is not None
    assert table.see(SHOP, QUEUED) is None
    assert [known.job for known in table.queued(0)] == [QUEUED]
    assert table.see(SHOP, RUNNING) is not None
    assert table.see(SHOP, QUEUED) is None
    assert (table.queued(0), [known.job for known in table.running(0)]) == ([], [RUNNING])
    assert table.see(SHOP, DONE) is not None
    for late in (QUEUED, RUNNING, DONE):
        assert table.see(SHOP, late) is None
    assert table.queued(0) == table.running(0) == []


def test_which_runner_has_it_may_be_told_later(table):
    table.see(SHOP, replace(RUNNING, runner_name=""))
    assert table.see(SHOP, RUNNING) is not None
    assert table.see(SHOP, RUNNING) is None


@pytest.mark.parametrize("status", ["waiting", "pending", "requested", "", "new"])
def test_a_job_that_waits_for_approval_wants_no_runner(table, status):
    assert table.see(SHOP, replace(QUEUED, status=status)) is None
    assert table.queued(0) == []


def test_what_is_forgotten_is_news_again(table):
    for job in (QUEUED, DONE):
        table.see(SHOP, job)
        table.forget(job.id)
        assert table.see(SHOP, job) is not None


def test_jobs_of_other_labels_are_not_kept(table):
    other = replace(QUEUED, labels=("ubuntu-latest",))
    known = table.see(SHOP, other)
    assert known is not None
    assert known.rule is None
    assert table.unseen(SHOP, ()) == []


def test_unseen_are_the_queued_jobs_of_this_repository_that_a_list_lacks(table):
    table.see(SHOP, QUEUED)
    table.see(SHOP, replace(QUEUED, id=2))
    table.see(SHOP, replace(RUNNING, id=3))
    table.see(Place("acme", "other"), replace(QUEUED, id=4))
    assert [known.job.id for known in table.unseen(Place("ACME", "Shop"), {QUEUED.id})] == [2]


def test_the_memory_of_what_is_over_is_bounded(table):
    for number in range(1, MAX_OVER + 2):
        table.see(SHOP, replace(DONE, id=number))
    assert table.see(SHOP, replace(QUEUED, id=2)) is None
    assert table.see(SHOP, replace(QUEUED, id=1)) is not None


def test_as_a_message():
    table = JobTable([("small",)])
    known = table.see(SHOP, replace(DONE, created_at_ns=5, conclusion="Failure"))
    assert known is not None
    message = known.message(JobMessageKind.COMPLETED)
    assert (message.owner, message.repository, message.run_id) == ("acme", "shop", 9001)
    assert (message.job_id, message.assigned_at_ns) == ("31337", 5)
    assert (message.runner_name, message.result) == ("runner-1", "failure")


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([QUEUED, RUNNING, DONE])), max_size=40))
def test_any_order_of_news_ends_where_each_job_was_furthest(news):
    table = JobTable([("small",)])
    furthest: dict[int, int] = {}
    for number, job in news:
        rank = [QUEUED, RUNNING, DONE].index(job)
        known = table.see(SHOP, replace(job, id=number))
        assert (known is not None) == (rank > furthest.get(number, -1))
        furthest[number] = max(rank, furthest.get(number, -1))
    assert [known.job.id for known in table.queued(0)] == sorted(n for n, rank in furthest.items() if rank == 0)
    assert [known.job.id for known in table.running(0)] == sorted(n for n, rank in furthest.items() if rank == 1)


def test_running_jobs_whose_end_nobody_told_are_forgotten_before_queued_ones(table, monkeypatch):
    monkeypatch.setattr(job_table, "MAX_OPEN", 3)
    table.see(SHOP, replace(QUEUED, id=1))
    for number in range(2, 9):
        table.see(SHOP, replace(RUNNING, id=number))
    assert [known.job.id for known in table.queued(0)] == [1]
    assert [known.job.id for known in table.running(0)] == [7, 8]
