"""The runner API of a cluster over real TLS, and the pod's agent as a process in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.agent.job_files import start_script
from orchestrator.daemon.records.attest import ReportDesk
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.errors import TryAgainError
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.evidence.reported import CYCLONEDX
from orchestrator.evidence.reported_store import ReportedDocuments
from orchestrator.identity.exchange import Collaborators, Exchange
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.job_credential import JobCredentials
from orchestrator.identity.rate import RateLimit
from orchestrator.identity.secrets.registry import Registered, Registry
from orchestrator.identity.secrets.state import StateStore
from orchestrator.identity.serving_certificate import ServingCertificate
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.events import (
    AlarmRaised,
    ArtifactAttested,
    ArtifactNamed,
    ArtifactReported,
    SecretDelivered,
    SpansRelayed,
)
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec
from orchestrator.model.phase import Phase
from orchestrator.model.platform import PlatformJob
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName
from orchestrator.server import schemas
from orchestrator.server.entrance.connection import ConnectionLimits
from orchestrator.server.entrance.peers import PeerLimits
from orchestrator.server.runner import cluster_api
from orchestrator.server.runner import handlers as runner_handlers
from orchestrator.server.runner.cluster_api import ClusterApi, ClusterLimits, Pod, job_bearer
from orchestrator.server.runner.handlers import RunnerDeps, RunnerLimits
from orchestrator.server.runner.token import token_exchange
from orchestrator.server.runner.work import RunnerEndpoints
from orchestrator.telemetry.ids import trace_id, traceparent
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.ports import free_port

PROOF = {"proof": {"denied": ["metadata", "direct"], "reached": []}}
DIGEST = "sha256:" + "a" * 64
SHELLS = [path for path in ("/bin/sh", "/bin/dash", shutil.which("bash")) if path and os.access(path, os.X_OK)]


@dataclass
class Pods:
    """What a cluster's room knows, with tokens `token.<namespace>.<pod>.<uid>` in place of a TokenReview."""

    api: object
    url: str
    job_credentials: JobCredentials
    gateway_port: int = 0
    hold_seconds: float = 0.2
    assigned_to: dict[str, RunnerIdentity] = field(default_factory=dict)
    warm: set[str] = field(default_factory=set)
    events: list[str] = field(default_factory=list)
    lookups: int = 0
    held: asyncio.Event | None = None
    fault: Exception | None = None

    async def pod(self, credential: str) -> Pod | None:
        self.lookups += 1
        if self.fault:
            raise self.fault
        word, *rest = credential.split(".")
        if word != "token" or len(rest) != 3:
            return None
        pod = Pod(*rest)
        return pod if pod.uid in self.warm or self._live(pod) else None

    def _live(self, pod: Pod) -> bool:
        record = self.api.engine.record_of_runner(RunnerName(pod.name))
        return record is not None and record.outcome is None

    async def assigned(self, pod: Pod) -> RunnerIdentity | None:
        if pod.uid not in self.warm:
            return RunnerIdentity(RunnerName(pod.name), pod.uid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.hold_seconds):
                while pod.uid not in self.assigned_to:
                    await asyncio.sleep(0.01)
        return self.assigned_to.get(pod.uid)

    async def verify(self, credential: str) -> RunnerIdentity | None:
        pod = await self.pod(credential)
        return await self.assigned(pod) if pod else None

    def sender(self, name: RunnerName, job_credential: str) -> RunnerIdentity | None:
        record = self.api.engine.record_of_runner(name)
        if record is None or not record.live or not self.job_credentials.matches(record.bound_uid, job_credential):
            return None
        return RunnerIdentity(name, record.bound_uid)

    async def ready_to_bind(self, identity: RunnerIdentity) -> None:
        self.events.append("ready")

    async def bound(self, record: Record) -> RunnerEndpoints:
        self.events.append("bound")
        if self.held is not None:
            await self.held.wait()
        credential = self.job_credentials.credential(record.bound_uid)
        return RunnerEndpoints(
            self.url,
            f"http://runner:{credential}@127.0.0.1:{self.gateway_port}",
            self.token_file,
            otlp=True,
            otlp_headers="authorization=" + job_bearer(record.runner, credential).replace(" ", "%20"),
        )

    token_file: str = "/run/orchestrator-identity/token"


