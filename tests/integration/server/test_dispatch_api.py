"""The dispatch API against the real engine and real caller tokens."""

from __future__ import annotations

import asyncio
import threading
import time

import aiohttp
import pytest

from orchestrator.model.events import JobCompacted
from orchestrator.model.job import JobId
from orchestrator.server.deps import Limits
from orchestrator.server.shapes import JobListView, JobView, PoolListView, ProblemView, TraceView
from orchestrator.telemetry import waterfall
from orchestrator.telemetry.ids import parse_traceparent, trace_id

CANARY = "c4n4ry-Zx81"


async def problem(answer: aiohttp.ClientResponse, status: int, reason: str) -> ProblemView:
    text = await answer.text()
    assert answer.status == status, text
    assert answer.content_type == "application/problem+json"
    assert CANARY not in text
    document = ProblemView.model_validate_json(text)
    assert (document.reason, document.status) == (reason, status)
    assert document.type == f"urn:orchestrator:problem:{reason}"
    return document


async def test_a_job_is_taken_in_and_can_be_read_listed_and_traced(api):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await api.dispatch("k1", headers=api.operator | {"traceparent": parent}, pipeline="p1", claimed={"a": "b"})
    assert answer.status == 202
    view = JobView.model_validate(await answer.json())
    assert answer.headers["Location"] == f"/v1/jobs/{view.id}"
    assert parse_traceparent(answer.headers["traceparent"])[0] == trace_id(JobId(view.id)) == view.trace_id
    record = api.engine.record(JobId(view.id))
    assert record.offer.spec.parent_traceparent == parent
    assert record.offer.caller.subject == "operator"
    await api.run(view.id)
    await api.finish(view.id, 3)
    got = await api.client.get(f"{api.url}/v1/jobs/{view.id}", headers=api.operator)
    done = JobView.model_validate(await got.json())
    assert (done.phase, done.result, done.reason, done.exit_code) == ("finished", "failure", "exit_nonzero", 3)
    assert done.decisions[0]["verdict"] == "allow"
    assert done.runner is not None
    assert done.offered_at < done.bound_at < done.ended_at <= done.finished_at
    listed = await api.client.get(f"{api.url}/v1/jobs?pipeline=p1&result=failure", headers=api.operator)
    assert [line.id for line in JobListView.model_validate(await listed.json()).jobs] == [view.id]
    traced = await api.client.get(f"{api.url}/v1/jobs/{view.id}/trace", headers=api.operator)
    assert TraceView.model_validate(await traced.json()).trace_id == view.trace_id
    pools = await api.client.get(f"{api.url}/v1/pools", headers=api.operator)
    assert PoolListView.model_validate(await pools.json()).pools[0].capacity == 2


async def test_a_trace_is_drawn_beside_the_event_loop(api, monkeypatch):
    drawn_by = []
    real = waterfall.trace_of
    monkeypatch.setattr(
        waterfall, "trace_of", lambda *facts, **how: drawn_by.append(threading.current_thread()) or real(*facts, **how)
    )
    job_id = await api.job("k")
    traced = await api.client.get(f"{api.url}/v1/jobs/{job_id}/trace", headers=api.operator)
    assert traced.status == 200
    assert drawn_by
    assert threading.current_thread() not in drawn_by


async def test_the_same_key_and_body_is_the_same_job_and_another_body_is_refused(api):
    first = await (await api.dispatch("k")).json()
    again = await api.dispatch('"k"', pool="default", environment={})  # quoted, and defaults written out
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert (await again.json())["id"] == first["id"]
    await problem(await api.dispatch("k", script=f"echo {CANARY}"), 422, "idempotency_key_reused")
    await api.run(first["id"])
    await api.finish(first["id"])
    late = await api.dispatch("k")
    assert (late.status, (await late.json())["phase"]) == (200, "finished")
    await problem(await api.dispatch("k", name="other"), 422, "idempotency_key_reused")


async def test_a_key_lives_on_in_the_line_that_compaction_keeps(api):
    job_id = await api.job("old", headers=api.forge())
    await api.run(job_id)
    await api.finish(job_id)
    await api.journal.compact(time.time_ns() + 10**9, 0, 10**18, exporting=False)
    assert isinstance((await api.journal.facts_of(JobId(job_id)))[0].event, JobCompacted)
    again = await api.dispatch("old", headers=api.forge())
    view = JobView.model_validate(await again.json())
    assert (again.status, view.compacted, view.phase, view.name) == (200, True, "finished", "build")
    await problem(await api.dispatch("old", headers=api.forge(), name="x"), 422, "idempotency_key_reused")
    for reader, status in ((api.operator, 200), (api.forge(), 200), (api.forge("repo:other"), 404)):
        seen = await api.client.get(f"{api.url}/v1/jobs/{job_id}", headers=reader)
        assert seen.status == status


