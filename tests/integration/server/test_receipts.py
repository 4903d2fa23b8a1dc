"""Receipts over HTTP: one for each finished job, for those who may see the job, and none before its time."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from orchestrator.evidence.receipts.signing import open_receipt
from orchestrator.evidence.signing_key import key_id
from orchestrator.model.decision import Verdict
from orchestrator.model.events import Fact, JobCompacted, ReceiptSigned
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason, Outcome, Result


async def receipt(api, job_id, headers=None):
    answer = await api.client.get(f"{api.url}/v1/jobs/{job_id}/receipt", headers=headers or api.operator)
    return answer.status, await answer.text()


async def opened(api, text):
    """By the key that the API gives to everybody."""
    answer = await api.client.get(f"{api.url}/v1/evidence/key")
    assert (answer.status, answer.content_type) == (200, "application/x-pem-file")
    public = load_pem_public_key(await answer.read())
    return open_receipt(text, {key_id(public): public})


async def test_a_finished_job_has_one_and_a_living_one_none(api):
    job_id = await api.job("one")
    await api.run(job_id)
    status, text = await receipt(api, job_id)
    assert (status, json.loads(text)["reason"]) == (404, "receipt_pending")
    await api.finish(job_id)
    status, text = await receipt(api, job_id)
    assert status == 200
    told, digest = await opened(api, text)
    assert (told.job.id, told.outcome.reason, told.leftovers) == (job_id, "completed", [])
    assert [bool(use.bound) for use in told.runner.uses] == [True]
    view = await (await api.client.get(f"{api.url}/v1/jobs/{job_id}", headers=api.operator)).json()
    assert view["receipt_digest"] == digest


class TestDenied:
    @pytest.fixture
    def verdict(self) -> Verdict:
        return Verdict.DENY

    async def test_a_denied_job_has_one_that_names_no_runner(self, api):
        job_id = await api.job("denied")
        await api.until(job_id, "finished")
        told, _ = await opened(api, (await receipt(api, job_id))[1])
        assert (told.outcome.result, told.runner, told.refused, told.tokens) == ("denied", None, None, [])
        assert [decision.verdict for decision in told.decisions] == ["deny"]


async def test_anothers_receipt_is_no_more_there_than_the_job(api):
    job_id = await api.job("mine")
    await api.run(job_id)
    await api.finish(job_id)
    assert (await receipt(api, job_id, api.forge()))[0] == 404
    _, text = await receipt(api, job_id, api.forge())
    assert json.loads(text)["reason"] == "job_not_found"
    own = await api.job("theirs", headers=api.forge())
    await api.run(own)
    await api.finish(own)
    assert (await receipt(api, own, api.forge()))[0] == 200


async def test_a_job_that_was_finished_without_one_says_so(api):
    job_id = await api.job("old")
    await api.run(job_id)
    await api.finish(job_id)
    facts = api.journal._facts[JobId(job_id)]
    api.journal._facts[JobId(job_id)] = [fact for fact in facts if not isinstance(fact.event, ReceiptSigned)]
    status, text = await receipt(api, job_id)
    assert (status, json.loads(text)["reason"]) == (404, "receipt_missing")


async def test_a_job_that_retention_has_cut_has_none_any_more(api):
    job_id = await api.job("older")
    await api.run(job_id)
    await api.finish(job_id)
    line = JobCompacted("build", "default", Outcome(Result.SUCCESS, EndReason.COMPLETED, "", 0), 1, 2)
    api.journal._facts[JobId(job_id)] = [Fact(JobId(job_id), 3, line, 4)]
    status, text = await receipt(api, job_id)
    assert (status, json.loads(text)["reason"]) == (404, "receipt_not_kept")