@dataclass
class Cluster:
    """The listener, its CA, and clients that trust nothing else."""

    api: object
    pods: Pods
    server: ClusterApi
    certificate: ServingCertificate
    url: str
    client: aiohttp.ClientSession
    relayed: list[bytes]
    deps: RunnerDeps

    async def start(self, key: str, **body) -> tuple[str, RunnerIdentity]:
        job_id = await self.api.job(key, **body)
        await self.api.until(job_id, "binding")
        record = self.api.engine.record(JobId(job_id))
        return job_id, RunnerIdentity(record.runner, record.runner_uid)

    @staticmethod
    def token(who: RunnerIdentity) -> str:
        return f"token.runners.{who.name}.{who.uid}"

    async def post(self, who: RunnerIdentity | None, path: str, *, headers=None, **options):
        sent = {"Authorization": f"Bearer {self.token(who)}"} if who else {}
        answer = await self.client.post(f"{self.url}/runner/v1/{path}", headers=sent | (headers or {}), **options)
        return answer, await (answer.json() if "json" in answer.content_type else answer.read())

    async def events(self, job_id: str, kind: type):
        return [fact.event for fact in await self.api.journal.facts_of(JobId(job_id)) if isinstance(fact.event, kind)]


@pytest.fixture
def peers() -> PeerLimits:
    return PeerLimits(connections=8, burst=5, per_second=0.0)


@pytest.fixture
async def cluster(api, tmp_path, peers) -> AsyncIterator[Cluster]:
    relayed: list[bytes] = []

    async def relay(_job_id: JobId, body: bytes, _encoding: str) -> SpansRelayed:
        relayed.append(body)
        return SpansRelayed(1, 0)

    exchange = Exchange(
        IssuerSet(api.issuer),
        Collaborators(
            policy=FixedPolicy(),
            record_of=api.engine.bound_record,
            pool_of=Pools({api.pool.name: api.pool}).of,
            note=api.engine.note,
            on_secret=lambda _job_id, _token: None,
        ),
        RateLimit(per_second=100, burst=100, monotonic=time.monotonic),
    )
    deps = RunnerDeps(
        engine=api.engine,
        exchange=token_exchange(exchange),
        pool_of=Pools({api.pool.name: api.pool}).of,
        relay=relay,
        report=ReportDesk(ReportedDocuments(tmp_path / "reported")).report,
        limits=RunnerLimits(body_timeout_seconds=0.5, max_artifacts=3),
    )
    certificate = ServingCertificate.open(tmp_path / "keys", "127.0.0.1", time.time)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    pods = Pods(api, url, JobCredentials.open(tmp_path / "keys"))
    server = ClusterApi(deps, pods, limits=ClusterLimits(ConnectionLimits(16, 1.0), peers))
    await server.serve(listener, certificate.context)
    trust = ssl.create_default_context(cadata=certificate.ca_pem)
    client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, limit=0))
    try:
        yield Cluster(api, pods, server, certificate, url, client, relayed, deps)
    finally:
        await client.close()
        await server.stop()


async def test_a_claim_binds_before_it_opens_anything_and_hands_out_the_work_once(cluster):
    job_id, runner = await cluster.start("k", script="make", environment={"A": "1"})
    answer, work = await cluster.post(runner, "claim", json=PROOF)
    assert answer.status == 200
    assert work["job"]["script"] == "make"
    assert work["exchange_url"] == f"{cluster.url}/runner/v1/token"
    assert work["proxy_url"].startswith("http://runner:")
    assert cluster.pods.events == ["ready", "bound"]
    again, problem = await cluster.post(runner, "claim", json=PROOF)
    assert (again.status, problem["reason"]) == (409, "already_bound")
    assert [event.alarm for event in await cluster.events(job_id, AlarmRaised)] == ["second_claim"]
    assert cluster.pods.events == ["ready", "bound", "ready"]


async def test_a_daemon_that_stops_gives_bound_runners_their_work_first(cluster):
    """Between the binding and the answer gateways are told. Nobody could give the work to the runner again."""
    _, runner = await cluster.start("k", script="make")
    cluster.pods.held = asyncio.Event()
    claim = asyncio.create_task(cluster.post(runner, "claim", json=PROOF))
    while "bound" not in cluster.pods.events:
        await asyncio.sleep(0.01)
    stopping = asyncio.create_task(cluster.server.stop())
    await asyncio.sleep(1.5)  # longer than other requests get
    assert not claim.done()
    cluster.pods.held.set()
    answer, work = await claim
    assert (answer.status, work["job"]["script"]) == (200, "make")
    await stopping


