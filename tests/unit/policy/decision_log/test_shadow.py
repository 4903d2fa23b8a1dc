"""A candidate: asked, compared, counted, and put aside when it is slow."""

from __future__ import annotations

from orchestrator.policy.decision_log import shadow
from orchestrator.policy.decision_log.reading import SegmentReader
from orchestrator.policy.decision_log.segments import segments_of
from orchestrator.policy.decision_log.shadow import OUTCOMES, Candidate

from .conftest import rules


def test_it_is_asked_about_every_decision_and_changes_none(deciding, keep, folder):
    candidate = Candidate()
    candidate.load(rules(closed=("prod",)))
    for environment in ("", "prod", "staging"):
        deciding.decide(f"to-{environment}", environment=environment)
    keep(deciding.heard, candidate=candidate)
    entries = [entry for segment in segments_of(folder) for entry in SegmentReader(segment).entries()]
    assert [entry.custom.verdict.value for entry in entries] == ["allow", "allow", "allow"]
    told = [entry.custom.candidate for entry in entries]
    assert [one.change for one in told if one] == ["same", "newly_denied", "same"]
    assert told[1] is not None
    assert list(told[1].codes) == ["no_prod"]
    assert {name: candidate.count(name) for name in OUTCOMES if candidate.count(name)} == {"same": 2, "newly_denied": 1}


def test_nothing_is_asked_without_one_or_without_a_document(deciding):
    answered = deciding.decide("a")
    candidate = Candidate()
    assert candidate.ask(answered.evaluation, answered.input_json) is None
    candidate.load(rules())
    assert candidate.ask(answered.evaluation, b"") is None
    candidate.load(None)
    assert (candidate.ask(answered.evaluation, answered.input_json), candidate.digest) == (None, "")


def test_counts_begin_anew_with_another(deciding):
    answered = deciding.decide("a", environment="prod")
    candidate = Candidate()
    for closed, outcome in ((("prod",), "newly_denied"), ((), "same")):
        candidate.load(rules(closed=closed))
        candidate.ask(answered.evaluation, answered.input_json)
        assert [name for name in OUTCOMES if candidate.count(name)] == [outcome]


def test_a_slow_one_is_put_aside(deciding, monkeypatch):
    monkeypatch.setattr(shadow, "MAX_SECONDS", 0.0)
    answered = deciding.decide("a")
    candidate = Candidate()
    candidate.load(rules())
    for _ in range(shadow.MAX_SLOW):
        assert candidate.digest
        assert candidate.ask(answered.evaluation, answered.input_json) is not None
    assert candidate.digest == ""
    candidate.load(rules())
    assert candidate.digest, "another try"