async def test_fifty_at_once_with_one_key_make_one_job(api):
    answers = await asyncio.gather(*(api.dispatch("same") for _ in range(50)))
    assert sorted({answer.status for answer in answers}) == [200, 202]
    assert sum(answer.status == 202 for answer in answers) == 1
    assert len({(await answer.json())["id"] for answer in answers}) == 1
    assert len(await api.journal.live()) == 1


async def test_keys_of_two_callers_never_meet_and_neither_sees_the_other(api):
    mine = await api.job("k", headers=api.forge("repo:mine"))
    theirs = await api.job("k", headers=api.forge("repo:theirs"))
    assert mine != theirs
    headers = api.forge("repo:mine")
    for path in ("", "/log", "/events", "/trace"):
        hidden = await api.client.get(f"{api.url}/v1/jobs/{theirs}{path}", headers=headers)
        await problem(hidden, 404, "job_not_found")
    await problem(await api.client.delete(f"{api.url}/v1/jobs/{theirs}", headers=headers), 404, "job_not_found")
    assert api.engine.record(JobId(theirs)).cancel is None
    listed = await (await api.client.get(f"{api.url}/v1/jobs", headers=headers)).json()
    assert [line["id"] for line in listed["jobs"]] == [mine]
    everything = await (await api.client.get(f"{api.url}/v1/jobs", headers=api.operator)).json()
    assert {line["id"] for line in everything["jobs"]} == {mine, theirs}


async def test_an_absent_job_and_a_hidden_one_look_the_same(api):
    theirs = await api.job("k", headers=api.forge("repo:theirs"))
    absent = f"dispatch.{'0' * 32}.1"
    bodies = []
    for name in (theirs, absent):
        answer = await api.client.get(f"{api.url}/v1/jobs/{name}", headers=api.forge("repo:mine"))
        bodies.append((await answer.text()).replace(name, "ID"))
    assert bodies[0] == bodies[1]


async def test_a_token_dispatches_under_one_key_only(api):
    token = api.forge(jti="once")
    assert (await api.dispatch("a", headers=token)).status == 202
    assert (await api.dispatch("a", headers=token)).status == 200
    refused = await api.dispatch("b", headers=token)
    await problem(refused, 401, "token_replayed")
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
    # Reading does not spend it.
    assert (await api.client.get(f"{api.url}/v1/jobs", headers=token)).status == 200


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "token_missing"),
        ("Basic abc", "token_missing"),
        ("Bearer", "token_malformed"),
        (f"Bearer {CANARY} x", "token_malformed"),
        (f"Bearer {CANARY}", "token_malformed"),
        ("Bearer " + "a" * 9000, "token_malformed"),
    ],
)
async def test_nothing_happens_without_a_good_token(api, header, reason):
    headers = {"Authorization": header} if header else {}
    answer = await api.client.post(f"{api.url}/v1/jobs", data=b"{", headers=headers)
    await problem(answer, 401, reason)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert not await api.journal.live()


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "somebody-else"}, "audience_mismatch"),
        ({"exp": 1000, "iat": 900}, "token_expired"),
        ({"repository": "evil"}, "claim_mismatch"),
        ({"iss": "https://elsewhere.example"}, "issuer_unknown"),
    ],
)
async def test_a_foreign_token_is_refused_with_its_reason(api, claims, reason):
    await problem(await api.dispatch("k", headers=api.forge(**claims)), 401, reason)


async def test_cancel_is_durable_and_idempotent(api):
    job_id = await api.job("k")
    url = f"{api.url}/v1/jobs/{job_id}"
    first = await api.client.delete(url, params={"reason": "not needed"}, headers=api.operator)
    assert first.status == 202
    assert (await first.json())["cancel"] == {"by": "operator", "reason": "not needed"}
    await api.until(job_id, "finished")
    again = await api.client.delete(url, params={"reason": "other"}, headers=api.operator)
    view = JobView.model_validate(await again.json())
    assert (again.status, view.result, view.cancel.reason) == (202, "cancellation", "not needed")


