"""Documents that a job reports: checked, bounded, only while it runs, and never with a secret of its own."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from orchestrator.daemon.records.attest import ReportDesk
from orchestrator.errors import TryAgainError
from orchestrator.evidence.reported import CYCLONEDX
from orchestrator.evidence.reported_store import ReportedDocuments
from orchestrator.journal.redact import Masker
from orchestrator.model.events import ArtifactAttested
from orchestrator.model.job import JobId
from orchestrator.server.runner import reports
from orchestrator.server.runner.listeners import RunnerApi, RunnerApiDeps

DIGEST = "sha256:" + "a" * 64
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}


class _NoExchange:
    async def __call__(self, _runner, _form):
        raise AssertionError("nobody asks")


class Credentials:
    def __init__(self, identity) -> None:
        self.identity = identity

    async def verify(self, credential):
        return self.identity if credential == "its-own-token-value" else None


@dataclass
class Job:
    api: object
    id: JobId
    url: str
    documents: ReportedDocuments

    async def post(self, body, token="its-own-token-value", **headers):
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} | headers
        async with self.api.client.post(self.url, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def noted(self) -> list[ArtifactAttested]:
        facts = await self.api.journal.facts_of(self.id)
        return [fact.event for fact in facts if isinstance(fact.event, ArtifactAttested)]


def report(**changes):
    return {"digest": DIGEST, "predicate_type": CYCLONEDX, "predicate": BOM} | changes


@pytest.fixture
async def job(api, tmp_path) -> AsyncIterator[Job]:
    job_id = await api.job("reporting")
    identity = await api.run(job_id)
    documents, masker = ReportedDocuments(tmp_path / "reported"), Masker()
    deps = RunnerApiDeps(
        engine=api.engine,
        credentials=Credentials(identity),
        exchange=_NoExchange(),
        pool_of=lambda _record: api.pool,
        masker=masker,
        report=ReportDesk(documents).report,
    )
    runner_api = RunnerApi(deps)
    listener = socket.create_server(("127.0.0.1", 0))
    await runner_api.serve(identity.name, identity.uid, listener)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/runner/v1/attestations"
    try:
        yield Job(api, JobId(job_id), url, documents)
    finally:
        await runner_api.stop()


async def test_a_document_is_kept_byte_for_byte_before_its_fact(job):
    body = b'{"predicate": {"b": 1.0,  "a": [1e2]}, "digest": "%b", "predicate_type": "%b"}'
    status, answer = await job.post(body % (DIGEST.encode(), CYCLONEDX.encode()))
    assert status == 201
    (fact,) = await job.noted()
    assert (fact.digest, fact.predicate_type, fact.size_bytes) == (DIGEST, CYCLONEDX, 23)
    assert answer["predicate_digest"] == fact.predicate_digest
    assert job.documents.read(job.id, fact.predicate_digest) == b'{"b": 1.0,  "a": [1e2]}'


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "json_malformed"),
        (b'{"predicate": {"a": 1, "a": 2}}', 400, "json_malformed"),
        (b"[]", 422, "validation_failed"),
        (report(predicate=[1]), 422, "validation_failed"),
        (report(predicate=None), 422, "validation_failed"),
        (report(digest="sha256:../x"), 422, "validation_failed"),
        (report(more="x"), 422, "validation_failed"),
        (report(predicate_type="https://slsa.dev/provenance/v1"), 422, "predicate_type_refused"),
        (report(predicate_type="https://sigstore.dev/cosign/sign/v1"), 422, "predicate_type_refused"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name_and_leaves_nothing(job, body, status, reason):
    found, problem = await job.post(body)
    assert (found, problem["reason"]) == (status, reason)
    assert await job.noted() == []
    assert not job.documents.read(job.id, "sha256:" + "0" * 64)


async def test_a_document_with_a_secret_of_the_job_is_refused_in_every_form(job):
    for text in ("its-own-token-value", "aXRzLW93bi10b2tlbi12YWx1ZQ", b"its-own-token-value".hex()):
        status, problem = await job.post(report(predicate=BOM | {"note": f"x{text}y"}))
        assert (status, problem["reason"]) == (422, "document_holds_secret")
        assert text not in json.dumps(problem)
    assert await job.noted() == []


async def test_reports_are_bounded_in_size_and_number(job, monkeypatch):
    for size, reason in ((4 << 20, "document_too_large"), ((4 << 20) + 8192, "body_too_large")):
        status, problem = await job.post(report(predicate=BOM | {"note": "x" * size}))
        assert (status, problem["reason"]) == (413, reason)
    monkeypatch.setattr(reports, "MAX_REPORTS", 5)
    answers = [await job.post(report(predicate={"n": number})) for number in range(4)]
    assert [status for status, _ in answers] == [201, 201, 201, 409]
    assert answers[-1][1]["reason"] == "too_many_documents"


async def test_a_document_that_is_reported_again_is_no_other(job, monkeypatch):
    """As by a job whose answer was lost. What could not be kept or recorded then does not count against the job."""
    monkeypatch.setattr(reports, "MAX_REPORTS", 3)

    async def down(*_):
        raise TryAgainError("the journal cannot be written", reason="journal_unavailable")

    with monkeypatch.context() as broken:
        broken.setattr(job.api.engine, "note", down)
        for _ in range(4):
            status, problem = await job.post(report())
            assert (status, problem["reason"]) == (503, "journal_unavailable")
    answers = [await job.post(report()) for _ in range(3)]
    assert [status for status, _ in answers] == [201] * 3
    assert answers[0][1] == answers[1][1]
    (fact,) = await job.noted()
    assert fact.predicate_digest == answers[0][1]["predicate_digest"]


async def test_nobody_else_reports_and_nobody_after_the_end(job):
    status, problem = await job.post(report(), token="another-token")
    assert (status, problem["reason"]) == (401, "runner_unknown")
    await job.api.finish(job.id)
    status, problem = await job.post(report())
    assert (status, problem["reason"]) == (409, "job_not_running")
    assert await job.noted() == []
