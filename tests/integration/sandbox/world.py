"""The sandbox backend's neighbours for tests: a gateway that refuses, a runner API, logs in memory; real sockets."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from dataclasses import dataclass, field

from aiohttp import web

from orchestrator.backends.sandbox.backend import SandboxBackend
from orchestrator.backends.sandbox.config import SandboxConfig, SandboxPool
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.runner import RunnerName, RunnerSpec, RunnerState, RunnerView, runner_name

MEBI = 1 << 20
SMALL = SandboxPool(
    workspace_bytes=32 * MEBI, tmp_bytes=16 * MEBI, shm_bytes=8 * MEBI, memory_bytes=128 * MEBI, max_processes=48
)


class Gateway:
    """Answers every request with `answer`; 403 as the real one does for a host no rule allows."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        self.seen: dict[str, list[bytes]] = {}
        self.rules: dict[str, tuple] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self.fail_close = 0

    async def open(self, runner, listener, rules) -> None:
        async def talk(reader, writer):
            try:
                self.seen.setdefault(runner, []).append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                await writer.drain()
            except (OSError, asyncio.IncompleteReadError):
                pass
            writer.close()

        self.rules[runner] = rules
        self._servers[runner] = await asyncio.start_server(talk, sock=listener)

    async def close(self, runner) -> None:
        if self.fail_close:
            self.fail_close -= 1
            raise OSError("the gateway is away")
        server = self._servers.pop(runner, None)
        if server is not None:
            server.close()

    @property
    def open_runners(self) -> set[str]:
        return set(self._servers)


class RunnerApi:
    """A runner API: gives out the script registered for a runner and keeps what it was told."""

    def __init__(self) -> None:
        self.scripts: dict[str, dict] = {}
        self.claims: list[dict] = []
        self.claimed_at: dict[str, float] = {}
        self.artifacts: list[dict] = []
        self.exchanges: list[dict] = []
        self.backend: SandboxBackend | None = None
        self.refusal: tuple[int, str] | None = None
        self.failures = 0
        self.endpoint = ""
        self._runners: dict[str, web.AppRunner] = {}

    async def serve(self, runner, uid, listener) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.post("/runner/v1/claim", functools.partial(self._claim, runner)),
                web.post("/runner/v1/token", self._exchange),
                web.post("/runner/v1/artifacts", self._artifact),
            ]
        )
        app_runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await app_runner.setup()
        await web.SockSite(app_runner, listener).start()
        self._runners[runner] = app_runner

    async def close(self, runner) -> None:
        app_runner = self._runners.pop(runner, None)
        if app_runner is not None:
            await app_runner.cleanup()

    async def _claim(self, runner, request):
        self.claimed_at[runner] = time.perf_counter()
        if self.failures:
            self.failures -= 1
            return web.json_response({"reason": "journal_unavailable"}, status=503)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        identity = await self.backend.verify(token) if self.backend else None
        claim = {"runner": runner, "identity": identity, "token": token, "proof": (await request.json())["proof"]}
        self.claims.append(claim)
        if self.refusal is not None:
            status, reason = self.refusal
            return web.json_response({"reason": reason}, status=status)
        if identity is None or identity.name != runner:
            return web.json_response({"reason": "runner_unknown"}, status=401)
        job = {"id": f"job-of-{runner}", "name": "test", "attempt": 1, "timeout_seconds": 60, "environment": {}}
        api = "http://127.0.0.1:3129/runner"
        return web.json_response(
            {
                "job": job | self.scripts[runner],
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "proxy_url": "http://127.0.0.1:3128",
                "exchange_url": f"{api}/v1/token",
                "artifacts_url": f"{api}/v1/artifacts",
                "token_file": "/run/orchestrator/token",
                "otlp_endpoint": self.endpoint,
            }
        )

    async def _exchange(self, request):
        form = dict(await request.post())
        self.exchanges.append(form)
        if form.get("audience") == "forbidden":
            return web.json_response({"error": "invalid_target", "error_description": "not for you"}, status=400)
        return web.json_response({"access_token": "an.id.token", "token_type": "N_A", "expires_in": 60})

    async def _artifact(self, request):
        self.artifacts.append(await request.json() | {"authorization": request.headers["Authorization"]})
        return web.json_response({}, status=201)


@dataclass
class Log:
    data: bytearray = field(default_factory=bytearray)
    closed: int = 0
    drained: int = 0
    most: int = 1 << 20

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.data += data[: max(0, self.most - len(self.data))]

    async def drain(self) -> None:
        self.drained += 1

    async def close(self) -> None:
        self.closed += 1


class Logs:
    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}

    def open(self, job_id):
        return self.logs.setdefault(job_id, Log())


def spec_of(number: int, pool: str = "default", deadline: int = 60) -> RunnerSpec:
    job = JobId(f"test.{number}.1")
    return RunnerSpec(runner_name(job), job, PoolName(pool), (), deadline)


class World:
    """A backend with its neighbours, and the few moves that most tests make."""

    def __init__(self, **settings) -> None:
        settings.setdefault("pools", {"default": SMALL})
        settings.setdefault("instance", f"test-{os.getpid()}")
        self.gateway, self.api, self.logs = Gateway(), RunnerApi(), Logs()
        self.config = SandboxConfig(**settings)
        self.backend = SandboxBackend(self.config, self.gateway, self.api, self.logs)
        self.api.backend = self.backend
        self.changed: asyncio.Event = asyncio.Event()
        self.backend.subscribe(lambda _name: self.changed.set())
        self._number = 0

    async def launch(self, script: str, deadline: int = 60, **job) -> RunnerSpec:
        self._number += 1
        spec = spec_of(self._number, deadline=deadline)
        self.api.scripts[spec.name] = {"script": script, **job}
        await self.backend.create(spec)
        return spec

    async def until(self, name: RunnerName, state: RunnerState, seconds: float = 30) -> RunnerView:
        async with asyncio.timeout(seconds):
            while True:
                self.changed.clear()
                view = await self.backend.inspect(name)
                if view.state is state:
                    return view
                await self.changed.wait()

    async def run(self, script: str, **job) -> tuple[RunnerView, str]:
        """Run a script to its end; its runner's last view and its output."""
        spec = await self.launch(script, **job)
        view = await self.until(spec.name, RunnerState.EXITED)
        return view, self.output(spec)

    def output(self, spec: RunnerSpec) -> str:
        return bytes(self.logs.logs[spec.job_id].data).decode("utf-8", "replace")

    async def said(self, spec: RunnerSpec, words: str, seconds: float = 20) -> None:
        """Wait until the job's output contains `words`."""
        async with asyncio.timeout(seconds):
            while words not in self.output(spec):
                await asyncio.sleep(0.005)

    async def remove(self, spec: RunnerSpec) -> None:
        await self.backend.delete(spec.name)
        await self.until(spec.name, RunnerState.ABSENT)
