"""The product under measurement, in two cuts. Jobs are offered to the engine as the dispatch API does.

`Core` is what makes pods of jobs: the engine, the Kubernetes backend, the SQLite journal on a file, a policy that
allows. Its agents claim over a local socket. `Daemon` is everything that a daemon is but its public HTTP API: besides
that the shipped Rego policy, the runner API over TLS with TokenReview, the gateways' table, signed provenance,
metrics and the periodic loops.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from cluster import kubeconfig

from orchestrator.backends.kubernetes.backend import KubernetesBackend
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.daemon import slices
from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.cluster.slice import kubernetes_config
from orchestrator.daemon.loops import periodic_loops
from orchestrator.daemon.main import _take_over
from orchestrator.daemon.presence import Presence
from orchestrator.daemon.rooms import open_rooms, prepare_state_dir
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import Fact, JobEnded, JobFinished, RunnerBound
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import Result
from orchestrator.model.runner import RunnerName
from orchestrator.settings import Settings
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.ports import free_port
from orchestrator.testing.source import MemorySource

PROOF = EgressProof(denied=("metadata", "direct", "resolver"), reached=())


class _Meta(msgspec.Struct):
    name: str


class _Sent(msgspec.Struct):
    metadata: _Meta


_SENT = msgspec.json.Decoder(_Sent)


def settings_document(state: Path, pool: str, namespace: str, capacity: int, **more: object) -> dict[str, Any]:
    """As an operator would write it, for one pool."""
    port = free_port()
    kubernetes = {"namespace": namespace, "stream_logs": False}
    return {
        "state_dir": str(state),
        "pools": [{"name": pool, "backend": "kubernetes", "capacity": capacity, "kubernetes": kubernetes}],
        "kubernetes": {
            "kubeconfig": kubeconfig(),
            "installation": f"bench-{pool}",
            "lease": False,
            "agent_image": "registry.example/agent:1",
            "runner_api": {"host": "127.0.0.1", "port": port, "url": f"https://127.0.0.1:{port}"},
            "gateway": {"url": "http://127.0.0.1:3128"},
            **more,
        },
    }


class Jobs:
    """Offers jobs to an engine, and hears from its journal what became of them."""

    engine: Engine
    journal: SqliteJournal
    client: ApiClient

    def __init__(self, document: dict[str, Any]) -> None:
        self.settings = Settings(**document)
        prepare_state_dir(self.settings.state_dir)
        self.pool = PoolName(self.settings.pools[0].name)
        self.created: dict[str, float] = {}
        """When the request that makes each pod was about to be sent, if `note_creates` was called."""
        self.unhappy: list[str] = []
        self.bound = 0
        self.last: deque[JobId] = deque(maxlen=1000)
        """The jobs offered last."""
        self._finished: dict[JobId, asyncio.Event] = {}
        self._numbers = itertools.count()
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        await self._stack.aclose()

    async def offer(self) -> JobId:
        """A job, accepted."""
        number = next(self._numbers)
        spec = JobSpec("build", self.pool, "make wheel", {"CI": "true", "BUILD": str(number)}, pipeline="bench")
        caller = Caller("https://issuer.example", "repo:octo/app", {"repository": "octo/app", "ref": "refs/heads/main"})
        offered = JobOffer(JobKey("dispatch", f"{time.time_ns():x}-{number}"), spec, caller, f"{number:064x}")
        self.last.append(offered.key.id)
        self._finished[offered.key.id] = asyncio.Event()
        await self.engine.offer(offered)
        return offered.key.id

    async def done(self, job_id: JobId) -> None:
        await self._finished[job_id].wait()
        del self._finished[job_id]

    async def job(self) -> None:
        """From offered to finished: the pod is gone."""
        await self.done(await self.offer())

    def note_creates(self) -> None:
        """Fill `created` from now on. Not while processor time is measured: looking is no work of the product's."""
        request = self.client.request

        async def timed(method: str, path: str, **more: Any) -> bytes:
            if method == "POST" and path.endswith("/pods"):
                self.created.setdefault(_SENT.decode(more["body"]).metadata.name, time.perf_counter())
            return await request(method, path, **more)

        self.client.request = timed

    def _hear(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact.event, JobFinished):
                if fact.job_id in self._finished:
                    self._finished[fact.job_id].set()
            elif isinstance(fact.event, RunnerBound):
                self.bound += 1
            elif isinstance(fact.event, JobEnded) and fact.event.outcome.result is not Result.SUCCESS:
                self.unhappy.append(f"{fact.job_id}: {fact.event.outcome}")


class Core(Jobs):
    """`claims_at` is the path of the socket: a line `name uid` asks, `name` and `ok`, `again` or `no` answers."""

    @classmethod
    async def open(cls, document: dict[str, Any]) -> Core:
        made = cls(document)
        clock, pools = SystemClock(), slices.pools(made.settings)
        made.journal = await SqliteJournal.open(made.settings.state_dir / "journal.db", clock)
        push_closing(made._stack, "journal", made.journal.close)
        backend = await KubernetesBackend.open(kubernetes_config(made.settings))
        push_closing(made._stack, "backend", backend.close)
        performer = Performer(FixedPolicy(), {"kubernetes": backend}, {"dispatch": MemorySource()})
        made.engine = Engine(journal=made.journal, performer=performer, pools=pools, clock=clock)
        backend.subscribe(made.engine.runner_changed)
        push_closing(made._stack, "engine", made.engine.close)
        made.client = backend.client
        made.journal.subscribe(made._hear)
        await backend.start()
        made.claims_at = f"{made.settings.state_dir}/claims"
        server = await asyncio.start_unix_server(made._claims, made.claims_at)
        made._stack.callback(server.close)
        return made

    async def _claims(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection for all claims: how they come is no part of what is measured here."""
        async with asyncio.TaskGroup() as group:
            while line := await reader.readline():
                group.create_task(self._claim(*line.decode().split(), writer))

    async def _claim(self, name: str, uid: str, writer: asyncio.StreamWriter) -> None:
        try:
            await self.engine.claim(RunnerIdentity(RunnerName(name), uid), PROOF)
            word = "ok"
        except TryAgainError:
            word = "again"
        except GiveUpError as error:
            word = f"no {error.reason}"
        writer.write(f"{name} {word}\n".encode())


class Daemon(Jobs):
    """`claims_at` is the URL of the runner API."""

    @classmethod
    async def open(cls, document: dict[str, Any]) -> Daemon:
        made = cls(document)
        rooms = await open_rooms(made.settings, "http://127.0.0.1:8455", made._stack)
        made.engine, made.journal = rooms.engine, rooms.journal
        made.client = rooms.backends["kubernetes"].backend.client
        made.claims_at = made.settings.kubernetes.runner_api.url
        rooms.journal.subscribe(rooms.metrics.observe)
        made.journal.subscribe(made._hear)
        await _take_over(rooms, made._stack)
        presence = Presence(made.settings.state_dir, "http://127.0.0.1:8455", rooms.issuer)
        loops = [asyncio.get_running_loop().create_task(work) for _, work in periodic_loops(rooms, presence)]

        async def stop() -> None:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

        push_closing(made._stack, "loops", stop)
        return made
