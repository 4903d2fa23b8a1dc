"""Answers that go wrong, one kind after the other."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest
from platform_clients import SETS

from orchestrator.testing.github.faults import Fault

GENERATE = "/generatejitconfig"


@pytest.mark.parametrize(
    ("fault", "status", "header"),
    [
        (Fault.RATE_LIMITED, 429, ("Retry-After", "7")),
        (Fault.SECONDARY_LIMIT, 403, ("Retry-After", "7")),
        (Fault.LIMIT_USED_UP, 403, ("x-ratelimit-remaining", "0")),
        (Fault.BAD_GATEWAY, 502, ("Content-Type", "text/html; charset=utf-8")),
        (Fault.UNAVAILABLE, 503, None),
        (Fault.UNAUTHORIZED, 401, None),
        (Fault.FORBIDDEN, 403, None),
        (Fault.NOT_FOUND, 404, None),
        (Fault.TEXT, 500, ("Content-Type", "text/plain; charset=utf-8")),
        (Fault.EMPTY, 500, ("Content-Length", "0")),
    ],
)
async def test_refusals_do_nothing_and_are_used_up(github, listener, fault, status, header):
    one = await listener.make_set()
    rule = github.faults.add(fault, GENERATE, times=2, seconds=7)
    for _ in range(2):
        answer = await listener.generate(one["id"], "r-1")
        assert answer.status == status
        if header:
            assert answer.headers[header[0]] == header[1]
    assert rule.times == 0
    assert github.state.runners == {}
    assert (await listener.generate(one["id"], "r-1")).status == 200


async def test_the_limit_of_the_rest_api_says_when_it_ends(github, listener):
    github.faults.add(Fault.LIMIT_USED_UP, "GET /repos/{owner}/{repo}", seconds=30)
    answer = await listener.rest("GET", "/repos/acme/shop")
    assert float(answer.headers["x-ratelimit-reset"]) - time.time() == pytest.approx(30, abs=3)
    assert answer.headers["x-ratelimit-resource"] == "core"


async def test_done_and_yet_500(github, listener):
    one = await listener.make_set()
    github.faults.add(Fault.DONE_BUT_500, GENERATE)
    assert (await listener.generate(one["id"], "r-1")).status == 500
    assert (await listener.generate(one["id"], "r-1")).status == 409
    assert [runner.name for runner in github.state.runners.values()] == ["r-1"]


async def test_done_and_cut(github, listener):
    one = await listener.make_set()
    github.faults.add(Fault.DONE_BUT_RESET, GENERATE)
    with pytest.raises(aiohttp.ClientError):
        await listener.generate(one["id"], "r-1")
    assert len(github.state.runners) == 1


async def test_a_byte_order_mark(github, listener):
    one = await listener.make_set()
    github.faults.add(Fault.BOM, "GET /_apis/runtime/runnerscalesets/{id}")
    answer = await listener.ask("GET", f"{SETS}/{one['id']}")
    assert answer.body.startswith(b"\xef\xbb\xbf{")
    assert json.loads(answer.body.decode("utf-8-sig"))["id"] == one["id"]


async def test_a_truncated_body_and_no_json(github, listener):
    one = await listener.make_set()
    github.faults.add(Fault.TRUNCATED, "runnerscalesets/{id}")
    with pytest.raises(aiohttp.ClientError):
        await listener.ask("GET", f"{SETS}/{one['id']}")
    github.faults.add(Fault.GARBAGE, "runnerscalesets/{id}")
    with pytest.raises(json.JSONDecodeError):
        _ = (await listener.ask("GET", f"{SETS}/{one['id']}")).json


async def test_a_poll_is_reset_in_the_middle(github, listener):
    session = await listener.open((await listener.make_set())["id"])
    # Twice each time: aiohttp repeats a GET that was cut once by itself.
    github.faults.add(Fault.RESET, "GET /scalesets/message", seconds=0.01, times=2)
    with pytest.raises(aiohttp.ClientError):
        await listener.poll(session)
    waiting = asyncio.create_task(listener.poll(session))
    for polls in (3, 4):
        await github.until(lambda polls=polls: github.counters["GET /scalesets/message"] == polls)
        assert github.cut("GET /scalesets/message") == 1
    with pytest.raises(aiohttp.ClientError):
        await waiting


async def test_one_that_hangs_and_one_that_is_slow(github, listener):
    one = await listener.make_set()
    github.faults.add(Fault.HANG, GENERATE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await listener.generate(one["id"], "r-1")
    github.faults.add(Fault.DELAY, GENERATE, seconds=0.01)
    assert (await listener.generate(one["id"], "r-1")).status == 200


async def test_some_may_be_let_by_first(github, listener):
    one = await listener.make_set()
    github.faults.add(Fault.TEXT, GENERATE, skip=1)
    assert [(await listener.generate(one["id"], name)).status for name in ("a", "b", "c")] == [200, 500, 200]
    assert github.statuses[("POST /_apis/runtime/runnerscalesets/{id}/generatejitconfig", 500)] == 1


async def test_all_is_well_after_clear(github, listener):
    one = await listener.make_set()
    github.faults.add(Fault.TEXT, times=100)
    github.faults.zero_statistics = github.faults.empty_queue_url = True
    github.faults.clear()
    assert (await listener.open(one["id"]))["messageQueueUrl"]


async def test_answers_can_be_traced(github, listener):
    answer = await listener.ask("GET", SETS)
    assert answer.headers["ActivityId"]
    missing = await listener.ask("GET", f"{SETS}/1")
    assert missing.headers["ActivityId"] != answer.headers["ActivityId"]
    assert (await listener.rest("GET", "/repos/acme/none")).headers["X-GitHub-Request-Id"]


async def test_a_restart_keeps_the_port_and_the_state(github, listener):
    one, url = await listener.make_set(), github.url
    await github.stop()
    with pytest.raises(aiohttp.ClientError):
        await listener.ask("GET", SETS)
    await github.start()
    assert github.url == url
    assert (await listener.ask("GET", f"{SETS}/{one['id']}")).json["name"] == "zt"
