"""A line of the log: OPA's names, and only the document that was judged."""

from __future__ import annotations

import json

import pytest

from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.policy.decide import Answered
from orchestrator.policy.decision_log.entry import EntryDamagedError, Place, line_of, read_entry, subject_of
from orchestrator.policy.document import Evaluation
from orchestrator.policy.engine import MAX_INPUT_BYTES

PLACE = Place("0a1b2c3d", 7)
LABELS = {"version": "1"}


def test_names_are_opas(deciding):
    answered = deciding.decide("a", "other/x", "staging")
    line = json.loads(line_of(answered, PLACE, LABELS))
    assert line["decision_id"] == answered.decision.id
    assert line["timestamp"].startswith("2026-11-22T10:00:01.000000000Z")
    assert line["labels"] == LABELS
    assert line["bundles"] == {"policy": {"revision": deciding.bundle.digest}}
    assert line["path"] == "orchestrator/decision"
    assert line["input"] == json.loads(answered.input_json)
    assert line["result"]["allow"] is False
    assert line["result"]["reasons"] == [{"code": "not_ours", "message": "only acme"}]
    assert line["metrics"] == {"timer_server_handler_ns": answered.decision.duration_ns}
    assert "error" not in line
    assert line["custom"]["job_id"] == "dispatch.a.1"
    assert line["custom"]["input_digest"] == answered.decision.input_digest


def test_what_is_read_is_what_was_decided(deciding):
    answered = deciding.decide("a", environment="staging", pool="odd")
    entry = read_entry(line_of(answered, PLACE, LABELS)[:-1])
    assert entry.evaluation() == answered.evaluation
    assert entry.input_json.encode() == answered.input_json
    assert entry.bundle_digest == deciding.bundle.digest
    subject = subject_of(entry)
    assert (subject.environment, subject.pool_name, subject.repository) == ("staging", "odd", "acme/shop")
    assert subject.caller_subject == "repo:acme/shop"


def test_a_changed_document_is_refused(deciding):
    line = line_of(deciding.decide("a", "other/x"), PLACE, LABELS)
    for old, new in (
        (b'"repository":"other/x"', b'"repository":"acme/xx"'),
        (b'"stage":"admission","ticket"', b'"stage": "admission","ticket"'),
    ):
        assert old in line
        with pytest.raises(EntryDamagedError, match="is not the one that was judged"):
            read_entry(line.replace(old, new))
    without = json.loads(line)
    del without["input"]
    with pytest.raises(EntryDamagedError, match="has lost its input"):
        read_entry(json.dumps(without).encode())


def test_a_changed_verdict_is_refused(deciding):
    line = line_of(deciding.decide("a", "other/x"), PLACE, LABELS)
    entry = read_entry(line.replace(b'"verdict":"deny"', b'"verdict":"allow"'))
    with pytest.raises(EntryDamagedError, match="does not say allow"):
        entry.evaluation()


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"decision_id": 3}', b"\xff\xfe", b"[" * 5000])
def test_what_is_no_entry(line):
    with pytest.raises(EntryDamagedError):
        read_entry(line)


def test_policy_was_not_asked(deciding):
    answered = deciding.decide("a")
    failed = Evaluation(Verdict.ERROR, detail="the evidence did not come in time")
    decision = Decision("d", Stage.ADMISSION, Verdict.ERROR)
    told = Answered(decision, failed, answered.record, answered.time_ns, b"")
    entry = read_entry(line_of(told, PLACE, LABELS))
    assert entry.input_json == ""
    assert entry.error is not None
    assert (entry.error.code, entry.error.message) == ("policy_error", failed.detail)
    assert entry.evaluation().verdict is Verdict.ERROR
    assert subject_of(entry).repository == ""


def test_a_document_too_large_to_be_judged_is_not_kept(deciding):
    answered = deciding.decide("a")
    document = b"[" + b"1," * MAX_INPUT_BYTES + b"1]"
    large = Answered(answered.decision, answered.evaluation, answered.record, answered.time_ns, document)
    line = line_of(large, PLACE, LABELS)
    assert len(line) < 2000
    entry = read_entry(line)
    assert (entry.input_json, list(entry.erased)) == ("", ["/input"])


def test_the_candidates_answer_stands_beside(deciding):
    answered = deciding.decide("a")
    shadow = Evaluation(Verdict.ERROR, detail="x" * 1000, bundle_digest="sha256:" + "b" * 64)
    entry = read_entry(line_of(answered, PLACE, LABELS, shadow))
    assert entry.custom.candidate is not None
    assert entry.custom.candidate.change == "failed"
    assert list(entry.custom.candidate.codes) == ["policy_error"]
    assert len(entry.custom.candidate.detail) == 300
    assert entry.bundles["candidate"].revision == shadow.bundle_digest
    assert entry.evaluation().verdict is Verdict.ALLOW
