"""Bad input over real sockets: each is refused with a reason, promptly, and without repeating it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging

import aiohttp
import pytest

from orchestrator.model.job import JobId
from orchestrator.server.deps import Limits

CANARY = "c4n4ry-Zx81"
GOOD = {"name": "build", "script": "true"}


async def pools(api, connection):
    """The status of the answer to the operator, on a connection that stays open."""
    reader, writer = connection
    token = api.operator["Authorization"]
    writer.write(f"GET /v1/pools HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    await reader.readexactly(next(int(line[15:]) for line in answer if line.startswith("Content-Length:")))
    return int(answer[0].split()[1])


def job(**changes):
    try:
        return json.dumps(GOOD | changes, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(GOOD | changes).encode()


async def post(api, body, *, headers=None, content_type="application/json"):
    headers = api.operator | {"Idempotency-Key": "k", "Content-Type": content_type} | (headers or {})
    answer = await api.client.post(f"{api.url}/v1/jobs", data=body, headers=headers)
    text = await answer.text()
    assert CANARY not in text
    return answer.status, json.loads(text)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "json_malformed"),
        (b"{" + CANARY.encode(), "json_malformed"),
        (b'{"name": "a", "name": "b", "script": "true"}', "json_malformed"),
        (b'{"name": "a", "script": "true", "environment": {"A": "1", "A": "2"}}', "json_malformed"),
        (job(timeout_seconds=float("nan")), "json_malformed"),
        (job(timeout_seconds=float("inf")), "json_malformed"),
        (b'{"name": "a", "script": "x", "timeout_seconds": 1e999}', "json_malformed"),
        (b'{"name": "a", "script": "x", "timeout_seconds": ' + b"9" * 5000 + b"}", "json_malformed"),
        (b"[" * 100_000, "json_malformed"),
        (b'{"a":' * 50_000, "json_malformed"),
        (b'{"name": "\xff\xfe", "script": "true"}', "json_malformed"),
        ('{"name": "a", "script": "true"}'.encode("utf-16"), "json_malformed"),
        (b"\xef\xbb\xbf" + job(), "json_malformed"),
    ],
)
async def test_what_is_not_strict_json_is_refused(api, body, reason):
    status, document = await post(api, body)
    assert (status, document["reason"]) == (400, reason)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", "#"),
        (b"null", "#"),
        (b"{}", "#/name"),
        (job(name=f"bad\n{CANARY}"), "#/name"),
        (job(name="build\n"), "#/name"),
        (job(name="x" * 129), "#/name"),
        (job(script=""), "#/script"),
        (job(script=f"echo \0{CANARY}"), "#/script"),
        (job(script="\ud800"), "#/script"),
        (job(script="x" * (256 * 1024 + 1)), "#/script"),
        (job(script="\u00e9" * (140 * 1024)), "#/script"),
        (job(pool="../etc"), "#/pool"),
        (job(timeout_seconds="60"), "#/timeout_seconds"),
        (job(timeout_seconds=True), "#/timeout_seconds"),
        (job(timeout_seconds=-1), "#/timeout_seconds"),
        (job(timeout_seconds=1.5), "#/timeout_seconds"),
        (job(environment={"1A": "x"}), "#/environment"),
        (job(environment={"A=B": "x"}), "#/environment"),
        (job(environment={"A\n": "x"}), "#/environment"),
        (job(environment={"ORCHESTRATOR_TOKEN": CANARY}), "#/environment"),
        (job(environment={"LD_PRELOAD": CANARY}), "#/environment"),
        (job(environment={"A": f"{CANARY}\0"}), "#/environment"),
        (job(environment={"A": 1}), "#/environment"),
        (job(environment={f"A{n}": "x" for n in range(257)}), "#/environment"),
        (job(environment={f"A{n}": "x" * 30_000 for n in range(3)}), "#/environment"),
        (job(claimed={"a": {"b": "c"}}), "#/claimed"),
        (job(claimed={f"a{n}": "x" for n in range(65)}), "#/claimed"),
        (job(artifact_digest="sha256:abc"), "#/artifact_digest"),
        (job(deployment_environment="a\x1b[31m"), "#/deployment_environment"),
        (job(surprise=CANARY), "#/surprise"),
    ],
)
async def test_what_does_not_fit_the_schema_is_named_by_place_not_by_value(api, body, pointer):
    status, document = await post(api, body)
    assert (status, document["reason"]) == (422, "validation_failed")
    assert pointer in [error["pointer"] for error in document["errors"]]
    assert not await api.journal.live()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "idempotency_key_invalid"),
        ('""', "idempotency_key_invalid"),
        ("a b", "idempotency_key_invalid"),
        ('"open', "idempotency_key_invalid"),
        ('"a";p=1', "idempotency_key_invalid"),
        ("x" * 256, "idempotency_key_invalid"),
        ("k\u00e9", "idempotency_key_invalid"),
    ],
)
async def test_a_bad_idempotency_key_is_refused(api, key, reason):
    status, document = await post(api, job(), headers={"Idempotency-Key": key})
    assert (status, document["reason"]) == (400, reason)


async def test_a_missing_or_doubled_key_is_refused(api):
    url = f"{api.url}/v1/jobs"
    missing = await api.client.post(url, json=GOOD, headers=api.operator)
    assert (missing.status, (await missing.json())["reason"]) == (400, "idempotency_key_missing")
    headers = [*api.operator.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    doubled = await api.client.post(url, json=GOOD, headers=headers)
    assert (doubled.status, (await doubled.json())["reason"]) == (400, "idempotency_key_invalid")


async def test_two_authorization_headers_are_refused(api):
    headers = [*api.operator.items(), ("Authorization", "Bearer other"), ("Idempotency-Key", "a")]
    answer = await api.client.post(f"{api.url}/v1/jobs", json=GOOD, headers=headers)
    assert (answer.status, (await answer.json())["reason"]) == (401, "token_malformed")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_another_media_type_is_refused(api, content_type):
    status, document = await post(api, job(), content_type=content_type)
    assert (status, document["reason"]) == (415, "media_type_unsupported")


async def test_a_compressed_body_is_refused_unread(api):
    status, document = await post(api, b"\x1f\x8b" + b"\0" * 100, headers={"Content-Encoding": "gzip"})
    assert (status, document["reason"]) == (415, "media_type_unsupported")


async def test_oversized_bodies_are_refused_with_and_without_a_length(api):
    status, document = await post(api, io.BytesIO(b" " * ((1 << 20) + 1)))
    assert (status, document["reason"]) == (413, "body_too_large")

    async def endless():
        for _ in range(40):
            yield b" " * 65536

    answer = await api.client.post(
        f"{api.url}/v1/jobs",
        data=endless(),
        headers=api.operator | {"Idempotency-Key": "k", "Content-Type": "application/json"},
    )
    assert (answer.status, (await answer.json())["reason"]) == (413, "body_too_large")


def head(api, *lines: str) -> bytes:
    token = api.operator["Authorization"]
    base = ("POST /v1/jobs HTTP/1.1", "Host: x", f"Authorization: {token}", "Idempotency-Key: k")
    return "\r\n".join((*base, "Content-Type: application/json", *lines, "", "")).encode()


async def test_a_body_that_stops_is_cut_off_in_time(api):
    got = await api.raw(head(api, "Content-Length: 100") + b'{"name":')
    assert got.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in got


async def test_broken_chunks_are_refused(api):
    got = await api.raw(head(api, "Transfer-Encoding: chunked", "Connection: close") + b"ZZ\r\n" + CANARY.encode())
    assert got.startswith(b"HTTP/1.0 400")  # refused by the parser, before a handler
    assert CANARY.encode() not in got


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00" + b"\0" * 64,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nbad header %s\r\n\r\n" % CANARY.encode(),
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: %s\r\n\r\n" % (CANARY.encode() * 4000),
        b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (CANARY.encode() * 2000),
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100)) + b"\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_broken_http_is_a_problem_that_quotes_nothing_there_or_in_the_log(api, data, caplog):
    with caplog.at_level(logging.DEBUG):
        got = await api.raw(data)
    assert got.startswith(b"HTTP/1.0 400"), got[:200]
    assert json.loads(got.partition(b"\r\n\r\n")[2])["reason"] == "request_malformed"
    assert b"Server: orchestrator" in got
    assert CANARY.encode() not in got
    assert CANARY not in caplog.text


class TestSlowHeaders:
    @pytest.fixture
    def limits(self):
        return Limits(idle_seconds=0.3, max_connections=2)

    async def test_headers_that_never_end_are_cut_off(self, api):
        assert await api.raw(b"GET /healthz HTTP/1.1\r\nHost: ") == b""


class TestTwoConnections:
    @pytest.fixture
    def limits(self):
        return Limits(max_connections=2)

    async def test_over_the_limit_the_oldest_goes_that_is_nobodys(self, api):
        (first, _), *others = held = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(3)]
        assert await first.read() == b""
        for reader, writer in others:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readexactly(4) == b"HTTP"
        for _, writer in held:
            writer.close()


class TestFewConnections:
    MOST = 8

    @pytest.fixture
    def limits(self):
        return Limits(max_connections=self.MOST)

    async def test_nobody_in_particular_cannot_take_all_and_who_is_known_keeps_theirs(self, api, caplog):
        """A crowd of silent connections, as anybody on this machine can open them."""
        known = await asyncio.open_connection("127.0.0.1", api.port)
        assert await pools(api, known) == 200
        crowd = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(3 * self.MOST)]
        another = await asyncio.open_connection("127.0.0.1", api.port)
        assert await pools(api, another) == 200, "there is room for whoever can show who they are"
        crowd += [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(self.MOST)]
        assert [await pools(api, one) for one in (known, another)] == [200, 200], "and they stay"
        for reader, _ in crowd[: -self.MOST]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b"", "of the others those go that came first"
        for _, writer in (known, another, *crowd):
            writer.close()
        assert "connections closed to make room: 8 are open" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("TRACE", "/healthz", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/..%2f..%2fetc", 404, "job_not_found"),
        ("GET", "/v1/jobs/a.b.c", 404, "job_not_found"),
        ("GET", "/v1/jobs?limit=0", 400, "query_invalid"),
        ("GET", "/v1/jobs?limit=x", 400, "query_invalid"),
        ("GET", "/v1/jobs?limit=1&limit=2", 400, "query_invalid"),
        ("GET", "/v1/jobs?phaze=running", 400, "query_invalid"),
        ("GET", "/v1/jobs?phase=asleep", 400, "query_invalid"),
        ("GET", "/v1/pools?x=1", 400, "query_invalid"),
        ("DELETE", "/v1/jobs/a.b.1?reason=a%0ab", 400, "query_invalid"),
    ],
)
async def test_wrong_paths_methods_and_queries_are_problems(api, method, path, status, reason):
    answer = await api.client.request(method, api.url + path, headers=api.operator, skip_auto_headers=["User-Agent"])
    document = json.loads(await answer.text())
    assert (answer.status, document["reason"]) == (status, reason)
    if status == 405:
        assert answer.headers["Allow"]


async def test_an_expectation_we_cannot_meet_is_no_crash(api):
    got = await api.raw(head(api, "Content-Length: 2", "Expect: the-moon", "Connection: close") + b"{}")
    assert got.startswith(b"HTTP/1.1 417")


async def test_a_defect_is_500_with_a_reference_and_tells_nothing(api, caplog, monkeypatch):
    async def broken(_job_id):
        raise RuntimeError(f"secret {CANARY}")

    monkeypatch.setattr(api.journal, "facts_of", broken)
    answer = await api.client.get(f"{api.url}/v1/jobs/a.b.1", headers=api.operator)
    text = await answer.text()
    assert answer.status == 500
    assert CANARY not in text
    reference = json.loads(text)["reference"]
    assert any(reference in record.getMessage() and record.exc_info for record in caplog.records)


async def test_neither_token_nor_query_gets_into_the_access_log(api, caplog):
    caplog.set_level(logging.DEBUG)
    job_id = await api.job("k")
    await api.client.get(f"{api.url}/v1/jobs?x={CANARY}", headers=api.operator)
    await api.client.get(f"{api.url}/{CANARY}")
    lines = [record for record in caplog.records if record.name == "orchestrator.server.access"]
    assert [(line.operation, line.status) for line in lines] == [
        ("dispatch_job", 202), ("list_jobs", 400), ("", 404),
    ]  # fmt: skip
    ours = [str(record.__dict__) for record in caplog.records if record.name.startswith("orchestrator")]
    assert not any(CANARY in line or api.operator["Authorization"][7:40] in line for line in ours)
    assert api.engine.record(JobId(job_id)) is not None


class TestWhatHangsBehindUs:
    @pytest.fixture
    def limits(self):
        return Limits(request_timeout_seconds=0.3)

    async def test_a_dispatch_gets_503_and_the_retry_with_its_key_is_one_job(self, api, monkeypatch):
        append, stuck = api.journal.append, asyncio.Event()

        async def hang(facts):
            await stuck.wait()
            return await append(facts)

        monkeypatch.setattr(api.journal, "append", hang)
        answer = await api.dispatch("k")
        assert (answer.status, (await answer.json())["reason"]) == (503, "temporarily_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await api.client.get(f"{api.url}/healthz")).status == 200, "the loop turns"
        stuck.set()
        job_id = await api.job("k")
        listed = await (await api.client.get(f"{api.url}/v1/jobs", headers=api.operator)).json()
        assert [job["id"] for job in listed["jobs"]] == [job_id]

    async def test_a_stream_lives_longer_than_that(self, api):
        job_id = await api.job("k")
        async with asyncio.timeout(10):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.6):
                    answer = await api.client.get(f"{api.url}/v1/jobs/{job_id}/log?follow=true", headers=api.operator)
                    await answer.read()
                    pytest.fail("the stream ended")


async def test_stopping_waits_for_neither_a_follower_nor_half_a_request(api):
    job_id = await api.job("k")
    follower = await api.client.get(f"{api.url}/v1/jobs/{job_id}/events", headers=api.operator)
    _, half = await asyncio.open_connection("127.0.0.1", api.port)
    half.write(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    await half.drain()
    async with asyncio.timeout(7):
        await api.server.stop()
    with contextlib.suppress(aiohttp.ClientError):
        await follower.read()
    half.close()
