"""Names: of a job, of its caller, of its runner."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.job import Caller, JobId, JobKey, PoolName
from orchestrator.model.runner import RunnerName, RunnerSpec, runner_name

components = st.from_regex(re.compile(r"[A-Za-z0-9_-]{1,96}"), fullmatch=True)


@given(components, components, st.integers(1, 1_000_000))
def test_an_id_leads_back_to_its_key(source: str, platform_id: str, attempt: int):
    key = JobKey(source, platform_id, attempt)
    assert JobKey.parse(key.id) == key


@given(st.text(max_size=40) | st.from_regex(r"[a-z.]{0,8}\.[a-z]{0,3}\.[0-9٣²]{0,9}", fullmatch=True))
def test_what_parses_is_the_one_name_of_its_job(text: str):
    try:
        key = JobKey.parse(text)
    except ValueError:
        return
    assert key.id == text


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.0", "a.b.01", "a.b.٣", "a.b.1.1", "a.b.-1", "a.b.1000001", "a.b.1\n", ".b.1", "a..1", "a/b.c.1"],
)
def test_other_texts_are_no_ids(text: str):
    with pytest.raises(ValueError, match=r"job id|must"):
        JobKey.parse(text)


@pytest.mark.parametrize(
    ("source", "platform_id", "attempt"),
    [("", "b", 1), ("a.b", "c", 1), ("a", "b/c", 1), ("a", "b\n", 1), ("a", "x" * 97, 1), ("a", "b", 0), ("ä", "b", 1)],
)
def test_keys_are_safe_in_a_url_and_bounded(source: str, platform_id: str, attempt: int):
    with pytest.raises(ValueError, match="must"):
        JobKey(source, platform_id, attempt)


def test_callers_differ_by_issuer_and_subject_and_the_border_between_them():
    ids = {
        Caller(issuer, subject).id for issuer, subject in [("a", "b"), ("ab", ""), ("", "ab"), ("a", "c"), ("b", "b")]
    }
    assert len(ids) == 5
    assert Caller("a", "b", {"x": "1"}).id == Caller("a", "b").id


@given(components, components, st.integers(1, 99))
def test_a_runners_name_is_a_dns_label_of_its_job_alone(source: str, platform_id: str, attempt: int):
    job_id = JobKey(source, platform_id, attempt).id
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", runner_name(job_id))
    assert runner_name(job_id) == runner_name(JobId(str(job_id)))
    assert runner_name(job_id) != runner_name(JobKey(source, platform_id, attempt + 1).id)


def test_specs_are_equal_by_what_the_runner_is_made_of():
    def spec(**changed) -> RunnerSpec:
        fields = {
            "name": RunnerName("r"), "job_id": JobId("a.b.1"), "pool": PoolName("p"), "egress": (),
            "deadline_seconds": 1,
        } | changed  # fmt: skip
        return RunnerSpec(**fields)

    assert spec().digest == spec().digest
    others = [spec(name="s"), spec(job_id="a.b.2"), spec(pool="q"), spec(deadline_seconds=2)]
    assert len({other.digest for other in (*others, spec())}) == 5
