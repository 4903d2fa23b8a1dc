"""The two requests of a gateway over real HTTP: who may ask, what is bounded, how errors look."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web

from orchestrator.egress.batch import Batch, RunnerVerdict
from orchestrator.egress.hub import TableHub
from orchestrator.egress.table import decode_update
from orchestrator.errors import TryAgainError
from orchestrator.model.events import EgressDecided
from orchestrator.server.cluster.gateway_api import GatewayApi, GatewayLimits

VERDICT = EgressDecided("a.test", 443, "tls", True, "tls://a.test:443")
GOOD = {"Authorization": "Bearer good"}
TABLE, VERDICTS = "/gateway/v1/table", "/gateway/v1/verdicts"


@asynccontextmanager
async def serving(limits=None):
    """A client, the hub, and its verdicts."""
    verdicts = []
    hub = TableHub(lambda name, verdict: verdicts.append((name, verdict)), lambda misuse: None, max_age=2)

    async def authenticate(token):
        if token == "cluster-away":
            raise TryAgainError("the API server does not answer", reason="api_unavailable")
        if token == "slow":
            await asyncio.Event().wait()
        return {"good": "pod-1"}.get(token)

    api = GatewayApi(hub, authenticate, limits)
    runner = web.ServerRunner(web.Server(api.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(base) as client:
        try:
            yield client, hub, verdicts
        finally:
            await runner.cleanup()


@pytest.fixture
async def served():
    async with serving() as made:
        made[1].begin()
        yield made


async def problem(answer) -> tuple[int, str]:
    document = await answer.json(content_type="application/problem+json")
    assert document["status"] == answer.status
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status, document["reason"]


async def test_the_table(served):
    client, hub, _ = served
    hub.publish("r", "10.0.0.1", "a" * 64, [])
    async with client.get(TABLE, params={"gateway": "g", "after": ""}, headers=GOOD) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        update = decode_update(await answer.read())
    assert (update.full, [entry.name for entry in update.runners], update.max_age) == (True, ["r"], 2)
    waiting = asyncio.create_task(client.get(TABLE, params={"gateway": "g", "after": update.version}, headers=GOOD))
    gone = asyncio.create_task(hub.withdraw("r"))
    async with await waiting as answer:
        update = decode_update(await answer.read())
    assert update.gone == ("r",)
    async with client.get(TABLE, params={"gateway": "g", "after": update.version}, headers=GOOD):
        pass
    await asyncio.wait_for(gone, 5)


async def test_verdicts_once(served):
    client, hub, verdicts = served
    hub.publish("r", "10.0.0.1", "a" * 64, [])
    body = msgspec.json.encode(Batch("g", 1, (RunnerVerdict("r", VERDICT),)))
    headers = GOOD | {"Content-Type": "application/json"}
    for _ in range(2):
        async with client.post(VERDICTS, data=body, headers=headers) as answer:
            assert (answer.status, await answer.json()) == (200, {"batch": 1})
    assert verdicts == [("r", VERDICT)]


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 401, "token_missing"),
        ({"Authorization": "Bearer bad"}, 401, "token_invalid"),
        ({"Authorization": "Bearer "}, 401, "token_malformed"),
        ({"Authorization": "Basic good"}, 401, "token_missing"),
        ({"Authorization": "Bearer " + "x" * 110}, 401, "token_malformed"),
        ({"Authorization": "Bearer cluster-away"}, 503, "temporarily_unavailable"),
        ({"Authorization": "Bearer slow"}, 503, "temporarily_unavailable"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", TABLE), ("POST", VERDICTS)])
async def test_who_may_ask(headers, status, reason, method, path):
    async with serving(GatewayLimits(max_token_chars=100, authenticate_seconds=0.1)) as (client, hub, verdicts):
        hub.begin()
        hub.publish("r", "10.0.0.1", "a" * 64, [])
        async with client.request(method, path, headers=headers) as answer:
            assert await problem(answer) == (status, reason)
            assert ("WWW-Authenticate" in answer.headers) is (status == 401)
            assert ("Retry-After" in answer.headers) is (status == 503)
        assert hub.gateways == 0
        assert verdicts == []


@pytest.mark.parametrize(
    "query",
    [
        "", "gateway=", "gateway=a%20b", "gateway=g&gateway=g", "gateway=g&after=x&other=1", "gateway=" + "g" * 200,
        "gateway=g&after=" + "1" * 100,
    ],
)  # fmt: skip
async def test_bad_queries(served, query):
    client, _, _ = served
    async with client.get(f"{TABLE}?{query}", headers=GOOD) as answer:
        assert await problem(answer) == (400, "query_invalid")


@pytest.mark.parametrize(
    ("body", "content_type", "status", "reason"),
    [
        (b"{", "application/json", 422, "validation_failed"),
        (b'{"gateway":"g","batch":1,"verdicts":[{"runner":"r"}]}', "application/json", 422, "validation_failed"),
        (b"{}", "text/plain", 415, "media_type_unsupported"),
        (b" " * 5000, "application/json", 413, "body_too_large"),
    ],
)
async def test_bad_batches(body, content_type, status, reason):
    async with serving(GatewayLimits(max_batch_bytes=4096)) as (client, _, _):
        headers = GOOD | {"Content-Type": content_type}
        async with client.post(VERDICTS, data=body, headers=headers) as answer:
            assert await problem(answer) == (status, reason)


async def test_other_paths_and_methods(served):
    client, _, _ = served
    async with client.get("/gateway/v1/other", headers=GOOD) as answer:
        assert await problem(answer) == (404, "not_found")
    async with client.post(TABLE, headers=GOOD) as answer:
        assert await problem(answer) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET"


async def test_a_daemon_that_is_not_ready_says_so():
    async with serving() as (client, _, _), client.get(TABLE, params={"gateway": "g"}, headers=GOOD) as answer:
        assert await problem(answer) == (503, "table_not_ready")


async def test_a_slow_body_is_not_waited_for():
    async def slowly():
        yield b"{"
        await asyncio.sleep(5)

    async with serving(GatewayLimits(body_timeout_seconds=0.1)) as (client, _, _):
        headers = GOOD | {"Content-Type": "application/json"}
        async with client.post(VERDICTS, data=slowly(), headers=headers) as answer:
            assert await problem(answer) == (408, "body_too_slow")
