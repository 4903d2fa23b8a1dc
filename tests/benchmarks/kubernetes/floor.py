"""The floor: what server and machine allow. Raw aiohttp: create the pod, watch it to its end, delete it, see it gone.

No product: no journal, no policy, no identity, no names to find again, no second try. The pods' documents are the
product's own. `ClaimedFloor` is that and what the runner API cannot leave out: each pod claims once over TLS, and the
API server says whose its token is.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from orchestrator.backends.kubernetes.access import Access
from orchestrator.backends.kubernetes.config import RUNNER_AUDIENCE, KubernetesConfig, KubernetesPool
from orchestrator.backends.kubernetes.manifest import pod_document
from orchestrator.model.job import JobId
from orchestrator.model.runner import RunnerName, RunnerSpec


class _Meta(msgspec.Struct):
    name: str = ""


class _Status(msgspec.Struct):
    phase: str = ""


class _Pod(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    status: _Status = msgspec.field(default_factory=_Status)


class _Event(msgspec.Struct):
    type: str
    object: _Pod


class _Answer(msgspec.Struct):
    authenticated: bool = False


class _Review(msgspec.Struct):
    status: _Answer


_REVIEW = msgspec.json.Decoder(_Review)
_WORK = msgspec.json.encode({"script": "make wheel", "environment": {"CI": "true"}})
_EVENT = msgspec.json.Decoder(_Event)
_DELETE = b'{"kind":"DeleteOptions","apiVersion":"v1"}'


class Floor:
    """`job` takes one pod from creation to gone. `start` first, `close` last."""

    def __init__(self, access: Access, pool: KubernetesPool, config: KubernetesConfig) -> None:
        spec = RunnerSpec(RunnerName("name"), JobId("bench.1.1"), pool.name, (), 3720)
        self._document: dict[str, Any] = pod_document(spec, pool, config)
        self._access = access
        self._review_url = f"{access.host}/apis/authentication.k8s.io/v1/tokenreviews"
        self._url = f"{access.host}/api/v1/namespaces/{pool.namespace}/pods"
        self._waiting: dict[str, dict[str, asyncio.Event]] = {}
        self._prefix = f"floor-{os.getpid()}-"
        self._number = 0

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=66, ssl=self._access.tls or True)
        self._session = aiohttp.ClientSession(connector=connector, headers=await self._access.headers())
        began = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._watch(began))
        await began.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._session.close()

    async def job(self) -> None:
        self._number += 1
        name = f"{self._prefix}{self._number}"
        ended, gone = asyncio.Event(), asyncio.Event()
        self._waiting[name] = {"Succeeded": ended, "DELETED": gone}
        body = msgspec.json.encode({**self._document, "metadata": {**self._document["metadata"], "name": name}})
        async with self._session.post(self._url, data=body, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 201, await answer.text()
            await answer.read()
        await ended.wait()
        url = f"{self._url}/{name}"
        async with self._session.delete(url, data=_DELETE, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
        await gone.wait()
        del self._waiting[name]

    async def _watch(self, began: asyncio.Event) -> None:
        async with self._session.get(self._url, params={"limit": "1"}) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3600"}
        endless = aiohttp.ClientTimeout(total=None)
        async with self._session.get(self._url, params=params, timeout=endless) as answer:
            began.set()
            held = b""
            async for part in answer.content.iter_any():
                *lines, held = (held + part).split(b"\n")
                for line in lines:
                    self._hear(_EVENT.decode(line))

    def _hear(self, event: _Event) -> None:
        events = self._waiting.get(event.object.metadata.name)
        word = "DELETED" if event.type == "DELETED" else event.object.status.phase
        if events is not None and word in events:
            events[word].set()


class ClaimedFloor(Floor):
    """`serve` before the first job."""

    async def serve(self, port: int, context: ssl.SSLContext) -> None:
        self._server = web.Server(self._claim, access_log=None)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._server, "127.0.0.1", port, ssl=context, backlog=1024)

    async def close(self) -> None:
        self._listener.close()
        await self._server.shutdown(1.0)
        await super().close()

    async def _claim(self, request: web.BaseRequest) -> web.Response:
        await request.read()
        token = request.headers["Authorization"].removeprefix("Bearer ")
        spec = {"token": token, "audiences": [RUNNER_AUDIENCE]}
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        sent = {"data": msgspec.json.encode(review), "headers": {"Content-Type": "application/json"}}
        async with self._session.post(self._review_url, **sent) as answer:
            known = _REVIEW.decode(await answer.read()).status.authenticated
        return web.Response(body=_WORK, content_type="application/json", status=200 if known else 401)
