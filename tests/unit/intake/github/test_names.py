"""Names between GitHub's things and ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.github.names import (
    MAX_REGISTRATIONS,
    demand_key,
    filler_key,
    job_ref,
    ref_of_key,
    registered_name,
    registered_names,
    runner_of,
)
from orchestrator.intake.github.scale_sets.messages import JobMessage, JobMessageKind
from orchestrator.model.job import JobKey
from orchestrator.model.runner import RunnerName

GUID = "6b1f3c1e-0d55-5c0c-9a53-1d2f4f0f2a11"
runners = st.text("0123456789abcdef", min_size=24, max_size=24).map(lambda text: RunnerName(f"runner-{text}"))


def assigned(job_id: str = GUID, at_ns: int | None = 1_767_261_601_200_000_000, request_id: int = 0) -> JobMessage:
    return JobMessage(JobMessageKind.ASSIGNED, job_id, request_id=request_id, assigned_at_ns=at_ns)


@given(runners)
def test_each_registration_has_its_own_name_and_leads_back(runner):
    names = registered_names(runner)
    assert len(set(names)) == MAX_REGISTRATIONS
    assert {runner_of(name) for name in names} == {runner}
    assert all(len(name) <= 64 for name in names)


@given(runners, st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=4, max_size=4))
def test_a_name_that_only_looks_like_ours_is_nobodys(runner, suffix):
    name = f"{runner}-{suffix}"
    assert runner_of(name) == (runner if name in registered_names(runner) else None)


@given(st.text())
def test_whatever_a_runner_is_called_is_looked_at_without_trouble(name):
    found = runner_of(name)
    assert found is None or name.startswith(found)


def test_names_with_a_line_break_are_nobodys():
    assert runner_of(registered_name(RunnerName("runner-" + "a" * 24), 1) + "\n") is None


@pytest.mark.parametrize("attempt", [0, MAX_REGISTRATIONS + 1, -1])
def test_no_name_beyond_the_tries(attempt):
    with pytest.raises(ValueError, match="at most 3 times"):
        registered_name(RunnerName("runner-" + "a" * 24), attempt)


def test_the_key_of_an_assigned_job():
    key = demand_key("acme", assigned())
    ref, _, moment = key.platform_id.rpartition("-")
    assert (key.source, ref, int(moment, 36), key.attempt) == ("acme", GUID, 1_767_261_601_200, 1)


@given(
    st.text(min_size=1, max_size=128),
    st.none() | st.integers(-(2**62), 2**62),
    st.none() | st.integers(-(2**62), 2**62),
)
def test_any_job_has_one_key_for_each_assignment(job_id, first, second):
    one, other = demand_key("s", assigned(job_id, first)), demand_key("s", assigned(job_id, second))
    same = max(first or 0, 0) // 1_000_000 == max(second or 0, 0) // 1_000_000
    assert (one == other) is same
    assert JobKey.parse(one.id) == one


@given(st.text(min_size=1, max_size=128))
def test_a_key_tells_which_job_demanded_it(job_id):
    ref = ref_of_key(demand_key("s", assigned(job_id)))
    assert ref == job_id or len(ref) == 32


def test_a_job_without_an_id_is_known_by_its_request():
    message = assigned("", request_id=7)
    assert job_ref(message) == "request-7"
    assert ref_of_key(demand_key("s", message)) == "request-7"


def test_fillers_are_all_different_and_nobodys():
    keys = {filler_key("acme") for _ in range(100)}
    assert len(keys) == 100
    assert {ref_of_key(key) for key in keys} == {""}
