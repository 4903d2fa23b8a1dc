"""What a decision and an outcome say to people and machines."""

from __future__ import annotations

import re

from orchestrator.model.decision import Decision, Reason, Stage, Verdict
from orchestrator.model.egress import EgressProof, EgressProtocol, EgressRule
from orchestrator.model.outcome import EndReason, Result


def decision(verdict: Verdict, *reasons: Reason) -> Decision:
    return Decision("d", Stage.ADMISSION, verdict, reasons)


def test_only_allow_is_allowed():
    assert [verdict for verdict in Verdict if decision(verdict).allowed] == [Verdict.ALLOW]


def test_a_decision_always_explains_itself():
    both = decision(Verdict.DENY, Reason("branch", "use main"), Reason("tier", "ask for a pool"))
    assert both.explain() == "use main [branch]; ask for a pool [tier]"
    for verdict in Verdict:
        assert verdict.value in decision(verdict).explain()


def test_machine_words_are_words():
    for word in (*Result, *EndReason, *Verdict, *Stage):
        assert re.fullmatch(r"[a-z][a-z_]*", word.value)


def test_one_destination_reached_spoils_the_proof_and_none_tried_is_none():
    assert EgressProof(denied=("a",)).holds
    assert not EgressProof().holds
    assert not EgressProof(denied=("a",), reached=("b",)).holds


def test_a_rule_reads_as_an_address():
    assert str(EgressRule("example.com")) == "tls://example.com:443"
    assert str(EgressRule("*.example.com", 80, EgressProtocol.HTTP)) == "http://*.example.com:80"
