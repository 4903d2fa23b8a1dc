"""The whole daemon for tests: its rooms in this process, or the program itself as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from orchestrator.daemon.api import api_server
from orchestrator.daemon.operations.drain import Drain
from orchestrator.daemon.presence import Presence
from orchestrator.daemon.rooms import Rooms, open_rooms, prepare_state_dir
from orchestrator.identity.issuer import OPERATOR
from orchestrator.intake.dispatch import DispatchRequest, offer
from orchestrator.model.job import Caller, JobId
from orchestrator.server.app import bind_listener
from orchestrator.settings import Settings
from orchestrator.testing.otlp import OtlpReceiver

AUDIENCE = "https://cache.example"
POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "no_rule", "message": "nothing applies"}]}

decision := {"allow": true} if input.job.source == "dispatch"
"""
POLICY_TEST = """package orchestrator_test

import data.orchestrator

test_allow if orchestrator.decision.allow == true with input as {"job": {"source": "dispatch"}}

test_deny if orchestrator.decision.allow == false with input as {"job": {"source": "elsewhere"}}
"""


def write_bundle(folder: Path, policy: str = POLICY) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "decision.rego").write_text(policy)
    (folder / "decision_test.rego").write_text(POLICY_TEST)
    return folder


def document(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "state_dir": str(folder / "state"),
        "server": {"port": 0},
        "identity": {"audiences": {AUDIENCE: {}}},
        "policy": {"bundle": str(write_bundle(folder / "policy"))},
    } | more


@dataclass
class World:
    """Rooms and public API in this process; the receiver is where traces and relayed spans go."""

    rooms: Rooms
    url: str
    client: aiohttp.ClientSession
    receiver: OtlpReceiver
    state: Path

    @property
    def local(self) -> Caller:
        """The caller of the local issuer, as the command line is one."""
        return Caller(self.rooms.url, OPERATOR)

    @property
    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.rooms.issuer.mint_caller_token()[0]}"}

    async def offer(self, key: str, script: str, caller: Caller | None = None, **spec: Any) -> JobId:
        request = DispatchRequest(name="job", script=script, stated={}, **{"pool": "default"} | spec)
        record, _ = await self.rooms.engine.offer(offer(request, key, caller or self.local))
        return record.id

    async def until(self, done: Callable[[], bool], seconds: float = 30) -> None:
        """Wait for something that follows from a fact."""
        moved = asyncio.Event()
        unsubscribe = self.rooms.journal.subscribe(lambda _facts: moved.set())
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    moved.clear()
                    try:
                        async with asyncio.timeout(0.05):
                            await moved.wait()
                    except TimeoutError:
                        continue
        finally:
            unsubscribe()

    async def finished(self, job_id: JobId) -> None:
        await self.until(lambda: self.rooms.engine.record(job_id) is None)

    async def get(self, path: str, **headers: str) -> str:
        async with self.client.get(self.url + path, headers=self.operator | headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.text()

    async def log(self, job_id: JobId) -> str:
        return await self.get(f"/v1/jobs/{job_id}/log")


@pytest.fixture
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Its parameter, if any, are settings."""
    async with opened(tmp_path, **getattr(request, "param", {})) as made:
        yield made


@pytest.fixture
def open_world(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[World]]:
    """For settings that are known only when the test runs."""
    return partial(opened, tmp_path)


@asynccontextmanager
async def opened(folder: Path, **given: Any) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(OtlpReceiver())
        settings = Settings(**document(folder, telemetry={"otlp_endpoint": receiver.endpoint}, **given))
        prepare_state_dir(settings.state_dir)
        listener = bind_listener("127.0.0.1", 0)
        stack.callback(listener.close)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        rooms = await open_rooms(settings, url, stack)
        stack.callback(rooms.journal.subscribe(rooms.metrics.observe))
        stack.callback(rooms.journal.subscribe(rooms.egress_keeper.observe))
        stack.callback(rooms.journal.subscribe(rooms.static_secrets.holders.observe))
        stack.callback(rooms.journal.subscribe(rooms.accounts.keeper.observe))
        rooms.exporter.start()
        stack.push_async_callback(rooms.exporter.stop)
        rooms.notifications.start(rooms.journal, stack)
        server = api_server(rooms, Drain(), Presence(settings.state_dir, url, rooms.issuer))
        await server.serve(listener)
        stack.push_async_callback(server.stop)
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(rooms, url, client, receiver, settings.state_dir)


class Program:
    """`orchestrator run` as an operator starts it; `end` it, or the test's own ending does."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.config = folder / "orchestrator.yaml"
        self.write(**settings)
        self.errors = folder / "stderr"
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, **settings: Any) -> None:
        self.config.write_text(yaml.safe_dump(document(self.folder, **settings)))

    def start(self, *, wait: bool = True, fault: str = "") -> Program:
        """With a `fault` that is Python to be done first."""
        begin = [sys.executable, "-m", "orchestrator"]
        if fault:
            begin[1:] = ["-c", f"import runpy\n{fault}\nrunpy.run_module('orchestrator', run_name='__main__')"]
        with self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*begin, "run", "--config", str(self.config)],
                stderr=errors,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        if wait:
            self.until(lambda: (self.folder / "state" / "daemon.json").exists())
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.errors.read_text().splitlines() if line.startswith("{")]

    def said(self, words: str) -> dict[str, Any]:
        """The first line of the log with this message, once it is there."""
        self.until(lambda: any(words in line["event"] for line in self.log))
        return next(line for line in self.log if words in line["event"])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def until(self, done: Callable[[], bool], seconds: float = 30) -> None:
        limit = time.monotonic() + seconds
        while not done():
            if self.process.poll() is not None:
                pytest.fail(f"the daemon ended with {self.process.returncode}: {self.errors.read_text()}")
            if time.monotonic() > limit:
                pytest.fail(f"waited {seconds} s in vain: {self.errors.read_text()}")
            time.sleep(0.02)

    def end(self) -> int:
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    made: list[Program] = []

    def make(**settings: Any) -> Program:
        made.append(Program(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        if one._process is not None:
            one.end()


@dataclass
class Bundle:
    """The policy that the daemon of this test was started with; write another one over it."""

    folder: Path
    policy: str = POLICY

    def write(self, policy: str) -> None:
        write_bundle(self.folder, policy)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path / "policy")
