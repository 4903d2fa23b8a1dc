"""What a real API server gives no hold of; everything else of the Lease is tested with one in tests/cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.lease import LeaderLease, LeaseTiming


class Access:
    """As the real one, for plain HTTP and without credentials."""

    tls = server_name = proxy = None
    generation = 0

    def __init__(self, host: str) -> None:
        self.host = host

    async def headers(self) -> dict[str, str]:
        return {}


PATIENT = LeaseTiming(duration=120.0, renew=40.0, deadline=80.0, retry=20.0)


class Place:
    """One Lease. A write happens at once, and its answer comes when it is let go."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] = {"metadata": {"name": "leader", "resourceVersion": "1"}}
        self.holders: list[str] = []
        self.written, self.let_go = asyncio.Event(), asyncio.Event()
        self.status = 200

    async def handle(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            given = await request.json()
            version = self.lease["metadata"]["resourceVersion"]
            if self.status == 200 and given["metadata"]["resourceVersion"] != version:
                return web.json_response({"kind": "Status", "code": 409, "reason": "Conflict"}, status=409)
            if self.status == 200:
                version = str(int(version) + 1)
                self.lease = {**given, "metadata": {**given["metadata"], "resourceVersion": version}}
                self.holders.append(given["spec"]["holderIdentity"])
            self.written.set()
            await self.let_go.wait()
            return web.json_response(self.lease if self.status == 200 else {}, status=self.status)
        return web.json_response(self.lease)


@pytest.fixture
async def place() -> Place:
    return Place()


@pytest.fixture
async def lease(place: Place) -> AsyncIterator[LeaderLease]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", place.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ApiClient(Access(f"http://127.0.0.1:{runner.addresses[0][1]}"), timeout=60) as client:
        yield LeaderLease(client, "runners", "leader", "one", PATIENT)
    await runner.cleanup()


@pytest.mark.parametrize(("status", "holders"), [(200, ["one", ""]), (409, []), (503, [])])
async def test_who_is_told_to_end_while_it_takes_the_lease_gives_it_back(
    place: Place, lease: LeaderLease, status: int, holders: list[str]
) -> None:
    place.status = status
    task = asyncio.create_task(lease.acquire())
    async with asyncio.timeout(30):
        await place.written.wait()
    task.cancel()
    place.let_go.set()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert place.holders == holders


@pytest.mark.parametrize(("taken_by", "holders"), [("one", ["one", "one", ""]), ("two", ["one", "one"])])
async def test_who_is_told_to_end_while_it_renews_the_lease_gives_it_back(
    place: Place, lease: LeaderLease, taken_by: str, holders: list[str]
) -> None:
    """The renewal was written and nobody heard of it, so that the Lease is another version than the one we know."""
    lease._timing = replace(PATIENT, renew=0.0)
    place.let_go.set()
    await lease.acquire()
    place.let_go.clear()
    place.written.clear()
    keeping = asyncio.create_task(lease.keep())
    async with asyncio.timeout(30):
        await place.written.wait()
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    place.let_go.set()
    place.lease["spec"]["holderIdentity"] = taken_by
    await lease.release()
    assert place.holders == holders