async def test_what_can_fail_fails_before_the_binding(cluster):
    job_id, runner = await cluster.start("k")
    cluster.pods.fault = TryAgainError("the cluster is away", reason="temporarily_unavailable")
    answer, problem = await cluster.post(runner, "claim", json=PROOF)
    assert (answer.status, problem["reason"]) == (503, "temporarily_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    cluster.pods.fault = None
    assert cluster.api.engine.record(JobId(job_id)).bound_uid == ""
    assert (await cluster.post(runner, "claim", json=PROOF))[0].status == 200


async def test_a_warm_runner_waits_and_is_told_to_come_again_until_it_has_a_job(cluster):
    warm = RunnerIdentity(RunnerName("warm-default-1"), "warm-uid")
    cluster.pods.warm.add("warm-uid")
    answer, body = await cluster.post(warm, "claim", json=PROOF)
    assert (answer.status, body) == (204, b"")
    cluster.pods.hold_seconds = 5
    waiting = asyncio.create_task(cluster.post(warm, "claim", json=PROOF))
    await asyncio.sleep(0.05)
    job_id, runner = await cluster.start("k")
    cluster.pods.assigned_to["warm-uid"] = runner
    answer, work = await waiting
    assert (answer.status, work["job"]["id"]) == (200, job_id)


async def test_a_warm_runner_whose_gateway_was_not_there_yet_proves_anew_before_it_gets_a_job(cluster, monkeypatch):
    monkeypatch.setattr("orchestrator.server.runner.cluster_api.UNPROVEN_PAUSE_SECONDS", 0.3)
    unproven = {"proof": {"denied": ["metadata"], "reached": ["gateway:canary"]}}
    warm = RunnerIdentity(RunnerName("warm-default-1"), "warm-uid")
    cluster.pods.warm.add("warm-uid")
    cluster.pods.hold_seconds = 5
    waiting = asyncio.create_task(cluster.post(warm, "claim", json=unproven))
    await asyncio.sleep(0.1)
    job_id, runner = await cluster.start("k")
    cluster.pods.assigned_to["warm-uid"] = runner
    answer, body = await waiting
    assert (answer.status, body) == (204, b"")
    assert cluster.api.engine.record(JobId(job_id)).outcome is None
    answer, work = await cluster.post(warm, "claim", json=PROOF)
    assert (answer.status, work["job"]["id"]) == (200, job_id)


async def test_a_proof_from_before_a_warm_runner_had_its_job_is_asked_for_anew_once(cluster, monkeypatch):
    monkeypatch.setattr("orchestrator.server.runner.cluster_api.UNPROVEN_PAUSE_SECONDS", 0.01)
    unproven = {"proof": {"denied": ["metadata"], "reached": ["gateway:canary"]}}
    warm = RunnerIdentity(RunnerName("warm-default-1"), "warm-uid")
    cluster.pods.warm.add("warm-uid")
    job_id, runner = await cluster.start("k")
    cluster.pods.assigned_to["warm-uid"] = runner
    answer, _ = await cluster.post(warm, "claim", json=unproven)
    assert answer.status == 204
    assert cluster.api.engine.record(JobId(job_id)).outcome is None
    answer, problem = await cluster.post(warm, "claim", json=unproven)
    assert (answer.status, problem["reason"]) == (403, "egress_unproven")


async def test_an_ended_jobs_token_is_good_for_nothing(cluster):
    job_id, runner = await cluster.start("k")
    await cluster.post(runner, "claim", json=PROOF)
    credential = cluster.pods.job_credentials.credential(runner.uid)
    spans = {"Content-Type": "application/x-protobuf", "Authorization": job_bearer(runner.name, credential)}
    assert (await cluster.post(None, "traces", headers=spans, data=b"x"))[0].status == 200
    await cluster.api.finish(job_id)
    assert (await cluster.post(runner, "claim", json=PROOF))[0].status == 401
    assert (await cluster.post(runner, "artifacts", json={"name": "x", "digest": DIGEST}))[0].status == 401
    assert (await cluster.post(None, "traces", headers=spans, data=b"x"))[0].status == 401


async def test_nothing_is_kept_of_a_runner_whose_job_ends_while_it_claims(cluster):
    job_id, runner = await cluster.start("k")

    async def ended(_identity: RunnerIdentity) -> None:
        await cluster.api.engine.cancel(JobId(job_id), "tester")
        await cluster.api.until(job_id, "finished")
        await cluster.server.close(runner.name)  # as the revocation does

    cluster.pods.ready_to_bind = ended
    answer, problem = await cluster.post(runner, "claim", json=PROOF)
    assert (answer.status, problem["reason"]) == (401, "runner_unknown")
    assert cluster.server._seats == {}


async def test_spans_come_with_the_jobs_own_credential_only(cluster):
    _, a = await cluster.start("a")
    _, b = await cluster.start("b")
    for runner in (a, b):
        await cluster.post(runner, "claim", json=PROOF)
    of = cluster.pods.job_credentials.credential
    kind = {"Content-Type": "application/x-protobuf"}
    for wrong in (
        job_bearer(a.name, of(b.uid)),
        f"Bearer {cluster.token(a)}",
        f"Basic {a.name}.{of(a.uid)}",
        job_bearer(RunnerName("runner-x"), of(a.uid)),
    ):
        answer, _ = await cluster.post(None, "traces", headers=kind | {"Authorization": wrong}, data=b"x")
        assert answer.status == 401
    answer, _ = await cluster.post(None, "traces", headers=kind, data=b"x")
    assert answer.status in (401, 503)  # the fifth failure of this address in a row
    assert cluster.relayed == []


async def test_artifacts_are_bounded_for_each_runner_and_counts_do_not_pass_to_another(cluster):
    job_id, runner = await cluster.start("k")
    await cluster.post(runner, "claim", json=PROOF)
    artifact = {"name": "app.whl", "digest": DIGEST, "size_bytes": 1}
    four = [artifact | {"size_bytes": size} for size in range(4)]
    statuses = [(await cluster.post(runner, "artifacts", json=one))[0].status for one in four]
    assert statuses == [201, 201, 201, 409]
    assert len(await cluster.events(job_id, ArtifactReported)) == 3
    _, other = await cluster.start("k2")
    await cluster.post(other, "claim", json=PROOF)
    assert (await cluster.post(other, "artifacts", json=artifact))[0].status == 201


async def test_a_pods_document_is_taken_with_its_own_credential_only(cluster):
    job_id, runner = await cluster.start("k")
    document = {"digest": DIGEST, "predicate_type": CYCLONEDX, "predicate": {"bomFormat": "CycloneDX"}}
    assert (await cluster.post(runner, "attestations", json=document))[0].status == 409
    await cluster.post(runner, "claim", json=PROOF)
    assert (await cluster.post(runner, "attestations", json=document))[0].status == 201
    assert (await cluster.post(None, "attestations", json=document))[0].status == 401
    (told,) = await cluster.events(job_id, ArtifactAttested)
    assert (told.digest, told.predicate_type) == (DIGEST, CYCLONEDX)


async def test_a_pod_says_what_it_deploys_with_its_own_credential_only(cluster):
    job_id, runner = await cluster.start("k")
    deploys = {"artifact_digest": DIGEST}
    assert (await cluster.post(runner, "deployment", json=deploys))[0].status == 409
    await cluster.post(runner, "claim", json=PROOF)
    assert (await cluster.post(None, "deployment", json=deploys))[0].status == 401
    assert (await cluster.post(runner, "deployment", json=deploys))[0].status == 200
    other = {"artifact_digest": "sha256:" + "c" * 64}
    answer, problem = await cluster.post(runner, "deployment", json=other)
    assert (answer.status, problem["reason"]) == (409, "artifact_already_named")
    assert [event.digest for event in await cluster.events(job_id, ArtifactNamed)] == [DIGEST]


async def test_wrong_credentials_of_an_address_are_bounded_before_anybody_is_asked(cluster):
    _, runner = await cluster.start("k")
    for number in range(5):
        answer, _ = await cluster.post(None, "claim", headers={"Authorization": f"Bearer x{number}"}, json=PROOF)
        assert answer.status == 401
    before = cluster.pods.lookups
    for _ in range(20):
        answer, problem = await cluster.post(None, "claim", headers={"Authorization": "Bearer x"}, json=PROOF)
        assert (answer.status, problem["reason"]) == (503, "temporarily_unavailable")
    assert (await cluster.post(runner, "claim", json=PROOF))[0].status == 503
    assert cluster.pods.lookups == before


async def test_connections_of_an_address_are_bounded(cluster):
    trust = ssl.create_default_context(cadata=cluster.certificate.ca_pem)
    port = int(cluster.url.rpartition(":")[2])
    held = []
    try:
        for _ in range(8):
            held.append(await asyncio.open_connection("127.0.0.1", port, ssl=trust))  # noqa: PERF401 -- kept on a failure
        with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):  # noqa: PT012 -- any of them
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
            held.append((reader, writer))
            writer.write(b"POST /runner/v1/claim HTTP/1.1\r\nHost: x\r\n\r\n")
            await writer.drain()
            await reader.readexactly(1)
    finally:
        for _, writer in held:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def test_connections_of_an_address_are_bounded_before_any_handshake(cluster):
    """TLS is what costs: a pod that opens connections and says nothing must not hold descriptors of all others."""
    port = int(cluster.url.rpartition(":")[2])
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
    try:
        ends = [asyncio.create_task(reader.read(1)) for reader, _ in held]
        done, open_ = await asyncio.wait(ends, timeout=1.0)
        assert len(open_) == 8
        for end in done:
            with contextlib.suppress(ConnectionError):
                assert end.result() == b""
        for end in open_:
            end.cancel()
    finally:
        for _, writer in held:
            writer.close()
    async with asyncio.timeout(5):  # what ended before its handshake counts no more
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                answer = await cluster.client.post(f"{cluster.url}/nowhere")
                assert answer.status == 404
                break


