"""How far a runner is, before any fact tells: in the trace of a job that goes on, and to whoever follows it."""

from __future__ import annotations

import json

import pytest

from orchestrator.model.job import JobId
from orchestrator.model.journey import Journey, RunnerPlace, RunnerStage, StageBegan, TimeSource
from orchestrator.server.stage_marks import StageMarks
from orchestrator.telemetry.stages import STAGE_NAMES

S = RunnerStage
PLACE = RunnerPlace("runners", "runner-1", "node-1", "registry.example/agent", "registry.example/build")


@pytest.fixture
async def job_id(api):
    """A job whose runner is made and has not claimed."""
    job_id = await api.job("k")
    await api.until(job_id, "binding")
    return job_id


def reach(api, job_id, *stages):
    record = api.engine.record(JobId(job_id))
    begun = (StageBegan(stage, record.phase_since_ns + number, TimeSource.API) for number, stage in enumerate(stages))
    api.backend.journeys[record.runner] = Journey(record.runner_uid, tuple(begun), PLACE)


async def below(api, job_id, phase):
    """Name and whether it is open, of each span below the phase."""
    trace = await (await api.client.get(f"{api.url}/v1/jobs/{job_id}/trace", headers=api.operator)).json()
    (parent,) = (span["span_id"] for span in trace["spans"] if span["name"] == phase)
    return {span["name"]: span["end_ns"] is None for span in trace["spans"] if span["parent_span_id"] == parent}


async def next_event(answer):
    """Its fields; comments are passed over."""
    while True:
        fields = {}
        while line := (await answer.content.readline()).decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        if "data" in fields:
            return fields


async def test_a_trace_has_the_stages_that_are_no_facts_yet(api, job_id):
    facts = await api.journal.facts_of(JobId(job_id))
    reach(api, job_id, S.SCHEDULE, S.PULL_AGENT)
    assert await below(api, job_id, "bind") == {"schedule": False, "image.pull": True}
    reach(api, job_id, S.SCHEDULE, S.PULL_AGENT, S.START)
    assert await below(api, job_id, "bind") == {"schedule": False, "image.pull": False, "start": True}
    assert await api.journal.facts_of(JobId(job_id)) == facts, "a look leaves nothing behind"


async def test_why_says_what_the_runner_is_at(api, job_id):
    async def sentence():
        answer = await api.client.get(f"{api.url}/v1/jobs/{job_id}/why", headers=api.operator)
        return (await answer.json())["sentence"]

    reach(api, job_id, S.SCHEDULE, S.PULL_AGENT)
    assert "gets the agent's image" in await sentence()
    reach(api, job_id, S.SCHEDULE, S.PULL_AGENT, S.START)
    assert "its agent has not yet proven its egress" in await sentence()
    await api.run(job_id)
    reach(api, job_id, S.SCHEDULE, S.PULL_AGENT, S.START, S.PULL_JOB)
    assert "gets the job's image" in await sentence()


async def test_a_trace_of_a_job_with_its_work_has_them_until_its_end(api, job_id):
    await api.run(job_id)
    reach(api, job_id, S.SCHEDULE, S.PULL_AGENT, S.START, S.PULL_JOB)
    assert await below(api, job_id, "execute") == {"image.pull": True}
    await api.finish(job_id)
    assert await below(api, job_id, "execute") == {"image.pull": False}


async def test_a_follower_is_told_each_stage_once_and_no_fact_less(api, job_id):
    url = f"{api.url}/v1/jobs/{job_id}/events?follow=true"
    facts = await api.journal.facts_of(JobId(job_id))
    async with api.client.get(f"{url}&stages=true", headers=api.operator) as answer:
        for fact in facts:
            assert (await next_event(answer))["id"] == str(fact.seq)
        for stages in ((S.SCHEDULE,), (S.SCHEDULE, S.PULL_AGENT)):
            reach(api, job_id, *stages)
            event = await next_event(answer)
            assert event.keys() == {"event", "data"}, "it is no fact from which anybody could go on"
            told = json.loads(event["data"])
            assert (event["event"], told["job_id"], told["machine"]) == ("stages", job_id, "node-1")
            assert [(one["name"], one["time_source"]) for one in told["stages"]] == [
                (name, "api") for name in ("schedule", "image.pull")[: len(stages)]
            ]
        await api.run(job_id)
        kinds = [(await next_event(answer))["event"] for _ in range(2)]
        assert kinds == ["RunnerObserved", "RunnerBound"], "nothing more of it: it is on record"
        await api.finish(job_id)
        assert b"event: stages" not in await answer.content.read()


async def test_as_many_stages_as_before_are_news_when_they_are_others(api, job_id):
    await api.run(job_id)
    marks = StageMarks(api.engine, JobId(job_id))
    assert not marks.news()
    for stages in ((S.SCHEDULE, S.PULL_AGENT), (S.START, S.PULL_JOB)):  # the first are on record by the second look
        reach(api, job_id, *stages)
        told = json.loads(marks.news().partition(b"data: ")[2])
        assert [one["name"] for one in told["stages"]] == [STAGE_NAMES[stage] for stage in stages]
        assert not marks.news()


async def test_who_does_not_ask_is_told_facts_only(api, job_id):
    async with api.client.get(f"{api.url}/v1/jobs/{job_id}/events?follow=true", headers=api.operator) as answer:
        reach(api, job_id, S.SCHEDULE)
        beats = 0
        while beats < 3:
            beats += await answer.content.readline() == b": alive\n"
        await api.run(job_id)
        await api.finish(job_id)
        assert b"event: stages" not in await answer.content.read()
