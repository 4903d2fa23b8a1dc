"""Documents of jobs: kept until their end, and then signed as exactly that job's word."""

from __future__ import annotations

import json

import pytest

from orchestrator.errors import GiveUpError
from orchestrator.evidence import reported_store
from orchestrator.evidence.attestations.making import REPORTER
from orchestrator.evidence.reported import CYCLONEDX, REPORTABLE, Reporter, reported_statement
from orchestrator.evidence.reported_store import ReportedDocuments
from orchestrator.model.job import JobId

JOB = JobId("dispatch.a.1")
REPORTED = Reporter(
    job=JOB,
    builder="https://ci.example/b/v1",
    caller="caller-id",
    caller_issuer="https://issuer.example",
    pool="default",
    trust_tier="standard",
    reported_at="2027-01-15T08:00:00Z",
)


def test_the_document_stands_as_it_was_reported_and_beside_it_who_did():
    document = b'{"bomFormat": "CycloneDX",  "version": 1.0, "big": 123456789012345678901234567890}'
    data = reported_statement(
        [("app", "sha256:" + "a" * 64), ("", "sha256:" + "b" * 64)], CYCLONEDX, document, REPORTED
    )
    assert b'"predicate":' + document + b"," in data
    statement = json.loads(data)
    assert list(statement) == ["_type", "predicate", "predicateType", "subject"]
    assert statement["predicateType"] == CYCLONEDX
    assert [one["digest"]["sha256"][0] for one in statement["subject"]] == ["a", "b"]
    for subject in statement["subject"]:
        assert subject["annotations"][REPORTER]["job"] == JOB
        assert subject["annotations"][REPORTER]["pool"] == "default"


@pytest.mark.parametrize(
    "ours",
    [
        "https://slsa.dev/provenance/v1",
        "https://sigstore.dev/cosign/sign/v1",
        "https://slsa.dev/verification_summary/v1",
        "urn:orchestrator:teardown-receipt:v1",
    ],
)
def test_no_job_reports_what_only_the_control_plane_may_say(ours):
    assert ours not in REPORTABLE


def test_documents_are_kept_by_content_and_forgotten_with_their_job(tmp_path):
    documents = ReportedDocuments(tmp_path)
    digest = documents.keep(JOB, b"{}")
    assert documents.keep(JOB, b"{}") == digest
    assert documents.read(JOB, digest) == b"{}"
    assert documents.read(JobId("dispatch.b.1"), digest) is None
    documents.forget(JOB)
    assert documents.read(JOB, digest) is None
    documents.forget(JOB)


def test_a_document_that_was_changed_on_disk_is_not_given_out(tmp_path):
    documents = ReportedDocuments(tmp_path)
    digest = documents.keep(JOB, b'{"a": 1}')
    (path,) = tmp_path.glob("*/*.json")
    path.write_bytes(b'{"a": 2}')
    assert documents.read(JOB, digest) is None


def test_documents_of_a_job_are_bounded_in_number_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr(reported_store, "MAX_DOCUMENTS", 2)
    monkeypatch.setattr(reported_store, "MAX_DOCUMENT_BYTES", 10)
    documents = ReportedDocuments(tmp_path)
    with pytest.raises(GiveUpError) as large:
        documents.keep(JOB, b'"' + b"x" * 10)
    assert large.value.reason == "document_too_large"
    for text in (b"1", b"2"):
        documents.keep(JOB, text)
    with pytest.raises(GiveUpError) as many:
        documents.keep(JOB, b"3")
    assert many.value.reason == "too_many_documents"
    documents.keep(JobId("dispatch.b.1"), b"3")


def test_documents_of_a_job_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setattr(reported_store, "MAX_JOB_BYTES", 10)
    kept = ReportedDocuments(tmp_path)
    kept.keep(JobId("one"), b"12345678")
    with pytest.raises(GiveUpError) as refused:
        kept.keep(JobId("one"), b"123")
    assert refused.value.reason == "too_many_documents"
    kept.keep(JobId("one"), b"12345678")  # said again, it is the same
    kept.keep(JobId("other"), b"123")


def test_a_start_forgets_what_killed_daemons_left_and_keeps_what_live_jobs_have(tmp_path):
    documents = ReportedDocuments(tmp_path)
    digest = documents.keep(JOB, b"{}")
    left = documents.keep(JobId("dispatch.gone.1"), b"{}")
    ReportedDocuments(tmp_path).keep_only([JOB])
    assert documents.read(JOB, digest) == b"{}"
    assert documents.read(JobId("dispatch.gone.1"), left) is None