async def test_wrong_paths_methods_and_plain_http_get_nothing(cluster):
    for method, path, status in (("POST", "/nowhere", 404), ("GET", "/runner/v1/claim", 405), ("GET", "/", 404)):
        answer = await cluster.client.request(method, cluster.url + path)
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
    with pytest.raises(aiohttp.ClientError):
        await cluster.client.get(cluster.url.replace("https", "http"))
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await stranger.get(cluster.url)


# The agent.


class World:
    """One pod's surroundings on loopback: a gateway that refuses, an API server's address that is closed."""

    def __init__(self, cluster: Cluster, folder: Path, runner: RunnerIdentity) -> None:
        self.cluster = cluster
        self.work, self.workspace = folder / "work", folder / "job"
        self.work.mkdir()
        self.workspace.mkdir()
        token = folder / "token"
        token.write_text(cluster.token(runner) + "\n")
        cluster.pods.token_file = str(token)
        self.environment = {
            "ORCHESTRATOR_RUNNER_API": cluster.url,
            "ORCHESTRATOR_CA_PEM": cluster.certificate.ca_pem,
            "ORCHESTRATOR_TOKEN_FILE": str(token),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(free_port()),
        }

    async def gateway(self, status: int = 407) -> asyncio.Server:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.cluster.pods.gateway_port = port
        self.environment["ORCHESTRATOR_GATEWAY"] = f"http://127.0.0.1:{port}"
        return server

    async def agent(self, seconds: float = 20) -> tuple[int, str]:
        """Exit code and last words. Its probes of addresses outside go to closed ports here: tests stay at home."""
        program = (
            "import socket, sys; import orchestrator.agent.egress_proof as e; import orchestrator.agent.pod as p; "
            f"e.FORBIDDEN = (('tcp:closed', socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', {free_port()})),); "
            "e.GATEWAY_PATIENCE_SECONDS = 0.5; p.PATIENCE_SECONDS = 1.0; sys.exit(p.main())"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "--work", str(self.work), "--workspace", str(self.workspace),
            env=self.environment, stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                _, words = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        return process.returncode or 0, words.decode()

    async def job(self, shell: str = "/bin/sh", **extra: str) -> tuple[int, str]:
        """What the job's container does."""
        process = await asyncio.create_subprocess_exec(
            shell, str(self.work / "start"), env={"PATH": os.environ["PATH"], **extra},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode("utf-8", "replace")


@pytest.fixture
async def started(cluster, tmp_path):
    async def start(**body) -> tuple[World, str]:
        job_id, runner = await cluster.start("k", **body)
        return World(cluster, tmp_path, runner), job_id

    return start


async def test_the_agent_claims_and_the_jobs_container_runs_the_work(started):
    script = 'echo "$GREETING"; pwd; orchestrator-token --audience cloud | cut -c1-3; false; echo not reached'
    world, job_id = await started(script=script, environment={"GREETING": "hello\n'\"$(id)` \\ ü"})
    server = await world.gateway()
    async with server:
        code, words = await world.agent()
        assert (code, words) == (0, "")
        modes = {path.name: path.stat().st_mode & 0o777 for path in world.work.rglob("*") if path.is_file()}
        modules = {path.name for path in (world.work / "lib/tokens").iterdir()}
        assert {"__init__.py", "main.py", "exchange.py"} < modules
        assert {modes.pop(name) for name in modules} == {0o444}
        assert modes == {
            "start": 0o444, "job.sh": 0o444, "ca.pem": 0o444, "orchestrator-token": 0o555,
            "orchestrator-artifact": 0o555, "orchestrator-github-runner": 0o555, "orchestrator-github-hook": 0o555,
        }  # fmt: skip
        code, said = await world.job()
    assert said == f"hello\n'\"$(id)` \\ ü\n{world.workspace}\neyJ\n"
    assert code == 1
    record = world.cluster.api.engine.record(JobId(job_id))
    assert "gateway:egress-canary.invalid:443" in [
        word for fact in await world.cluster.api.journal.facts_of(JobId(job_id))
        if hasattr(fact.event, "proof") for word in fact.event.proof.denied
    ]  # fmt: skip
    assert record is not None


async def test_an_agent_newer_than_its_daemon_leaves_out_what_that_does_not_know(started, monkeypatch):
    """A pod made before the way back from an upgrade. What the older daemon took is all that decides."""

    class OlderClaim(schemas.Request):
        proof: schemas.ClaimProof
        ago: ClassVar[None] = None

    asked: list[type] = []
    read_model = runner_handlers.read_model

    async def read(request, model, **limits):
        asked.append(model)
        return await read_model(request, model, **limits)

    monkeypatch.setattr(schemas, "ClaimRequest", OlderClaim)
    monkeypatch.setattr(runner_handlers, "read_model", read)
    world, job_id = await started(script="echo begun")
    async with await world.gateway():
        assert await world.agent() == (0, "")
        assert await world.job() == (0, "begun\n")
    assert asked == [OlderClaim] * 2, "refused once, and let in"
    assert world.cluster.api.engine.record(JobId(job_id)).phase is Phase.RUNNING


async def test_the_jobs_own_programs_work_over_tls_and_trust_only_our_ca(started, tmp_path):
    script = (
        'echo x > f; orchestrator-artifact f; export ORCHESTRATOR_CA_FILE="$OTHER_CA"; '
        "orchestrator-token --audience cloud || true; orchestrator-artifact f"
    )
    other = tmp_path / "other.pem"
    other.write_text(ServingCertificate.open(tmp_path / "other", "127.0.0.1", time.time).ca_pem)
    world, job_id = await started(script=script, environment={"OTHER_CA": str(other)})
    async with await world.gateway():
        assert (await world.agent())[0] == 0
        code, said = await world.job()
    assert code == 2
    assert said.startswith("sha256:")
    assert said.count("certificate verify failed") == 2, "and neither asks again"
    assert [event.name for event in await world.cluster.events(job_id, ArtifactReported)] == ["f"]


@pytest.mark.slow
async def test_what_was_taken_and_never_answered_is_told_again_and_on_record_once(started, monkeypatch):
    """As when the daemon ends with the request in its hands."""
    lost: list[str] = []

    async def cut(handler, request, who):
        answer = await runner_handlers.answered(handler, request, who)
        if request.path != runner_handlers.CLAIM_PATH and request.path not in lost:
            lost.append(request.path)
            request.transport.abort()
        return answer

    monkeypatch.setattr(cluster_api, "answered", cut)
    bom = '{"bomFormat": "CycloneDX"}'
    script = (
        f"echo x > f; echo '{bom}' > bom; orchestrator-artifact f --sbom bom | cut -c1-7; "
        "orchestrator-token --audience cloud | cut -c1-3"
    )
    world, job_id = await started(script=script)
    async with await world.gateway():
        assert await world.agent() == (0, "")
        assert await world.job() == (0, "sha256:\nsha256:\neyJ\n")
    assert lost == [runner_handlers.ARTIFACTS_PATH, runner_handlers.ATTESTATIONS_PATH, runner_handlers.TOKEN_PATH]
    assert [event.name for event in await world.cluster.events(job_id, ArtifactReported)] == ["f"]
    assert len(await world.cluster.events(job_id, ArtifactAttested)) == 1


RUNNER_PROGRAM = """#!/bin/sh
echo "registered with $ACTIONS_RUNNER_INPUT_JITCONFIG"
export GITHUB_RUN_ID=9001 GITHUB_RUN_ATTEMPT=1 GITHUB_REPOSITORY=acme/shop GITHUB_ENV="$HOME/env"
sh -e "$ACTIONS_RUNNER_HOOK_JOB_STARTED"
cat "$GITHUB_ENV"
"""


async def test_a_pods_runner_gets_its_registration_and_reports_its_job(cluster, tmp_path):
    engine, reports = cluster.api.engine, []

    async def namer(identity, report):
        reports.append(report)
        if len(reports) == 1:
            return None
        return await engine.name_job(identity.name, PlatformJob("forge/1", "build", Caller("https://forge", "acme")))

    async def files(_record):
        return {"jitconfig": "for-one-runner"}

    deps = replace(cluster.deps, work_files=files, namer=namer, audience_of=lambda _record: "us")
    cluster.server._handlers._deps = deps
    program = tmp_path / "run.sh"
    program.write_text(RUNNER_PROGRAM)
    program.chmod(0o755)
    script = f"exec orchestrator-github-runner {program}"
    spec = JobSpec("a runner", cluster.api.pool.name, script, awaits_platform_job=True)
    record, _ = await engine.offer(JobOffer(JobKey("forge", "a"), spec, Caller("https://forge", "set")))
    await cluster.api.until(record.id, "binding")
    record = engine.record(record.id)
    world = World(cluster, tmp_path, RunnerIdentity(record.runner, record.runner_uid))
    async with await world.gateway():
        assert await world.agent() == (0, "")
        found = world.work / "files" / "jitconfig"
        assert (found.read_text(), found.stat().st_mode & 0o777) == ("for-one-runner", 0o444)
        code, said = await world.job()
    assert code == 0, said
    assert said.splitlines() == [
        "registered with for-one-runner",
        f"job {record.id}, trace {trace_id(record.id)}",
        f"TRACEPARENT={traceparent(record.id)}",
        f"ORCHESTRATOR_JOB_ID={record.id}",
    ]
    assert [(one.run_id, one.repository, one.token) for one in reports] == [("9001", "acme/shop", "")] * 2
    assert engine.record(record.id).live


async def test_a_pods_job_finds_its_secret_as_a_file_and_the_record_has_its_version(cluster, started, tmp_path):
    value = "value-of-the-registry-key\n"
    file = tmp_path / "registry-key"
    file.write_text(value)
    file.chmod(0o400)
    secret = Registered("registry-key", "team-a", 1, 1, file=file, pools=("default",))
    store, hashed = StateStore(tmp_path / "secrets"), KeyedHash(bytes(32))
    room = SecretsRoom(Registry([secret]), store, AuditNotes(None), hashed.of, time.time_ns)
    note = cluster.api.engine.note
    cluster.server._handlers._deps = replace(cluster.deps, work_files=lambda record: room.files(record, note))
    world, job_id = await started(script='cat "$REGISTRY_KEY_FILE"; env | grep KEY', secrets=["registry-key"])
    async with await world.gateway():
        assert await world.agent() == (0, "")
        code, said = await world.job()
    assert (code, said) == (0, f"{value}REGISTRY_KEY_FILE={world.work}/files/registry-key\n")
    [delivered] = await cluster.events(job_id, SecretDelivered)
    assert delivered.version == hashed.of("secret registry-key", value)
    assert value.strip() not in str(await cluster.api.journal.facts_of(JobId(job_id)))
    assert b"***" in cluster.deps.masker.text(value).encode()


async def test_the_images_own_path_stays_and_identity_cannot_be_replaced(started):
    script = "echo $PATH; echo $ORCHESTRATOR_JOB_ID; echo $NO_PROXY; echo $IMAGE; echo $TRACEPARENT"
    world, job_id = await started(script=script, environment={"TRACEPARENT": "mine", "NO_PROXY": "a"})
    async with await world.gateway():
        assert (await world.agent())[0] == 0
        _, said = await world.job(IMAGE="kept", ORCHESTRATOR_JOB_ID="forged")
    lines = said.splitlines()
    assert lines[0] == f"{world.work / 'bin'}:{os.environ['PATH']}"
    assert lines[1:4] == [job_id, "a,127.0.0.1", "kept"]
    assert lines[4].startswith("00-")


async def test_a_reachable_api_server_ends_the_job_before_it_begins(started):
    world, job_id = await started()
    listener = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    world.environment["KUBERNETES_SERVICE_PORT"] = str(listener.sockets[0].getsockname()[1])
    async with await world.gateway(), listener:
        code, words = await world.agent()
    assert code == 78
    assert "egress_unproven" in words
    assert not (world.work / "start").exists()
    await world.cluster.api.until(job_id, "finished")


@pytest.mark.parametrize("status", [200, 502, 0])
async def test_a_gateway_that_lets_the_canary_out_or_does_not_answer_is_no_proof(started, status):
    world, _ = await started()
    server = await world.gateway(status)
    if not status:
        server.close()
        await server.wait_closed()
    code, words = await world.agent()
    server.close()
    assert (code, "egress_unproven" in words) == (78, True)


async def test_each_failure_has_its_code_and_one_line(started, tmp_path):
    world, job_id = await started()
    async with await world.gateway():
        good = dict(world.environment)
        empty = tmp_path / "empty"
        empty.write_text("")
        foreign = ServingCertificate.open(tmp_path / "foreign", "127.0.0.1", time.time).ca_pem
        cases = [
            ({"ORCHESTRATOR_RUNNER_API": ""}, 78, "lacks ORCHESTRATOR_RUNNER_API"),
            ({"KUBERNETES_SERVICE_HOST": ""}, 78, "lacks KUBERNETES_SERVICE_HOST"),
            ({"ORCHESTRATOR_CA_PEM": "nonsense"}, 78, "CA cannot be used"),
            ({"ORCHESTRATOR_TOKEN_FILE": str(tmp_path / "none")}, 77, "token cannot be read"),
            ({"ORCHESTRATOR_TOKEN_FILE": str(empty)}, 77, "token is empty"),
            ({"ORCHESTRATOR_CA_PEM": foreign}, 76, "not who it should be"),
            ({"ORCHESTRATOR_RUNNER_API": f"https://127.0.0.1:{free_port()}"}, 69, "did not answer"),
        ]
        for change, code, words in cases:
            world.environment = good | change
            found = await world.agent()
            assert (found[0], words in found[1], found[1].count("\n")) == (code, True, 1), found
        world.environment = good
        await world.cluster.api.engine.cancel(JobId(job_id), "test")
        await world.cluster.api.until(job_id, "finished")
        found = await world.agent()
        assert (found[0], "runner_unknown" in found[1]) == (77, True)
    assert list(world.work.iterdir()) == []


async def test_a_full_or_forbidden_work_folder_is_an_operating_system_error(started):
    world, _ = await started()
    world.work.rmdir()
    world.work.write_text("not a folder")
    async with await world.gateway():
        code, words = await world.agent()
    assert (code, words.startswith("orchestrator-agent: ")) == (71, True)


async def test_the_agent_can_be_stopped_while_it_waits(cluster, tmp_path):
    cluster.pods.warm.add("w")
    cluster.pods.hold_seconds = 30
    world = World(cluster, tmp_path, RunnerIdentity(RunnerName("warm-1"), "w"))
    async with await world.gateway():
        program = (
            "import orchestrator.agent.egress_proof as e, orchestrator.agent.pod as p, sys; e.FORBIDDEN = (); "
            "sys.exit(p.main())"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "--work", str(world.work), env=world.environment,
            stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        while cluster.pods.lookups == 0:
            await asyncio.sleep(0.01)
        process.terminate()
        _, words = await process.communicate()
    assert (process.returncode, words) == (143, b"orchestrator-agent: stopped before the job began\n")


@pytest.mark.slow
async def test_a_warm_agent_proves_again_while_it_waits(cluster, tmp_path):
    cluster.pods.warm.add("w")
    cluster.pods.hold_seconds = 0.3
    world = World(cluster, tmp_path, RunnerIdentity(RunnerName("warm-1"), "w"))
    async with await world.gateway():
        running = asyncio.create_task(world.agent())
        while cluster.pods.lookups < 3:
            await asyncio.sleep(0.01)
        listener = socket.create_server(("127.0.0.1", int(world.environment["KUBERNETES_SERVICE_PORT"])))
        before = cluster.pods.lookups
        while cluster.pods.lookups < before + 3:
            await asyncio.sleep(0.01)
        _, runner = await cluster.start("k")
        cluster.pods.assigned_to["w"] = runner
        code, words = await running
        listener.close()
    assert (code, "egress_unproven" in words) == (78, True)


# Every value that an environment may have, through every shell that is here.

values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
NASTY = [
    "",
    "\n",
    "'",
    "''",
    "\\",
    "a'b\"c`d$(e)$f",
    "\n\n trailing \n",
    "é\x81\x82\u0081漢🙂",
    "*?[a]~ !#&|;<>(){}",
    "-n",
]


@pytest.mark.parametrize("shell", SHELLS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(texts=st.lists(values, min_size=1, max_size=8))
def test_every_value_arrives_as_it_was(shell, tmp_path, texts):
    _check_quoting(shell, tmp_path, [*texts, *NASTY])


def _check_quoting(shell: str, folder: Path, texts: list[str]) -> None:
    script = folder / "job.sh"
    script.write_text(f"exec {shlex.quote(sys.executable)} -c 'import json, os; print(json.dumps(dict(os.environ)))'\n")
    wanted = {f"V{number}": text for number, text in enumerate(texts)}
    start = folder / "start"
    start.write_bytes(start_script(wanted, "/c'c", str(script), str(folder)))
    said = subprocess.run([shell, str(start)], env={}, capture_output=True, check=True, timeout=20)
    found = json.loads(said.stdout)
    assert {name: found[name] for name in wanted} == wanted
    assert found["PATH"].startswith("/c'c:")


def test_what_no_shell_can_set_is_left_out_with_a_word(tmp_path, capfd):
    texts = {"good": "1", "a-b": "2", "UID": "3", "x\ny": "4", "1a": "5"}
    text = start_script(texts, "/c", "/s", "/w").decode()
    assert "good='1'" in text
    assert not any(f"{name}=" in text for name in ("a-b", "UID", "1a"))
    assert capfd.readouterr().err.count("left out") == 4
