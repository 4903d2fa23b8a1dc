"""Why a job stands where it stands, over HTTP: with the figures of its pool, for whoever may see the job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.model.job import PoolName
from orchestrator.server.shapes import JobSummaryView, WhyView
from orchestrator.testing.faults import Fault


async def told(api, job_id: str, headers: dict[str, str] | None = None) -> WhyView:
    async with api.client.get(f"{api.url}/v1/jobs/{job_id}/why", headers=headers or api.operator) as answer:
        assert answer.status == 200, await answer.text()
        return WhyView.model_validate(await answer.json())


async def test_a_job_in_the_line_says_how_full_its_pool_is_and_how_many_are_before_it(api):
    first = [await api.job(f"first-{number}") for number in range(2)]
    for job_id in first:
        await api.run(job_id)
    line = [await api.job(f"line-{number}") for number in range(3)]
    for job_id in line:
        await api.until(job_id, "waiting")
    last = await told(api, line[2])
    assert (last.reason, last.phase, last.result) == ("pool_full", "waiting", None)
    assert last.pool.model_dump() == {"name": "default", "capacity": 2, "in_use": 2, "before": 2}
    assert "2 of 2 places are taken, and 2 jobs are before it in the line" in last.sentence
    assert last.gives_up_at is not None
    assert last.since is not None
    assert last.since < last.gives_up_at
    runs = await told(api, first[0])
    assert (runs.reason, runs.pool.before) == ("running", None)
    assert "running, for at most 10 min by its pool's limit" in runs.sentence


async def test_an_ended_job_says_why_and_what_may_explain_it(api):
    job_id = await api.job("one")
    await api.run(job_id)
    refused = e.EgressDecided("evil.example", 443, "tls", allowed=False, rule="", reason="not_allowed")
    await api.engine.note(job_id, refused)
    await api.finish(job_id, 3)
    answer = await told(api, job_id)
    assert (answer.result, answer.reason) == ("failure", "exit_nonzero")
    assert answer.sentence == "The job failed: the job exited with code 3."
    assert f"orchestrator logs {job_id}" in answer.next_step
    assert [hint.partition(":")[0] for hint in answer.hints] == [
        "The gateway refused 1 connection, lately to evil.example"
    ]
    assert answer.pool.model_dump() == {"name": "default", "capacity": None, "in_use": None, "before": None}
    assert answer.gives_up_at is None


async def test_what_the_last_try_ran_into_is_told_though_no_fact_has_it(api):
    job_id = await api.job("one")
    await api.run(job_id)
    api.backend.faults.add(*[Fault.FAILED] * 1000)
    await api.engine.cancel(job_id, "alice")
    await api.until(job_id, "teardown")
    await api.engine.idle()
    said = "The job was cancelled: alice asked for its end"
    trouble = "the last try failed: told to fail: failed"
    assert (
        await told(api, job_id)
    ).sentence == f"{said}; its credentials and its runner are being taken away; {trouble}."
    api.backend.faults.clear()
    await api.until(job_id, "finished")
    assert (await told(api, job_id)).sentence == f"{said}."


async def test_a_job_whose_end_cannot_be_recorded_says_so_and_the_list_with_it(api):
    job_id = await api.job("one")
    identity = await api.run(job_id)
    api.journal.fail_next(1 << 30)
    api.backend.exit(identity.name, 3)
    async with asyncio.timeout(30):
        while (answer := await told(api, job_id)).reason == "running":
            await asyncio.sleep(0)
    assert (answer.reason, answer.since, answer.gives_up_at) == ("journal_unavailable", None, None)
    assert answer.sentence == (
        "The job is running as far as is known, and nothing more of it can be recorded now: the journal cannot store"
        " facts: told to fail."
    )
    assert answer.next_step == "Operators: switch the fault off; this is the journal of the tests."
    [line] = await listed(api)
    assert line["why"] == {"reason": "journal_unavailable", "sentence": answer.sentence}
    api.journal.fail_next(0)
    await api.until(job_id, "finished")
    assert (await told(api, job_id)).reason == "exit_nonzero"


async def listed(api, query: str = "") -> list[dict[str, Any]]:
    async with api.client.get(f"{api.url}/v1/jobs{query}", headers=api.operator) as answer:
        assert answer.status == 200, await answer.text()
        jobs: list[dict[str, Any]] = (await answer.json())["jobs"]
    for line in jobs:
        JobSummaryView.model_validate(line)
    return jobs


async def test_the_list_says_what_each_unfinished_job_waits_for(api):
    over = await api.job("over")
    await api.run(over)
    await api.finish(over, 3)
    for number in range(2):
        await api.run(await api.job(f"first-{number}"))
    line = await api.job("line")
    await api.until(line, "waiting")
    waits, *runs, ended = await listed(api)
    assert waits["why"] == {
        "reason": "pool_full",
        "sentence": "The job waits for a place in pool 'default': 2 of 2 places are taken.",
    }
    assert [job["why"]["reason"] for job in runs] == ["running", "running"]
    assert (ended["why"], ended["reason"]) == (None, "exit_nonzero")
    api.draining.append(True)
    assert (await listed(api, "?phase=waiting"))[0]["why"]["reason"] == "draining"


async def test_no_list_counts_places_in_the_line(api, monkeypatch):
    """That takes time with the length of the line, for each of its jobs."""
    for number in range(2):
        await api.run(await api.job(f"first-{number}"))
    for number in range(3):
        await api.until(await api.job(f"line-{number}"), "waiting")
    asked: list[str] = []
    slots = api.engine.slots(PoolName("default"))
    counts = type(slots).before
    monkeypatch.setattr(type(slots), "before", lambda one, job: (asked.append(job), counts(one, job))[1])
    assert len(await listed(api, "?limit=4")) == 4
    assert asked == []
    await told(api, (await listed(api))[0]["id"])
    assert len(asked) == 1


async def test_a_draining_daemon_says_that_it_begins_nothing(api):
    for number in range(2):
        await api.run(await api.job(f"first-{number}"))
    job_id = await api.job("line")
    await api.until(job_id, "waiting")
    api.draining.append(True)
    assert (await told(api, job_id)).reason == "draining"


async def test_anothers_job_does_not_exist_and_there_is_no_query(api):
    job_id = await api.job("one", headers=api.forge())
    url = f"{api.url}/v1/jobs/{job_id}/why"
    assert (await told(api, job_id, api.forge())).id == job_id
    for headers, status in ((api.forge("repo:theirs"), 404), ({}, 401)):
        async with api.client.get(url, headers=headers) as answer:
            assert answer.status == status
    async with api.client.get(f"{url}?x=1", headers=api.operator) as answer:
        assert answer.status == 400


class TestDenied:
    @pytest.fixture
    def verdict(self) -> Verdict:
        return Verdict.DENY

    async def test_a_denied_job_says_so(self, api):
        job_id = await api.job("one")
        await api.until(job_id, "finished")
        answer = await told(api, job_id)
        assert (answer.result, answer.reason) == ("denied", "policy_denied")
        assert answer.sentence.startswith("Policy denied the job: ")
