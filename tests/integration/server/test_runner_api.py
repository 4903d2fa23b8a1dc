"""The runner API over real sockets: work is handed out once, to the right runner on its own listener."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from orchestrator.errors import TryAgainError
from orchestrator.identity.exchange import Collaborators, Exchange
from orchestrator.identity.grammar import JWT_TYPE, TOKEN_EXCHANGE
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.rate import RateLimit
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.events import AlarmRaised, ArtifactReported, JobEnded, SpansRelayed
from orchestrator.model.job import JobId
from orchestrator.server.runner.listeners import RunnerApi, RunnerApiDeps, RunnerLimits
from orchestrator.server.runner.token import token_exchange
from orchestrator.server.runner.work import RunnerEndpoints
from orchestrator.testing.policy import FixedPolicy

PROOF = {"proof": {"denied": ["metadata", "direct"], "reached": []}}
DIGEST = "sha256:" + "a" * 64


class Credentials:
    """Runner tokens in the shape of real ones, checked by the backend that made the runners."""

    def __init__(self, backend) -> None:
        self._backend = backend

    async def verify(self, credential: str) -> RunnerIdentity | None:
        return await self._backend.verify(credential.replace("token-", "token:", 1))


@dataclass
class Runners:
    """Two runners with a listener each, as the sandbox backend would hand them over."""

    api: object
    runner_api: RunnerApi
    relayed: list[bytes]
    urls: dict[str, str] = field(default_factory=dict)

    async def start(self, key: str, **body) -> tuple[str, RunnerIdentity]:
        job_id = await self.api.job(key, **body)
        await self.api.until(job_id, "binding")
        record = self.api.engine.record(JobId(job_id))
        identity = RunnerIdentity(record.runner, record.runner_uid)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.urls[identity.name] = f"http://127.0.0.1:{listener.getsockname()[1]}/runner/v1"
        await self.runner_api.serve(identity.name, identity.uid, listener)
        return job_id, identity

    async def post(self, where: RunnerIdentity, path: str, *, who: RunnerIdentity | None = None, **options):
        headers = {"Authorization": f"Bearer token-{(who or where).uid}"} | options.pop("headers", {})
        answer = await self.api.client.post(f"{self.urls[where.name]}/{path}", headers=headers, **options)
        document = await answer.json() if "json" in answer.content_type else await answer.read()
        return answer, document

    async def events(self, job_id: str, kind: type):
        return [fact.event for fact in await self.api.journal.facts_of(JobId(job_id)) if isinstance(fact.event, kind)]


@pytest.fixture
async def runners(api) -> AsyncIterator[Runners]:
    relayed: list[bytes] = []

    async def relay(_job_id: JobId, body: bytes, encoding: str) -> SpansRelayed:
        relayed.append(gzip.decompress(body) if encoding == "gzip" else body)
        return SpansRelayed(2, 1)

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
    runner_api = RunnerApi(
        RunnerApiDeps(
            engine=api.engine,
            credentials=Credentials(api.backend),
            exchange=token_exchange(exchange),
            pool_of=Pools({api.pool.name: api.pool}).of,
            relay=relay,
            endpoints=RunnerEndpoints(otlp=True),
            limits=RunnerLimits(body_timeout_seconds=0.5, idle_seconds=1, max_connections=4, max_artifacts=3),
        )
    )
    try:
        yield Runners(api, runner_api, relayed)
    finally:
        await runner_api.stop()


async def test_a_claim_hands_out_the_work_once(runners):
    job_id, runner = await runners.start("k", script="make", environment={"A": "1"}, timeout_seconds=30)
    answer, work = await runners.post(runner, "claim", json=PROOF)
    assert answer.status == 200
    assert work["job"] == {
        "id": job_id, "name": "build", "attempt": 1, "script": "make", "environment": {"A": "1"}, "timeout_seconds": 30,
    }  # fmt: skip
    assert work["otlp_endpoint"] == "http://127.0.0.1:3129/runner"
    assert answer.headers["Cache-Control"] == "no-store"
    assert runner.uid not in str(work)
    again, problem = await runners.post(runner, "claim", json=PROOF)
    assert (again.status, problem["reason"]) == (409, "already_bound")
    assert [event.alarm for event in await runners.events(job_id, AlarmRaised)] == ["second_claim"]


async def test_of_many_claims_at_once_one_wins(runners):
    _, runner = await runners.start("k")
    answers = await asyncio.gather(*(runners.post(runner, "claim", json=PROOF) for _ in range(4)))
    assert sorted(answer.status for answer, _ in answers) == [200, 409, 409, 409]


async def test_a_job_that_claims_again_and_again_does_not_fill_the_journal(runners):
    job_id, runner = await runners.start("k")
    await runners.post(runner, "claim", json=PROOF)
    for _ in range(20):
        again, problem = await runners.post(runner, "claim", json=PROOF)
        assert (again.status, problem["reason"]) == (409, "already_bound")
    assert 1 <= len(await runners.events(job_id, AlarmRaised)) <= 8


async def test_a_credential_is_known_to_the_masker_from_the_claim_on(runners):
    job_id, runner = await runners.start("k")
    masker = runners.runner_api._deps.masker
    said = f"my token is token-{runner.uid}!"
    assert masker.text(said) == said
    await runners.post(runner, "claim", json=PROOF)
    assert masker.text(said) == "my token is ***!"
    name = f"token-{runner.uid}.whl"
    await runners.post(runner, "artifacts", json={"name": name, "digest": DIGEST, "size_bytes": 1})
    assert [event.name for event in await runners.events(job_id, ArtifactReported)] == ["***.whl"]
    masker.drop(job_id)
    assert masker.text(said) == said


async def test_a_token_on_another_runners_listener_is_refused_and_both_jobs_get_an_alarm(runners):
    job_a, a = await runners.start("a")
    job_b, b = await runners.start("b")
    for path, body in (("claim", PROOF), ("artifacts", {"name": "x", "digest": DIGEST})):
        answer, problem = await runners.post(a, path, who=b, json=body)
        assert (answer.status, problem["reason"]) == (401, "runner_unknown")
    form = {"grant_type": TOKEN_EXCHANGE, "subject_token": f"token-{b.uid}", "subject_token_type": JWT_TYPE}
    answer, refused = await runners.post(a, "token", data=form | {"audience": "cloud"})
    assert (answer.status, refused["error"]) == (401, "invalid_client")
    for job_id in (job_a, job_b):
        alarms = await runners.events(job_id, AlarmRaised)
        assert [event.alarm for event in alarms] == ["runner_credential_misused"] * 3
    assert runners.api.engine.record(JobId(job_b)).bound_uid == ""
    # It bounds what a hostile runner can write into the journal.
    for _ in range(20):
        await runners.post(a, "claim", who=b, json=PROOF)
    assert len(await runners.events(job_a, AlarmRaised)) == 8


async def test_a_wrong_or_absent_token_is_refused_without_an_alarm(runners):
    job_id, runner = await runners.start("k")
    for header in ({"Authorization": "Bearer nonsense"}, {"Authorization": "Basic x"}):
        answer, problem = await runners.post(runner, "claim", json=PROOF, headers=header)
        assert answer.status == 401
        assert "nonsense" not in str(problem)
    assert not await runners.events(job_id, AlarmRaised)


async def test_unproven_egress_and_an_ended_job_get_no_work(runners):
    _, a = await runners.start("a")
    answer, problem = await runners.post(a, "claim", json={"proof": {"denied": ["x"], "reached": ["metadata"]}})
    assert (answer.status, problem["reason"]) == (403, "egress_unproven")
    job_b, b = await runners.start("b")
    await runners.api.engine.cancel(JobId(job_b), "me")
    answer, problem = await runners.post(b, "claim", json=PROOF)
    assert answer.status in (401, 410)
    assert problem["reason"] in ("job_ended", "runner_unknown")


async def test_a_running_job_exchanges_its_identity_and_nobody_else_does(runners):
    job_id, runner = await runners.start("k")
    form = {
        "grant_type": TOKEN_EXCHANGE, "subject_token": f"token-{runner.uid}", "subject_token_type": JWT_TYPE,
        "audience": "cloud",
    }  # fmt: skip
    early, _ = await runners.post(runner, "token", data=form)
    assert early.status == 400
    await runners.post(runner, "claim", json=PROOF)
    answer, issued = await runners.post(runner, "token", data=form)
    assert answer.status == 200, issued
    assert answer.headers["Cache-Control"] == "no-store"
    url = f"{runners.api.url}/v1/introspect"
    asked = await (await runners.api.client.post(url, data={"token": issued["access_token"]})).json()
    assert (asked["active"], asked["job_id"]) == (True, job_id)
    await runners.api.finish(job_id)
    asked = await (await runners.api.client.post(url, data={"token": issued["access_token"]})).json()
    assert asked == {"active": False}
    twice = [*form.items(), ("subject_token", "other")]
    for data in (twice, {"a": "b"}, form | {"x": "y" * 40_000}, b"%ff%fe", ""):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        bad, document = await runners.post(runner, "token", data=data, headers=headers)
        assert (bad.status, document["error"]) == (400, "invalid_request")


async def test_an_end_on_its_way_to_the_journal_is_the_end_of_the_jobs_identity(runners, monkeypatch):
    job_id, runner = await runners.start("k")
    await runners.post(runner, "claim", json=PROOF)
    form = {
        "grant_type": TOKEN_EXCHANGE, "subject_token": f"token-{runner.uid}", "subject_token_type": JWT_TYPE,
        "audience": "cloud",
    }  # fmt: skip
    _, issued = await runners.post(runner, "token", data=form)
    append, written, waits = runners.api.journal.append, asyncio.Event(), asyncio.Event()

    async def slow(facts):
        stored = await append(facts)
        if any(isinstance(event, JobEnded) for _, event in facts):
            written.set()
            await waits.wait()
        return stored

    monkeypatch.setattr(runners.api.journal, "append", slow)
    await runners.api.engine.cancel(JobId(job_id), "a test")
    await written.wait()
    try:
        url = f"{runners.api.url}/v1/introspect"
        asked = await (await runners.api.client.post(url, data={"token": issued["access_token"]})).json()
        artifact = {"name": "late", "digest": DIGEST, "media_type": "text/plain", "size_bytes": 7}
        late, problem = await asyncio.wait_for(runners.post(runner, "artifacts", json=artifact), 5)
    finally:
        waits.set()
    assert asked == {"active": False}
    assert (late.status, problem["reason"]) == (409, "job_not_running")
    await runners.api.until(job_id, "finished")


async def test_artifacts_are_noted_bounded_and_only_while_running(runners):
    job_id, runner = await runners.start("k")
    artifact = {"name": "dist/app.whl", "digest": DIGEST, "media_type": "application/zip", "size_bytes": 7}
    early, problem = await runners.post(runner, "artifacts", json=artifact)
    assert (early.status, problem["reason"]) == (409, "job_not_running")
    await runners.post(runner, "claim", json=PROOF)
    for bad in ({"digest": "md5:1"}, {"name": "../x"}, {"size_bytes": -1}, {"extra": 1}):
        answer, problem = await runners.post(runner, "artifacts", json=artifact | bad)
        assert (answer.status, problem["reason"]) == (422, "validation_failed")
    names = [f"{number}.whl" for number in range(4)]
    statuses = [(await runners.post(runner, "artifacts", json=artifact | {"name": name}))[0].status for name in names]
    assert statuses == [201, 201, 201, 409]
    noted = [ArtifactReported(name, DIGEST, "application/zip", 7) for name in names[:3]]
    assert await runners.events(job_id, ArtifactReported) == noted


async def test_an_artifact_that_is_reported_again_is_no_other(runners, monkeypatch):
    """As by a job whose answer was lost: after a failure it is on record at last, then once, and counts once."""
    job_id, runner = await runners.start("k")
    await runners.post(runner, "claim", json=PROOF)
    artifact = {"name": "app.whl", "digest": DIGEST, "media_type": "application/zip", "size_bytes": 7}

    async def down(*_):
        raise TryAgainError("the journal cannot be written", reason="journal_unavailable")

    with monkeypatch.context() as broken:
        broken.setattr(runners.api.engine, "note", down)
        for _ in range(4):
            answer, problem = await runners.post(runner, "artifacts", json=artifact)
            assert (answer.status, problem["reason"]) == (503, "journal_unavailable")
    both = [runners.post(runner, "artifacts", json=artifact) for _ in range(5)]
    assert [answer.status for answer, _ in await asyncio.gather(*both)] == [201] * 5
    assert await runners.events(job_id, ArtifactReported) == [ArtifactReported("app.whl", DIGEST, "application/zip", 7)]
    more = [artifact | {"name": name} for name in ("b", "c")]
    assert [(await runners.post(runner, "artifacts", json=one))[0].status for one in more] == [201, 201]


async def test_spans_are_relayed_by_listener_alone_and_counted_now_and_then(runners):
    job_id, runner = await runners.start("k")
    headers = {"Content-Type": "application/x-protobuf"}
    url = f"{runners.urls[runner.name]}/traces"
    client = runners.api.client
    early = await client.post(url, data=b"spans", headers=headers)
    assert early.status == 409
    await runners.post(runner, "claim", json=PROOF)
    first = await client.post(url, data=b"spans", headers=headers)
    reply = ExportTraceServiceResponse.FromString(await first.read())
    assert (first.status, reply.partial_success.rejected_spans) == (200, 1)
    for _ in range(3):
        packed = gzip.compress(b"more")
        assert (await client.post(url, data=packed, headers=headers | {"Content-Encoding": "gzip"})).status == 200
    assert runners.relayed == [b"spans"] + [b"more"] * 3
    assert await runners.events(job_id, SpansRelayed) == [SpansRelayed(2, 1)]
    await runners.runner_api.close(runner.name)
    assert await runners.events(job_id, SpansRelayed) == [SpansRelayed(2, 1), SpansRelayed(6, 3)]
    wrong = {"Content-Type": "application/json"}
    _, other = await runners.start("k2")
    await runners.post(other, "claim", json=PROOF)
    refused = await client.post(f"{runners.urls[other.name]}/traces", data=b"{}", headers=wrong)
    assert refused.status == 415


async def test_few_spans_of_one_runner_are_in_memory_at_once_and_none_after_its_end(runners, monkeypatch):
    job_id, runner = await runners.start("k")
    await runners.post(runner, "claim", json=PROOF)
    began, gate = [], asyncio.Event()

    async def relay(_job_id, body, _encoding):
        began.append(body)
        await gate.wait()
        return SpansRelayed(1, 0)

    deps = runners.runner_api._deps
    monkeypatch.setattr(runners.runner_api._handlers, "_deps", replace(deps, relay=relay))
    headers = {"Content-Type": "application/x-protobuf"}

    async def send():
        answer = await runners.api.client.post(f"{runners.urls[runner.name]}/traces", data=b"spans", headers=headers)
        return answer.status

    sending = [asyncio.create_task(send()) for _ in range(4)]
    while len(began) < 2:
        await asyncio.sleep(0.01)
    await runners.api.engine.cancel(JobId(job_id), "test")
    await runners.api.until(job_id, "finished")
    gate.set()
    assert (await asyncio.gather(*sending)).count(409) >= 2
    assert began == [b"spans"] * 2, "the others waited unread, and then their job had ended"


async def test_wrong_paths_and_methods_and_bodies_are_problems(runners):
    _, runner = await runners.start("k")
    base = runners.urls[runner.name]
    client = runners.api.client
    for method, path, status in (("POST", "nowhere", 404), ("GET", "claim", 405), ("DELETE", "token", 405)):
        answer = await client.request(method, f"{base}/{path}")
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
    for body, status in ((b"{", 400), (b"[" * 9999, 400), (b"{}", 422), (b" " * 70_000, 413)):
        headers = {"Content-Type": "application/json"}
        answer, _ = await runners.post(runner, "claim", data=body, headers=headers)
        assert answer.status == status
    many = {"proof": {"denied": ["x"] * 65, "reached": []}}
    assert (await runners.post(runner, "claim", json=many))[0].status == 422


async def test_a_closed_runner_is_not_served_and_its_connections_are_cut(runners):
    _, runner = await runners.start("k")
    port = int(runners.urls[runner.name].split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await runners.runner_api.close(runner.name)
    await runners.runner_api.close(runner.name)
    async with asyncio.timeout(15):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await runners.post(runner, "claim", json=PROOF)


async def test_connections_of_one_runner_are_bounded_and_do_not_starve_another(runners):
    _, a = await runners.start("a")
    _, b = await runners.start("b")
    port = int(runners.urls[a.name].split(":")[2].split("/")[0])
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
    assert (await runners.post(b, "claim", json=PROOF))[0].status == 200
    async with asyncio.timeout(15):  # six are refused at once, four when they stay idle
        for reader, writer in held:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
    assert (await runners.post(a, "claim", json=PROOF))[0].status == 200
