"""The report of a runner's hook, and the files that go out with the work, on the runner API over a real socket."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.identity.exchange import Collaborators, Exchange
from orchestrator.identity.grammar import JWT_TYPE, TOKEN_EXCHANGE
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.rate import RateLimit
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.decision import Verdict
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec
from orchestrator.model.outcome import EndReason
from orchestrator.model.platform import PlatformJob
from orchestrator.model.record import Record, fold
from orchestrator.server.deps import HookReport
from orchestrator.server.runner import naming, work_files
from orchestrator.server.runner.listeners import RunnerApi, RunnerApiDeps, RunnerLimits
from orchestrator.server.runner.token import token_exchange
from orchestrator.telemetry.ids import traceparent
from orchestrator.testing.policy import FixedPolicy

PROOF = {"proof": {"denied": ["metadata"], "reached": []}}
REPORT = {"run_id": "9001", "run_attempt": "1", "repository": "acme/shop"}
SECRET = "registration-of-one-runner"


@dataclass
class Forge:
    """What the ports answer."""

    api: Any
    runner_api: RunnerApi
    masker: Masker
    urls: dict[str, str] = field(default_factory=dict)
    answers: list[Any] = field(default_factory=list)
    """Of the namer, in turn: an exception, None, `hang`, or the repository of the job that is named."""
    reports: list[HookReport] = field(default_factory=list)
    files: list[Any] = field(default_factory=list)
    """Of the port for files, in turn: an exception, `hang`, or the files."""

    async def name(self, identity: RunnerIdentity, report: HookReport) -> Record | None:
        self.reports.append(report)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer == "hang":
            await asyncio.Event().wait()
        return await self.api.engine.name_job(identity.name, platform_job(answer)) if answer else None

    async def make(self, _record: Record) -> dict[str, str]:
        made = self.files.pop(0) if self.files else {"jitconfig": SECRET}
        if isinstance(made, Exception):
            raise made
        if made == "hang":
            await asyncio.Event().wait()
        return made

    async def start(self, key: str, *, awaits: bool = True) -> tuple[JobId, RunnerIdentity]:
        spec = JobSpec("a runner", self.api.pool.name, "run", awaits_platform_job=awaits)
        record, _ = await self.api.engine.offer(JobOffer(JobKey("forge", key), spec, Caller("https://forge", "set")))
        await self.api.until(record.id, "binding")
        record = self.api.engine.record(record.id)
        identity = RunnerIdentity(record.runner, record.runner_uid)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.urls[identity.name] = f"http://127.0.0.1:{listener.getsockname()[1]}/runner/v1"
        await self.runner_api.serve(identity.name, identity.uid, listener)
        return record.id, identity

    async def bound(self, key: str = "a", **how: Any) -> tuple[JobId, RunnerIdentity]:
        job_id, runner = await self.start(key, **how)
        assert (await self.post(runner, "claim", json=PROOF))[0] == 200
        return job_id, runner

    async def post(self, where: RunnerIdentity, path: str, *, who: RunnerIdentity | None = None, **options: Any):
        headers = {"Authorization": f"Bearer token-{(who or where).uid}"} | options.pop("headers", {})
        answer = await self.api.client.post(f"{self.urls[where.name]}/{path}", headers=headers, **options)
        return answer.status, await answer.json() if "json" in answer.content_type else await answer.read()


def platform_job(repository: str) -> PlatformJob:
    return PlatformJob(f"forge/{repository}/9001/1/5", "build", Caller("https://forge", repository), proof="oidc")


class Credentials:
    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def verify(self, credential: str) -> RunnerIdentity | None:
        return await self._backend.verify(credential.replace("token-", "token:", 1))


@pytest.fixture
async def forge(api) -> AsyncIterator[Forge]:
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
    made = Forge(api, None, Masker())  # type: ignore[arg-type]
    made.runner_api = RunnerApi(
        RunnerApiDeps(
            engine=api.engine,
            credentials=Credentials(api.backend),
            exchange=token_exchange(exchange),
            pool_of=Pools({api.pool.name: api.pool}).of,
            masker=made.masker,
            work_files=made.make,
            namer=made.name,
            audience_of=lambda record: f"https://us.example/{record.offer.key.source}",
            limits=RunnerLimits(body_timeout_seconds=0.5),
        )
    )
    try:
        yield made
    finally:
        await made.runner_api.stop()


async def ended(forge: Forge, job_id: JobId):
    await forge.api.until(job_id, "finished")
    return fold(await forge.api.journal.facts_of(job_id)).outcome


# --- files ---


async def test_files_go_out_with_the_work_once_and_are_masked(forge):
    job_id, runner = await forge.start("a")
    status, work = await forge.post(runner, "claim", json=PROOF)
    assert status == 200
    assert work["files"] == {"jitconfig": SECRET}
    assert (work["job_url"], work["audience"]) == ("http://127.0.0.1:3129/runner/v1/job", "https://us.example/forge")
    assert forge.masker.text(f"the secret: {SECRET}") == "the secret: ***"
    status, again = await forge.post(runner, "claim", json=PROOF)
    assert (status, again["reason"]) == (409, "already_bound")
    kept = "".join(map(str, await forge.api.journal.facts_of(job_id)))
    assert SECRET not in kept


async def test_a_job_that_was_known_from_the_start_has_no_such_work(forge):
    forge.files = [GiveUpError("never asked for", reason="no")]
    _, runner = await forge.start("a", awaits=False)
    status, work = await forge.post(runner, "claim", json=PROOF)
    assert status == 200
    assert work.keys().isdisjoint({"files", "job_url", "audience"})
    status, problem = await forge.post(runner, "job", json=REPORT)
    assert (status, problem["reason"]) == (409, "not_awaiting")
    assert forge.reports == []


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ([GiveUpError("the set is gone", reason="gone")], "the set is gone"),
        ([TryAgainError("not yet", reason="away")] * 3 + ["hang"], "not made within 0.6 s"),
        ([TryAgainError("come in an hour", reason="away", retry_after_seconds=3600)], "come in an hour"),
        ([{"../x": "y"}], "names that cannot be"),
        ([{".x": "y"}], "names that cannot be"),
        ([{f"f{n}": "" for n in range(9)}], "8 at most"),
        ([{"x": "y" * (1 << 20), "z": "1"}], "1048576 bytes at most"),
    ],
)
async def test_without_its_files_a_bound_runner_gets_nothing_and_its_job_ends(forge, monkeypatch, made, why):
    monkeypatch.setattr(work_files, "WORK_SECONDS", 0.6)
    monkeypatch.setattr(work_files, "_FIRST_PAUSE", 0.01)
    forge.files = list(made)
    job_id, runner = await forge.start("a")
    status, problem = await forge.post(runner, "claim", json=PROOF)
    assert (status, problem["reason"]) == (410, "work_unavailable")
    outcome = await ended(forge, job_id)
    assert outcome.reason is EndReason.WORK_UNAVAILABLE
    assert why in outcome.message


async def test_files_are_asked_for_until_they_are_made(forge, monkeypatch):
    monkeypatch.setattr(work_files, "_FIRST_PAUSE", 0.01)
    forge.files = [TryAgainError("not yet", reason="away")] * 4
    _, runner = await forge.start("a")
    status, work = await forge.post(runner, "claim", json=PROOF)
    assert (status, work["files"]) == (200, {"jitconfig": SECRET})


# --- the report ---


async def test_a_named_job_has_an_identity_and_before_it_none(forge):
    job_id, runner = await forge.bound()
    form = {
        "grant_type": TOKEN_EXCHANGE, "subject_token": f"token-{runner.uid}", "audience": "cloud",
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token", "requested_token_type": JWT_TYPE,
    }  # fmt: skip
    artifact = {"name": "a", "digest": "sha256:" + "a" * 64}
    assert (await forge.post(runner, "token", data=form))[0] == 400
    assert (await forge.post(runner, "artifacts", json=artifact))[1]["reason"] == "job_not_running"
    deploys = {"artifact_digest": artifact["digest"]}
    assert (await forge.post(runner, "deployment", json=deploys))[1]["reason"] == "job_not_running"
    forge.answers = ["acme/shop"]
    status, answer = await forge.post(runner, "job", json=REPORT | {"token": "aa.bb.cc"})
    assert status == 200
    assert answer == {"job_id": job_id, "name": "build", "traceparent": traceparent(job_id)}
    assert forge.reports == [HookReport("9001", "1", "acme/shop", "aa.bb.cc")]
    assert (await forge.post(runner, "artifacts", json=artifact))[0] == 201
    assert await forge.post(runner, "deployment", json=deploys) == (200, {"job_id": job_id} | deploys)
    forge.answers = ["acme/shop"]
    assert (await forge.post(runner, "job", json=REPORT))[1] == answer, "the same again is the same"


async def test_a_denial_brings_each_reason_of_policys(forge, monkeypatch):
    policy = FixedPolicy(Verdict.DENY)
    monkeypatch.setattr(forge.api.engine._namings, "_policy", policy)
    _, runner = await forge.bound()
    forge.answers = ["mallory/shop"]
    status, problem = await forge.post(runner, "job", json=REPORT)
    assert (status, problem["reason"]) == (403, "policy_denied")
    decision = await policy.admit(forge.api.engine.record_of_runner(runner.name), forge.api.pool)
    assert problem["reasons"] == [{"code": one.code, "message": one.message} for one in decision.reasons]
    assert problem["reasons"], "there is something to show"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (GiveUpError("another has it", reason="job_already_named"), 409, "job_already_named"),
        (GiveUpError("and it has one", reason="second_job"), 409, "second_job"),
        (GiveUpError("the claims differ", reason="run_mismatch"), 403, "naming_refused"),
        (TryAgainError("ask later", reason="forge_away", retry_after_seconds=7), 503, "temporarily_unavailable"),
    ],
)
async def test_why_a_job_is_not_named(forge, error, status, reason):
    _, runner = await forge.bound()
    forge.answers = [error]
    got, problem = await forge.post(runner, "job", json=REPORT)
    assert (got, problem["reason"], problem["detail"]) == (status, reason, str(error))


async def test_what_nobody_can_say_is_held_and_then_told(forge, monkeypatch):
    monkeypatch.setattr(naming, "HOLD_SECONDS", 0.2)
    _, runner = await forge.bound()
    forge.answers = [None, "hang", "acme/shop"]
    assert (await forge.post(runner, "job", json=REPORT))[0] == 204
    began = time.monotonic()
    assert (await forge.post(runner, "job", json=REPORT))[0] == 204
    assert time.monotonic() - began >= 0.19
    assert (await forge.post(runner, "job", json=REPORT))[0] == 200


async def test_a_time_out_of_the_platforms_is_no_hold(forge):
    _, runner = await forge.bound()
    forge.answers = [TimeoutError()]
    assert (await forge.post(runner, "job", json=REPORT))[0] == 500


async def test_one_report_of_a_runner_is_looked_into_at_a_time(forge, monkeypatch):
    monkeypatch.setattr(naming, "HOLD_SECONDS", 0.2)
    _, runner = await forge.bound()
    forge.answers = ["hang", "acme/shop"]
    first, second = await asyncio.gather(*(forge.post(runner, "job", json=REPORT) for _ in range(2)))
    assert sorted((first[0], second[0])) == [200, 204]


async def test_who_is_refused_too_often_is_not_looked_into_any_more(forge):
    _, runner = await forge.bound()
    forge.answers = [GiveUpError("no", reason="run_mismatch")] * naming.MAX_REFUSALS + ["acme/shop"]
    for _ in range(naming.MAX_REFUSALS):
        assert (await forge.post(runner, "job", json=REPORT))[0] == 403
    status, problem = await forge.post(runner, "job", json=REPORT)
    assert (status, problem["reason"]) == (403, "naming_refused")
    assert forge.answers == ["acme/shop"]


async def test_only_a_bound_runner_reports_and_only_on_its_own_listener(forge):
    _, other = await forge.bound("b")
    job_id, runner = await forge.start("a")
    assert (await forge.post(runner, "job", json=REPORT))[1]["reason"] == "job_not_running"
    assert (await forge.post(runner, "job", json=REPORT, who=other))[1]["reason"] == "runner_unknown"
    assert (await forge.post(runner, "job", json=REPORT, headers={"Authorization": "Bearer x"}))[0] == 401
    assert (await forge.post(runner, "claim", json=PROOF))[0] == 200
    await forge.api.engine.cancel(job_id, "test")
    await forge.api.until(job_id, "finished")
    assert (await forge.post(runner, "job", json=REPORT))[0] in (401, 409)
    assert forge.reports == []


async def test_a_namer_that_says_so_does_not_make_it_so(forge):
    """A record without an identity, or of another runner, names nobody."""
    other_id, other = await forge.bound("b")
    job_id, runner = await forge.bound("a")
    await forge.api.engine.name_job(other.name, platform_job("acme/other"))
    found = [forge.api.engine.record(job_id), forge.api.engine.record(other_id)]

    async def namer(_identity: RunnerIdentity, _report: HookReport) -> Record:
        return found.pop(0)

    deps = forge.runner_api._deps
    forge.runner_api._handlers._deps = replace(deps, namer=namer)
    for _ in range(2):
        assert (await forge.post(runner, "job", json=REPORT))[0] == 410


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": 9001},
        {"run_id": "0"},
        {"run_id": "9" * 21},
        {"run_attempt": "1\n"},
        {"repository": "acme"},
        {"repository": "acme/shop/x"},
        {"repository": "a/" + "b" * 101},
        {"token": "aa.bb"},
        {"token": "aa.bb.c c"},
        {"token": f"aa.bb.{'c' * 16384}"},
        {"runner": "other"},
    ],
)
async def test_a_report_that_is_none(forge, change):
    _, runner = await forge.bound()
    status, problem = await forge.post(runner, "job", json=REPORT | change)
    assert (status, problem["reason"]) == (422, "validation_failed")
    assert str(next(iter(change.values()))) not in str(problem) or change == {"run_id": "0"}
    assert forge.reports == []


async def test_a_report_that_is_too_long(forge):
    _, runner = await forge.bound()
    status, problem = await forge.post(runner, "job", json=REPORT | {"token": "a" * 30_000})
    assert (status, problem["reason"]) == (413, "body_too_large")
