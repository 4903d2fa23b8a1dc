"""The ways in which Rego engines were seen to fail open, each held shut. Numbers are the research's table."""

from __future__ import annotations

import gc
import json
import sys
import threading
from typing import Any

import pytest

from orchestrator.model.decision import Verdict
from orchestrator.policy.engine import RegorusEngine
from orchestrator.policy.rego import Module, RegoFailureError, RegoProgram, _shelf


def program(*rules: str) -> RegoProgram:
    return RegoProgram([Module("a.rego", "package a\n\n" + "\n".join(rules))])


def decide(policy: str, document: Any, *, data: str = "{}") -> Verdict:
    engine = RegorusEngine([Module("a.rego", "package orchestrator\n\n" + policy)], data, "sha256:0")
    return engine.evaluate_now(json.dumps(document)).verdict


def test_1_false_stays_false() -> None:
    ask = program("allow if input.signed", "denied if not input.signed")
    assert ask.rule("data.a.allow", '{"signed": false}') is None
    assert ask.rule("data.a.denied", '{"signed": false}') == "true"


@pytest.mark.parametrize("value", ["0", "null", '""', "[]"])
def test_1_all_but_false_is_true_in_rego_so_rules_compare_with_true(value: str) -> None:
    ask = program("loose if input.signed", "strict if input.signed == true")
    assert ask.rule("data.a.loose", f'{{"signed": {value}}}') == "true"
    assert ask.rule("data.a.strict", f'{{"signed": {value}}}') is None


def test_2_a_rule_as_mocked_input_does_not_crash() -> None:
    ask = program('base := {"x": 1}', "allow if input.x == 1", "test_it if allow with input as base")
    assert ask.rule("data.a.test_it", "{}") == "true"


def test_3_time_with_z_and_cidr_work_and_are_loud_when_wrong() -> None:
    ask = program(
        't := time.parse_rfc3339_ns("2026-01-01T00:00:00Z")',
        'inside if net.cidr_contains("10.0.0.0/8", "10.1.2.3")',
        'bad := time.parse_rfc3339_ns("soon")',
    )
    assert ask.rule("data.a.t", "{}") == "1767225600000000000"
    assert ask.rule("data.a.inside", "{}") == "true"
    with pytest.raises(RegoFailureError, match="datetime"):
        ask.rule("data.a.bad", "{}")


def test_4_old_syntax_unsafe_variables_and_recursion_are_refused() -> None:
    with pytest.raises(RegoFailureError, match="`if` keyword"):
        program("allow { input.x }")
    with pytest.raises(RegoFailureError, match="unsafe"):
        program("x if { y := z }").all_rules("{}")
    with pytest.raises(RegoFailureError, match="recursion"):
        program("x if y", "y if x").all_rules("{}")


def test_5_an_unreached_unknown_function_loads_and_is_an_error_when_reached() -> None:
    policy = 'default decision := {"allow": false}\ndecision := {"allow": true} if { input.x; missing.function(1) }'
    assert decide(policy, {}) is Verdict.DENY
    assert decide(policy, {"x": True}) is Verdict.ERROR


def test_6_what_is_not_json_is_refused() -> None:
    engine = RegorusEngine([Module("a.rego", 'package orchestrator\ndecision := {"allow": true}')], "{}", "")
    for text in ('{"x": NaN}', '{"x": 1', "", '{"x": 1e400}', "\x00"):
        assert engine.evaluate_now(text).verdict is Verdict.ERROR
    assert engine.evaluate_now("{}").verdict is Verdict.ALLOW


def test_7_undefined_is_not_a_document() -> None:
    assert decide('decision := {"allow": true} if input.x', {}) is Verdict.UNDEFINED
    # The interpreter says *undefined* by a string; a policy that says the same string is no better off.
    assert decide('decision := "<undefined>"', {}) is Verdict.UNDEFINED


def test_a_data_document_would_shadow_a_rule() -> None:
    """Why the loader refuses data at a package's path: here a data file has replaced the decision."""
    data = '{"orchestrator": {"decision": {"allow": true}}}'
    assert decide('decision := {"allow": false}', {}, data=data) is Verdict.ALLOW


def test_conflicting_values_are_an_error() -> None:
    assert decide('decision := {"allow": true} if true\ndecision := {"allow": false} if true', {}) is Verdict.ERROR


def test_a_panic_is_an_error_and_the_next_question_is_answered() -> None:
    """A real panic: the interpreter's object itself, smuggled into a thread that did not make it."""
    engine = RegorusEngine([Module("a.rego", 'package orchestrator\ndecision := {"allow": true}')], "{}", "")
    stolen = _shelf.engines[engine._program()._key]
    verdicts: list[Verdict] = []

    def ask() -> None:
        theirs = engine._program()
        _shelf.engines[theirs._key] = stolen
        verdicts.append(engine.evaluate_now("{}").verdict)
        _shelf.engines.clear()
        verdicts.append(engine.evaluate_now("{}").verdict)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert verdicts == [Verdict.ERROR, Verdict.ALLOW]
    assert engine.evaluate_now("{}").verdict is Verdict.ALLOW


def test_a_program_used_elsewhere_fails_and_is_let_go_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    made = [program("x := 1")]
    key = made[0]._key
    failures: list[str] = []

    def misuse() -> None:
        try:
            made[0].rule("data.a.x", "{}")
        except RegoFailureError as failure:
            failures.append(str(failure))
        made.clear()
        gc.collect()

    thread = threading.Thread(target=misuse)
    thread.start()
    thread.join()
    assert "another thread" in failures[0]
    assert key in _shelf.engines
    program("y := 1")
    assert key not in _shelf.engines
    assert seen == []


def test_programs_are_let_go_at_once_in_their_own_thread() -> None:
    gc.collect()
    before = len(_shelf.engines)
    for _ in range(50):
        program("x := 1").rule("data.a.x", "{}")
    assert len(_shelf.engines) <= before + 1


def test_each_thread_has_its_own_interpreter_and_lets_it_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    engine = RegorusEngine([Module("a.rego", 'package orchestrator\ndecision := {"allow": input.x}')], "{}", "")
    answers: list[Verdict] = []

    def ask() -> None:
        for index in range(200):
            wanted = index % 2 == 0
            verdict = engine.evaluate_now(json.dumps({"x": wanted})).verdict
            answers.append(Verdict.ERROR if (verdict is Verdict.ALLOW) != wanted else verdict)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    ask()
    for thread in threads:
        thread.join()
    gc.collect()
    assert len(answers) == 1000
    assert Verdict.ERROR not in answers
    assert seen == []


def test_failures_name_the_place_and_no_value_of_the_input() -> None:
    ask = program("x := 1 + input.secret")
    with pytest.raises(RegoFailureError) as caught:
        ask.rule("data.a.x", '{"secret": "hunter2 \\" quoted"}')
    assert "hunter2" not in str(caught.value)
    assert "quoted" not in str(caught.value)
    assert str(caught.value).startswith("a.rego:3:")
    for document in ('{"secret": {"pin": 4711}}', '{"secret": [4711]}', '{"secret": [{"a": "4711`"}]}'):
        with pytest.raises(RegoFailureError) as caught:
            ask.rule("data.a.x", document)
        assert "4711" not in str(caught.value)


def test_interrupts_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = program("x := 1")

    class Interrupting:
        def set_input_json(self, _: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(_shelf.engines, ask._key, Interrupting())
    with pytest.raises(KeyboardInterrupt):
        ask.rule("data.a.x", "{}")
