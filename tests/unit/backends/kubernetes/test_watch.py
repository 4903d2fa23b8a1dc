"""The watch against a server that is slow, wrong and forgetful. The client's own path is the real one, over HTTP."""

from __future__ import annotations

import asyncio
import json
import ssl

import pytest
from aiohttp import web

from orchestrator.backends.kubernetes import client as clients
from orchestrator.backends.kubernetes import watch as watches
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.watch import PodWatch, Timing
from orchestrator.errors import GiveUpError, TryAgainError


def pod(name: str, version: int, uid: str = "", phase: str = "Pending") -> dict:
    meta = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"kind": "Pod", "metadata": meta, "spec": {}, "status": {"phase": phase}}


def event(kind: str, thing: dict) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return event("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}})


def failure(code: int) -> dict:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": "Expired", "message": "too old"}


class Access:
    """As the real one, for plain HTTP and with credentials that change."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.tls: ssl.SSLContext | None = None
        self.server_name = self.proxy = None
        self.generation = 0

    async def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.generation}"}

    async def refresh(self, generation: int) -> None:
        self.generation = generation + 1


class Server:
    """Answers lists and watches from two queues; when they are empty, it has nothing and waits."""

    def __init__(self) -> None:
        self.lists: list = []
        self.watches: list = []
        self.asked: list[dict] = []
        self.changes: list = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.asked.append(query)
        if "watch" not in query:
            answer = self.lists.pop(0) if self.lists else listed(1)
            return web.json_response(answer, status=answer.get("code", 200))
        answer = self.watches.pop(0) if self.watches else []
        if isinstance(answer, dict):
            return web.json_response(answer, status=answer["code"])
        response = web.StreamResponse()
        await response.prepare(request)
        for part in answer:
            if part == "cut":
                request.transport.abort()
                return response
            if part == "end":
                return response
            await response.write(part)
        await asyncio.get_running_loop().create_future()
        return response

    def watched(self) -> list[str]:
        return [query["resourceVersion"] for query in self.asked if "watch" in query]


def listed(version: int, *pods: dict, more: str = "") -> dict:
    return {"kind": "PodList", "metadata": {"resourceVersion": str(version), "continue": more}, "items": list(pods)}


@pytest.fixture
async def server(monkeypatch):
    monkeypatch.setattr(watches, "_FIRST_DELAY", 0.001)
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def follow(server):
    """Start a watch; ended afterwards."""
    client = ApiClient(Access(server.url), timeout=5)
    tasks = []

    def start(timing: Timing | None = None) -> PodWatch:
        watch = PodWatch(client, "runners", "a=b", server.changes.append, timing)
        tasks.append(asyncio.ensure_future(watch.run()))
        return watch

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def told(server) -> list[tuple]:
    return [(one.old and one.old.name, one.new and one.new.name, one.seen) for one in server.changes]


async def test_a_list_in_pages_then_a_watch_from_its_version(server, follow):
    server.lists = [listed(9, pod("a", 3), more="next"), listed(10, pod("b", 4))]
    server.watches = [[event("ADDED", pod("c", 11)), event("MODIFIED", pod("a", 12)), event("DELETED", pod("b", 13))]]
    watch = follow()
    await until(lambda: watch.events == 3)
    assert set(watch.pods) == {"a", "c"}
    assert watch.live
    assert server.asked[0] == {"labelSelector": "a=b", "limit": "500"}
    assert server.asked[1]["continue"] == "next"
    first = server.asked[2]
    assert (first["resourceVersion"], first["allowWatchBookmarks"], first["watch"]) == ("10", "true", "1")
    assert 270 <= int(first["timeoutSeconds"]) <= 300
    # The last state of what is deleted is told before its end.
    assert told(server)[-2:] == [("b", "b", True), ("b", None, True)]


async def test_a_cut_watch_resumes_from_the_last_version_even_a_bookmark(server, follow):
    server.watches = [[event("ADDED", pod("a", 5)), "cut"], [bookmark(8), "cut"], [bookmark(9)]]
    watch = follow()
    await until(lambda: watch.events == 3)
    assert server.watched() == ["1", "5", "8"]
    assert watch.lists == 1


@pytest.mark.parametrize("gone", [[event("ERROR", failure(410))], failure(410)])
async def test_a_forgotten_version_leads_to_a_list_that_tells_the_differences(server, follow, gone):
    server.lists = [
        listed(5, pod("goes", 1), pod("stays", 2), pod("other", 3)),
        listed(9, pod("stays", 2), pod("other", 8, uid="x")),
    ]
    server.watches = [gone]
    watch = follow()
    await until(lambda: watch.lists == 2 and watch.live)
    assert told(server)[3:] == [("goes", None, False), ("other", None, False), (None, "other", True)]
    assert watch.pods["other"].uid == "x"
    assert server.watched()[-1] == "9"


async def test_a_continue_that_expires_begins_the_list_again_and_whole_in_the_end(server, follow):
    page = listed(5, pod("a", 1), more="next")
    server.lists = [page, failure(410), page, failure(410), page, failure(410), listed(7, pod("b", 1))]
    watch = follow()
    await until(lambda: watch.live)
    assert set(watch.pods) == {"b"}
    assert "limit" not in server.asked[6]


@pytest.mark.parametrize(
    "line",
    [
        b"no json at all\n",
        b"{}\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":7}}}\n',
        b'{"type":"STRANGE","object":{"metadata":{"name":"a","uid":"u","resourceVersion":"5"}}}\n',
        b'{"type":"ERROR","object":[]}\n',
        b'{"type":"ERROR","object":{"code":"x"}}\n',
        b"\xff\xfe\n",
        b"x" * 5000 + b"\n",
    ],
)
async def test_a_line_that_cannot_be_understood_is_not_skipped(server, follow, monkeypatch, line):
    monkeypatch.setattr(clients, "MAX_LINE", 4000)
    server.lists = [listed(1), listed(9, pod("a", 8))]
    server.watches = [[line]]
    watch = follow()
    await until(lambda: watch.lists == 2 and watch.live)
    assert set(watch.pods) == {"a"}


async def test_half_a_line_is_no_event(server, follow):
    whole = event("ADDED", pod("a", 5))
    server.watches = [[whole[:40], whole[40:], event("ADDED", pod("b", 6))[:-10], "end"], [bookmark(7)]]
    watch = follow()
    await until(lambda: watch.events == 2)
    assert set(watch.pods) == {"a"}
    assert server.watched()[1] == "5"


async def test_silence_ends_a_watch(server, follow):
    watch = follow(Timing(watch=60, idle=0.05))
    await until(lambda: len(server.watched()) >= 3)
    assert "in time" in watch.error or watch.live


async def test_a_server_that_ends_every_watch_at_once_is_not_hammered(server, follow, monkeypatch):
    monkeypatch.setattr(watches, "_FIRST_DELAY", 0.05)
    server.watches = [["end"]] * 100
    watch = follow(Timing(watch=60))
    await asyncio.sleep(0.5)
    assert 1 < len(server.watched()) < 8
    assert watch._failures > 1


async def test_a_version_that_never_works_is_given_up_for_a_list(server, follow):
    """As after a restore of etcd: *too large resource version*, again and again."""
    server.watches = [failure(504)] * 3
    watch = follow()
    await until(lambda: watch.lists == 2 and watch.live)


async def test_a_list_without_a_version_or_without_sense_is_an_error(server, follow):
    server.lists = [{"items": []}, {"items": 7}, {"metadata": {"resourceVersion": "4"}, "items": None}]
    watch = follow()
    await until(lambda: watch.live)
    assert watch.lists == 1
    assert server.watched() == ["4"]


async def test_the_same_state_again_is_no_change(server, follow):
    server.lists = [listed(5, pod("a", 3)), listed(9, pod("a", 3))]
    server.watches = [[event("ERROR", failure(410))]]
    watch = follow()
    await until(lambda: watch.lists == 2 and watch.live)
    assert told(server) == [(None, "a", True)]


async def test_an_answer_that_is_too_large_is_not_read(server, monkeypatch):
    monkeypatch.setattr(clients, "MAX_ANSWER", 100)
    server.lists = [listed(1, *(pod(f"p{n}", n) for n in range(50)))]
    async with ApiClient(Access(server.url)) as client:
        with pytest.raises(TryAgainError) as large:
            await client.request("GET", "/api/v1/pods")
    assert large.value.reason == "api_unavailable"


async def test_refused_credentials_are_renewed_once_and_every_try_is_counted(server):
    server.lists = [{"code": 401}, listed(1)]
    async with ApiClient(Access(server.url)) as client:
        await client.request("GET", "/x")
        assert client.requests == {"GET": 2}
        assert client.writes == 0
        server.lists = [{"code": 401}, {"code": 401}]
        with pytest.raises(TryAgainError) as refused:
            await client.request("DELETE", "/x")
        assert refused.value.reason == "api_unauthorized"
        server.lists = [{"code": 302}]
        with pytest.raises((TryAgainError, GiveUpError)):
            await client.request("GET", "/x")
        assert client.writes == 2


async def test_a_server_that_is_not_there_is_unavailable():
    async with ApiClient(Access("http://127.0.0.1:9"), timeout=1) as client:
        with pytest.raises(TryAgainError) as away:
            await client.request("GET", "/x")
    assert away.value.reason == "api_unavailable"
