"""Logs and events that stay open: complete, in order, ended with the job, and cut when the reader is slow."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from orchestrator.model.events import AlarmRaised, LogClosed
from orchestrator.model.job import JobId
from orchestrator.server.deps import Limits


def parse_sse(text: str) -> list[dict]:
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] not in (":", ""))
        if "data" in fields:
            data = json.loads(fields["data"])
            assert (int(fields["id"]), fields["event"]) == (data["seq"], data["kind"])
            events.append(data)
    return events


async def test_a_log_is_read_from_an_offset(api):
    job_id = await api.job("k")
    await api.logs.write(job_id, b"0123456789")
    url = f"{api.url}/v1/jobs/{job_id}/log"
    answer = await api.client.get(url, headers=api.operator)
    assert (await answer.read(), answer.content_type) == (b"0123456789", "text/plain")
    assert await (await api.client.get(f"{url}?offset=7", headers=api.operator)).read() == b"789"
    assert await (await api.client.get(f"{url}?offset=99", headers=api.operator)).read() == b""


async def test_a_followed_log_grows_and_ends_when_the_log_is_closed(api):
    job_id = await api.job("k")
    await api.run(job_id)
    async with api.client.get(f"{api.url}/v1/jobs/{job_id}/log?follow=true", headers=api.operator) as answer:
        for number in range(3):
            line = b"line %d\n" % number
            await api.logs.write(job_id, line)
            assert await answer.content.readexactly(len(line)) == line
        await api.logs.write(job_id, b"last")
        await api.engine.note(JobId(job_id), LogClosed(25, 0, 0))
        assert await answer.content.read() == b"last"


async def test_following_a_finished_or_cancelled_job_returns(api):
    job_id = await api.job("k")
    async with api.client.get(f"{api.url}/v1/jobs/{job_id}/log?follow=true", headers=api.operator) as answer:
        await api.engine.cancel(JobId(job_id), "me")
        assert await answer.content.read() == b""
    await api.until(job_id, "finished")
    again = await api.client.get(f"{api.url}/v1/jobs/{job_id}/log?follow=true", headers=api.operator)
    assert await again.read() == b""


async def test_events_tell_every_fact_once_in_order_and_end_with_the_job(api):
    job_id = await api.job("k", script="echo hidden-script", environment={"A": "hidden-value"})
    url = f"{api.url}/v1/jobs/{job_id}/events"
    async with api.client.get(f"{url}?follow=true", headers=api.operator) as answer:
        assert answer.content_type == "text/event-stream"
        await api.run(job_id)
        await api.finish(job_id)
        text = (await answer.content.read()).decode()
    facts = await api.journal.facts_of(JobId(job_id))
    events = parse_sse(text)
    assert [event["seq"] for event in events] == [fact.seq for fact in facts]
    assert [event["kind"] for event in events] == [type(fact.event).__name__ for fact in facts]
    assert events[-1]["kind"] == "JobFinished"
    assert "hidden" not in text
    resumed = await api.client.get(url, headers=api.operator | {"Last-Event-ID": str(facts[2].seq)})
    assert [event["seq"] for event in parse_sse(await resumed.text())] == [fact.seq for fact in facts[3:]]


async def test_an_idle_event_stream_has_a_heartbeat(api):
    job_id = await api.job("k")
    await api.run(job_id)
    async with api.client.get(f"{api.url}/v1/jobs/{job_id}/events?follow=true", headers=api.operator) as answer:
        async with asyncio.timeout(20):
            while await answer.content.readline() != b": alive\n":
                pass


async def test_streams_end_when_the_server_stops(api):
    job_id = await api.job("k")
    await api.run(job_id)
    async with api.client.get(f"{api.url}/v1/jobs/{job_id}/log?follow=true", headers=api.operator) as answer:
        async with asyncio.timeout(15):
            await api.server.stop()
            # Cut, not closed: a part must not be taken for the whole.
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()


class TestFewStreams:
    @pytest.fixture
    def limits(self):
        return Limits(max_streams=1, heartbeat_seconds=0.1)

    async def test_one_stream_too_many_is_503_and_a_place_comes_free(self, api):
        job_id = await api.job("k")
        await api.run(job_id)
        url = f"{api.url}/v1/jobs/{job_id}/events?follow=true"
        async with api.client.get(url, headers=api.operator):
            full = await api.client.get(url, headers=api.operator)
            assert (full.status, (await full.json())["reason"]) == (503, "too_many_streams")
            assert full.headers["Retry-After"] == "5"
        async with asyncio.timeout(20):
            while True:  # the heartbeat finds out that the reader has gone
                answer = await api.client.get(url, headers=api.operator)
                answer.close()
                if answer.status == 200:
                    return
                await asyncio.sleep(0.05)


class TestSlowReader:
    @pytest.fixture
    def limits(self):
        return Limits(write_timeout_seconds=0.3, heartbeat_seconds=0.2)

    async def test_a_reader_that_takes_nothing_is_cut_off(self, api):
        job_id = await api.job("k")
        await api.logs.write(job_id, b"x" * (32 << 20))
        connections = lambda: len(api.server._runner.server.connections)  # noqa: E731
        before = connections()
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1024)
        token = api.operator["Authorization"]
        request = f"GET /v1/jobs/{job_id}/log HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"
        writer.write(request.encode())
        try:
            await reader.readline()
            assert connections() == before + 1
            async with asyncio.timeout(20):
                while connections() > before:
                    await asyncio.sleep(0.05)
        finally:
            writer.close()

    async def test_a_buffer_that_overflows_ends_the_stream_and_the_rest_can_be_read_later(self, api):
        job_id = await api.job("k")
        await api.run(job_id)
        detail = "d" * 2000
        url = f"{api.url}/v1/jobs/{job_id}/events"
        async with api.client.get(f"{url}?follow=true", headers=api.operator) as answer:
            await answer.content.readline()
            # One commit of more facts than the buffer holds.
            await api.engine.note(JobId(job_id), *(AlarmRaised("a", detail) for _ in range(1500)))
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()
        every = parse_sse(await (await api.client.get(url, headers=api.operator)).text())
        assert sum(event["kind"] == "AlarmRaised" for event in every) == 1500
