from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.decision import Verdict
from orchestrator.policy.document import read_answer
from orchestrator.policy.engine import RegorusEngine
from orchestrator.policy.rego import Module


def outcome(answer: str | None) -> Verdict:
    return read_answer(answer, engine="e", bundle_digest="b").verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('{"allow": true}', Verdict.ALLOW),
        ('{"allow": true, "reasons": [], "obligations": {}}', Verdict.ALLOW),
        ('{"allow": false}', Verdict.DENY),
        ('{"allow": false, "reasons": [{"code": "x", "message": "y"}]}', Verdict.DENY),
        (None, Verdict.UNDEFINED),
    ],
)
def test_four_outcomes(answer: str | None, verdict: Verdict) -> None:
    assert outcome(answer) is verdict


@pytest.mark.parametrize(
    "answer",
    [
        "true",
        "null",
        "[]",
        "1",
        '"allow"',
        "{}",
        "",
        "{",
        '{"allow": 1}',
        '{"allow": "true"}',
        '{"allow": null}',
        '{"allow": true, "alow": false}',
        '{"allow": true, "reasons": "fine"}',
        '{"allow": true, "reasons": [{"code": "x"}]}',
        '{"allow": true, "reasons": [{"code": "Has Space", "message": "y"}]}',
        '{"allow": true, "reasons": [{"code": "x\\n", "message": "y"}]}',
        '{"allow": true, "reasons": [{"code": "x", "message": ""}]}',
        '{"allow": true, "reasons": [{"code": "x", "message": "y", "fix": "z"}]}',
        '{"allow": true, "obligations": {"egres": []}}',
        '{"allow": true, "obligations": {"egress": [{"host": "a.example", "port": 0}]}}',
        '{"allow": true, "obligations": {"egress": [{"host": "A.example"}]}}',
        '{"allow": true, "obligations": {"egress": [{"host": "a.example\\n"}]}}',
        '{"allow": true, "obligations": {"egress": [{"host": "*"}]}}',
        '{"allow": true, "obligations": {"egress": [{"host": "a.example", "protocol": "udp"}]}}',
        '{"allow": true, "obligations": {"max_duration_seconds": 0}}',
        '{"allow": true, "obligations": {"max_duration_seconds": -1}}',
        '{"allow": true, "obligations": {"max_duration_seconds": 1.5}}',
        '{"allow": true, "obligations": {"max_duration_seconds": true}}',
        '{"allow": true, "obligations": {"token_ttl_seconds": "300"}}',
        '{"allow": true, "obligations": {"token_ttl_seconds": 1e12}}',
        '{"allow": true, "obligations": {"session_tags": {"a": 1}}}',
        '{"allow": true, "obligations": {"session_tags": {"": "x"}}}',
        '{"allow": true, "obligations": null}',
    ],
)
def test_anything_else_is_an_error(answer: str) -> None:
    evaluation = read_answer(answer, engine="e", bundle_digest="b")
    assert evaluation.verdict is Verdict.ERROR
    assert evaluation.document is None
    assert evaluation.detail


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["allow", "reasons", "obligations", "code", "message", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_only_a_json_true_allows(value: object) -> None:
    if outcome(json.dumps(value)) is Verdict.ALLOW:
        assert isinstance(value, dict)
        assert value["allow"] is True


@given(st.text(max_size=200))
def test_any_text_gets_an_outcome(text: str) -> None:
    assert outcome(text) in (Verdict.ERROR, Verdict.DENY, Verdict.ALLOW)


def test_deeply_nested_answers_are_an_error() -> None:
    assert outcome('{"allow": true, "obligations": ' + "[" * 100_000) is Verdict.ERROR


def allowing(limit: int = 1000) -> RegorusEngine:
    module = Module("a.rego", 'package orchestrator\ndecision := {"allow": true}')
    return RegorusEngine([module], "{}", "sha256:1", max_input_bytes=limit)


async def test_an_answer_says_who_gave_it_and_from_what() -> None:
    evaluation = await allowing().evaluate("{}")
    assert evaluation.verdict is Verdict.ALLOW
    assert evaluation.engine == "regorus/0.13.0"
    assert evaluation.bundle_digest == "sha256:1"


@pytest.mark.parametrize("text", ["x" * 1001, "é" * 501, "😀" * 251])
def test_too_large_an_input_is_not_evaluated(text: str) -> None:
    evaluation = allowing().evaluate_now(json.dumps({"x": text}, ensure_ascii=False))
    assert evaluation.verdict is Verdict.ERROR
    assert "1000 bytes" in evaluation.detail


def test_the_limit_counts_bytes_and_is_inclusive() -> None:
    exact = json.dumps({"x": "a" * (1000 - len('{"x": ""}'))})
    assert len(exact) == 1000
    assert allowing().evaluate_now(exact).verdict is Verdict.ALLOW
    assert allowing(999).evaluate_now(exact).verdict is Verdict.ERROR


async def test_a_closed_engine_lets_its_interpreter_go_and_can_be_asked_again() -> None:
    engine = allowing()
    await engine.evaluate("{}")
    await engine.aclose()
    assert engine._local.program is None
    assert (await engine.evaluate("{}")).verdict is Verdict.ALLOW


def test_a_bundle_that_does_not_parse_is_an_error_at_evaluation_too() -> None:
    engine = RegorusEngine([Module("a.rego", "package orchestrator\nallow {")], "{}", "")
    assert engine.evaluate_now("{}").verdict is Verdict.ERROR
    assert RegorusEngine([], "[]", "").evaluate_now("{}").verdict is Verdict.ERROR
    assert RegorusEngine([], "{}", "").evaluate_now("{}").verdict is Verdict.ERROR
