"""What a running job says it deploys: strict, once, durable, and only the job's own runner says it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.model.events import ArtifactNamed
from orchestrator.model.job import JobId
from orchestrator.model.record import fold
from orchestrator.server.runner.listeners import RunnerApi, RunnerApiDeps

ONE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Nobody:
    async def __call__(self, _runner: object, _form: object) -> Any:
        raise AssertionError("nobody asks")


@dataclass
class Its:
    """One runner's own credential."""

    identity: Any

    async def verify(self, credential: str) -> Any:
        return self.identity if credential == "its-own-token-value" else None


@dataclass
class Job:
    api: Any
    id: JobId
    url: str

    async def say(self, body: object, token: str = "its-own-token-value") -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        async with self.api.client.post(self.url, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def said(self) -> list[str]:
        facts = await self.api.journal.facts_of(self.id)
        return [fact.event.digest for fact in facts if isinstance(fact.event, ArtifactNamed)]


async def bound(api: Any, key: str, **spec: Any) -> tuple[RunnerApi, Job]:
    job_id = await api.job(key, **spec)
    identity = await api.run(job_id)
    deps = RunnerApiDeps(
        engine=api.engine, credentials=Its(identity), exchange=Nobody(), pool_of=lambda _record: api.pool
    )
    runner_api = RunnerApi(deps)
    listener = socket.create_server(("127.0.0.1", 0))
    await runner_api.serve(identity.name, identity.uid, listener)
    return runner_api, Job(api, JobId(job_id), f"http://127.0.0.1:{listener.getsockname()[1]}/runner/v1/deployment")


@pytest.fixture
async def job(api: Any) -> AsyncIterator[Job]:
    runner_api, made = await bound(api, "deploying")
    yield made
    await runner_api.stop()


async def test_the_first_word_counts_and_may_be_said_again(job: Job) -> None:
    assert await job.say({"artifact_digest": ONE}) == (200, {"job_id": job.id, "artifact_digest": ONE})
    assert await job.said() == [ONE], "durable when it is answered"
    assert job.api.engine.record(job.id).offer.spec.artifact_digest == ONE
    assert (await job.say({"artifact_digest": ONE}))[0] == 200
    status, problem = await job.say({"artifact_digest": OTHER})
    assert (status, problem["reason"]) == (409, "artifact_already_named")
    assert ONE in problem["detail"]
    assert await job.said() == [ONE]
    assert fold(await job.api.journal.facts_of(job.id)).offer.spec.artifact_digest == ONE


async def test_of_several_at_once_one_counts(job: Job) -> None:
    answers = await asyncio.gather(*(job.say({"artifact_digest": digest}) for digest in [ONE, OTHER] * 8))
    (said,) = await job.said()
    assert sorted(status for status, _ in answers) == [200] * 8 + [409] * 8
    assert {answer["artifact_digest"] for status, answer in answers if status == 200} == {said}


async def test_what_was_dispatched_stands(api: Any) -> None:
    runner_api, job = await bound(api, "dispatched", artifact_digest=ONE)
    assert (await job.say({"artifact_digest": ONE}))[0] == 200
    status, problem = await job.say({"artifact_digest": OTHER})
    assert (status, problem["reason"]) == (409, "artifact_already_named")
    assert await job.said() == []
    await runner_api.stop()


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "json_malformed"),
        (b"[]", 422, "validation_failed"),
        ({}, 422, "validation_failed"),
        ({"artifact_digest": ""}, 422, "validation_failed"),
        ({"artifact_digest": ONE.upper()}, 422, "validation_failed"),
        ({"artifact_digest": ONE + "\n"}, 422, "validation_failed"),
        ({"artifact_digest": None}, 422, "validation_failed"),
        ({"artifact_digest": ONE, "environment": "prod"}, 422, "validation_failed"),
        (b"x" * (9 << 10), 413, "body_too_large"),
    ],
)
async def test_what_does_not_fit_is_refused_and_names_nothing(job: Job, body: object, status: int, reason: str) -> None:
    found, problem = await job.say(body)
    assert (found, problem["reason"]) == (status, reason)
    assert await job.said() == []


async def test_nobody_else_says_it_and_nobody_after_the_end(job: Job) -> None:
    status, problem = await job.say({"artifact_digest": ONE}, token="another-token")
    assert (status, problem["reason"]) == (401, "runner_unknown")
    await job.api.finish(job.id)
    status, problem = await job.say({"artifact_digest": ONE})
    assert (status, problem["reason"]) == (409, "job_not_running")
    assert await job.said() == []