@pytest.mark.parametrize("max_jobs", [2])
async def test_a_full_queue_is_429_with_retry_after_and_loses_nothing(api):
    for number in range(2):
        assert (await api.dispatch(f"k{number}")).status == 202
    full = await api.dispatch("k2")
    await problem(full, 429, "queue_full")
    assert int(full.headers["Retry-After"]) == Limits().retry_after_seconds
    assert (await api.dispatch("k0")).status == 200  # a known job is still answered
    assert len(await api.journal.live()) == 2


async def test_a_sick_journal_and_a_draining_daemon_are_503(api):
    api.journal.fail_next(1)
    sick = await api.dispatch("k")
    await problem(sick, 503, "journal_unavailable")
    assert "Retry-After" in sick.headers
    assert (await api.dispatch("k")).status == 202
    api.draining.append(True)
    await problem(await api.dispatch("k2"), 503, "draining")
    assert (await api.client.get(f"{api.url}/v1/jobs", headers=api.operator)).status == 200


async def test_pages_follow_each_other(api):
    ids = [await api.job(f"k{number}") for number in range(5)]
    seen, after = [], ""
    for _ in range(10):
        query = {"limit": "2"} | ({"after": after} if after else {})
        page = JobListView.model_validate(
            await (await api.client.get(f"{api.url}/v1/jobs", params=query, headers=api.operator)).json()
        )
        seen += [line.id for line in page.jobs]
        if page.next is None:
            break
        after = page.next
    assert seen == ids[::-1]


async def test_public_documents_need_no_token(api):
    config = await api.client.get(f"{api.url}/.well-known/openid-configuration")
    mirror = await api.client.get(f"{api.url}/.well-known/oauth-authorization-server")
    assert await config.json() == await mirror.json() == api.issuer.discovery()
    keys = await api.client.get(f"{api.url}/jwks.json")
    assert await keys.json() == api.issuer.jwks()
    assert 300 <= int(keys.headers["Cache-Control"].rpartition("=")[2]) <= 900
    asked = await api.client.post(f"{api.url}/v1/introspect", data={"token": "no.such.token"})
    assert await asked.json() == {"active": False}
    await problem(await api.client.post(f"{api.url}/v1/introspect", data={"t": "x"}), 422, "validation_failed")
    big = await api.client.post(f"{api.url}/v1/introspect", data={"token": "x" * 40_000})
    await problem(big, 413, "body_too_large")


async def test_an_issuer_of_its_own_has_documents_of_its_own(api):
    url = f"{api.url}/issuers/prod"
    config = await (await api.client.get(f"{url}/.well-known/openid-configuration")).json()
    mirror = await api.client.get(f"{api.url}/.well-known/oauth-authorization-server/issuers/prod")
    assert await mirror.json() == config
    assert config["issuer"] == f"{api.issuer.url}/issuers/prod"
    keys = await api.client.get(f"{url}/jwks.json")
    assert (await keys.json())["keys"]
    for path in ("openid-configuration", "jwks.json"):
        unknown = f"{api.url}/issuers/stage/{'' if path == 'jwks.json' else '.well-known/'}{path}"
        await problem(await api.client.get(unknown), 404, "not_found")


async def test_health_readiness_and_metrics(api):
    assert await (await api.client.get(f"{api.url}/healthz")).json() == {"status": "ok"}
    ready = await api.client.get(f"{api.url}/readyz")
    assert (ready.status, (await ready.json())["ready"]) == (200, True)
    api.readiness["gateway"] = "the gateway process has died"
    sick = await api.client.get(f"{api.url}/readyz")
    assert (sick.status, (await sick.json())["checks"]["gateway"]) == (503, "the gateway process has died")
    assert "Retry-After" in sick.headers
    api.readiness["gateway"] = "ok"
    api.draining.append(True)
    assert (await (await api.client.get(f"{api.url}/readyz")).json())["checks"]["accepting"] == "draining"
    assert "up 1" in await (await api.client.get(f"{api.url}/metrics")).text()


async def test_every_answer_has_the_security_headers_and_no_software_name(api):
    for path in ("/healthz", "/nowhere", "/v1/jobs"):
        headers = (await api.client.get(api.url + path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "orchestrator"
        assert "Access-Control-Allow-Origin" not in headers
