"""What our server adds to a claim and to a dispatch, against bare aiohttp answering with as many bytes.

Both sides run in this process behind the same raw client, so the difference is ours; CPU is the process's,
client included. Rounds alternate, so that both see the same machine.

    python tests/benchmarks/bench_server.py
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.job import Caller, JobId, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.server.app import ApiServer, build_app
from orchestrator.server.deps import Limits, ServerDeps, TokenAnswer
from orchestrator.server.runner.listeners import RunnerApi, RunnerApiDeps
from orchestrator.telemetry.waterfall import trace_document
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource

ROUNDS = 5
PER_ROUND = 200
OUTPUT = Path("build/bench/server.json")
POOL = Pool(PoolName("default"), "memory", TrustTier.STANDARD, 10**6, "memory", "none", max_job_seconds=600)
PROOF = json.dumps({"proof": {"denied": ["metadata", "direct"], "reached": []}}).encode()


class NoLogs:
    async def read(self, job_id: JobId, offset: int, limit: int) -> bytes:
        return b""

    async def more(self, job_id: JobId, offset: int) -> None:
        await asyncio.Event().wait()


class Credentials:
    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend

    async def verify(self, credential: str) -> RunnerIdentity | None:
        return await self._backend.verify(credential.replace("token-", "token:", 1))


class Documents:
    def discovery(self) -> Mapping[str, Any]:
        return {}

    def jwks(self) -> Mapping[str, Any]:
        return {}


class NoKeys:
    def listed(self) -> Sequence[Mapping[str, Any]]:
        return []

    async def revoke(self, kid: str, caller: Caller) -> Mapping[str, Any]:
        raise NotImplementedError  # nobody asks here


async def operator(_token: str, _key: str | None) -> Caller:
    return Caller("local", "operator")


async def refuse(_runner: RunnerIdentity, _form: list[tuple[str, str]]) -> TokenAnswer:
    return TokenAnswer(400, {"error": "invalid_request"})


async def inactive(_token: str) -> Mapping[str, Any]:
    return {"active": False}


def request(path: str, body: bytes, *lines: str) -> bytes:
    head = (f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join((*head, *lines, "Connection: close", "", "")).encode() + body


async def ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def timed(calls: list[tuple[int, bytes]], status: bytes) -> float:
    """CPU milliseconds for each call."""
    before = time.process_time()
    for port, data in calls:
        answer = await ask(port, data)
        assert answer.split(b" ", 2)[1] == status, answer[:300]
    return (time.process_time() - before) * 1000 / len(calls)


def bare(size: int) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(body=b"x" * size)

    return handler


async def main() -> None:
    clock, loop = SteppedClock(), asyncio.get_running_loop()
    journal, backend = MemoryJournal(clock), MemoryBackend(clock)
    performer = Performer(FixedPolicy(), {"memory": backend}, {"dispatch": MemorySource()})
    engine = Engine(journal=journal, performer=performer, pools={POOL.name: POOL}, clock=clock)
    limits = Limits()
    api = ApiServer(
        build_app(
            ServerDeps(
                keys=NoKeys(),
                evidence_key="",
                engine=engine,
                reader=journal,
                logs=NoLogs(),
                authenticate=operator,
                documents=Documents(),
                introspect=inactive,
                trace=trace_document,
                metrics=lambda _accept: (b"", "text/plain"),
                pools=list,
                readiness=dict,
                draining=lambda: False,
                local_issuer="local",
                limits=limits,
            )
        ),
        limits,
    )
    _, port = await api.start("127.0.0.1", 0)
    runners = RunnerApi(
        RunnerApiDeps(engine=engine, credentials=Credentials(backend), exchange=refuse, pool_of=lambda _record: POOL)
    )
    plain = await loop.create_server(web.Server(bare(1100)), "127.0.0.1", 0)
    plain_port = plain.sockets[0].getsockname()[1]
    body = json.dumps({"name": "build", "script": "make wheel", "environment": {"CI": "true"}}).encode()
    figures: dict[str, list[float]] = {"dispatch": [], "claim": [], "floor": []}
    for number in range(ROUNDS):
        posts = [
            (port, request("/v1/jobs", body, "Authorization: Bearer t", f"Idempotency-Key: k{number}-{n}"))
            for n in range(PER_ROUND)
        ]
        figures["dispatch"].append(await timed(posts, b"202"))
        await engine.idle()
        figures["claim"].append(await timed(await claims(engine, runners), b"200"))
        floor = [(plain_port, request("/", body, "Authorization: Bearer t"))] * PER_ROUND
        figures["floor"].append(await timed(floor, b"200"))
    await runners.stop()
    await api.stop()
    await engine.close()
    plain.close()
    report(figures)


async def claims(engine: Engine, runners: RunnerApi) -> list[tuple[int, bytes]]:
    """One claim for each job that waits for its agent, each on a listener of its own."""
    calls = []
    for job_id in engine.live_ids():
        record = engine.record(job_id)
        if record is None or record.runner is None or record.live:
            continue
        listener = socket.create_server(("127.0.0.1", 0))
        number = listener.getsockname()[1]
        await runners.serve(record.runner, record.runner_uid, listener)
        calls.append((number, request("/runner/v1/claim", PROOF, f"Authorization: Bearer token-{record.runner_uid}")))
    assert len(calls) == PER_ROUND, len(calls)
    return calls


def report(figures: dict[str, list[float]]) -> None:
    floor = statistics.median(figures["floor"])
    result = {}
    for name in ("claim", "dispatch"):
        ours = statistics.median(figures[name])
        ratio = ours / floor
        result[name] = {"ours": round(ours, 3), "floor": round(floor, 3), "ratio": round(ratio, 2), "unit": "ms CPU"}
        print(f"{name:9} {ours:.3f} ms CPU, bare aiohttp {floor:.3f} ms, {ratio:.2f} times")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
