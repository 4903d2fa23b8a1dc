from __future__ import annotations

import gc
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.model.decision import Verdict
from orchestrator.policy.bundle import BundleHolder, default_bundle, load_bundle, run_tests
from orchestrator.policy.canary import CANARIES, CANARY_MODULE, run_canaries
from orchestrator.policy.files import Bundle
from orchestrator.policy.rego import RegoFailureError, RegoProgram

Write = Callable[..., Path]

ALLOW_ALL = """package orchestrator

decision := {"allow": true}
"""


def refusal(folder: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_bundle(folder)
    assert caught.value.fix
    return caught.value


def test_a_good_bundle_loads(write_bundle: Write) -> None:
    assert load_bundle(write_bundle()).digest.startswith("sha256:")
    assert load_bundle(default_bundle()).tests


@pytest.mark.parametrize(
    ("files", "reason", "match"),
    [
        ({"decision_test.rego": None}, "policy_tests_failed", "no test"),
        ({"decision_test.rego": "package t\ntodo_test_x if true\n"}, "policy_tests_failed", "no test"),
        (
            {"bad_test.rego": "package bad_test\n\ntest_x if 1 == 2\n"},
            "policy_tests_failed",
            "bad_test.rego:3: data.bad_test.test_x: fail undefined",
        ),
        ({"bad_test.rego": "package bad_test\n\ntest_x := 1\n"}, "policy_tests_failed", "the value is 1"),
        ({"bad_test.rego": 'package bad_test\n\ntest_x if to_number("x")\n'}, "policy_tests_failed", "error"),
        ({"decision.rego": ALLOW_ALL}, "policy_invalid", "allows the document {}"),
        (
            {"decision.rego": 'package orchestrator\n\ndecision := {"allow": input.stage == "exchange"}\n'},
            "policy_invalid",
            'allows the document {"stage": "exchange"}',
        ),
        (
            {"decision.rego": 'package orchestrator\n\ndecision := {"allow": input.stage == "deployment"}\n'},
            "policy_invalid",
            'allows the document {"stage": "deployment"}',
        ),
        ({"decision.rego": 'package orchestrator\n\ndecision := {"allow": 1}\n'}, "policy_invalid", "Expected `bool`"),
        ({"extra.rego": "package extra\n\nx if y\ny if x\n"}, "policy_invalid", "extra.rego:3: recursion"),
        ({"extra.rego": "package extra\n\nx if { y := z }\n"}, "policy_invalid", "extra.rego:3: var z is unsafe"),
        (
            {"extra.rego": "package extra\n\nx := 1 if true\nx := 2 if true\n"},
            "policy_invalid",
            "extra.rego:4: rule con",
        ),
    ],
)
def test_an_unfit_bundle_is_refused(write_bundle: Write, files: dict[str, str], reason: str, match: str) -> None:
    error = refusal(write_bundle(files))
    assert error.reason == reason
    assert match in str(error)


async def test_the_last_good_bundle_stays(write_bundle: Write) -> None:
    folder = write_bundle()
    holder = BundleHolder(folder)
    first = holder.digest
    assert (await holder.evaluate('{"job": {"name": "build"}}')).verdict is Verdict.ALLOW

    write_bundle({"decision.rego": ALLOW_ALL})
    with pytest.raises(ConfigurationError) as caught:
        await holder.reload()
    assert caught.value.reason == "policy_invalid"
    assert holder.digest == first
    assert (await holder.evaluate("{}")).verdict is Verdict.DENY

    write_bundle({"data.json": '{"names": ["build", "ship"]}'})
    assert await holder.reload() is True
    assert holder.digest != first
    evaluation = await holder.evaluate('{"job": {"name": "ship"}}')
    assert evaluation.verdict is Verdict.ALLOW
    assert evaluation.bundle_digest == holder.digest
    assert await holder.reload() is False
    await holder.aclose()


async def test_what_must_come_before_a_new_bundle_comes_before_it_or_it_does_not_come(write_bundle: Write) -> None:
    holder = BundleHolder(write_bundle())
    first, seen = holder.digest, []

    async def before(bundle: Bundle) -> None:
        seen.append((holder.digest, bundle.digest, sorted(bundle.files)))
        if len(seen) == 1:
            raise TryAgainError("not yet")

    assert await holder.reload(before) is False
    assert seen == []
    write_bundle({"data.json": '{"names": ["build", "ship"]}'})
    with pytest.raises(TryAgainError):
        await holder.reload(before)
    assert holder.digest == first
    assert (await holder.evaluate('{"job": {"name": "ship"}}')).verdict is Verdict.DENY
    assert await holder.reload(before) is True
    assert seen == [(first, holder.digest, sorted(holder.bundle.files))] * 2
    digest = hashlib.sha256(b'{"names": ["build", "ship"]}').hexdigest()
    assert holder.bundle.files["data.json"] == f"sha256:{digest}"
    await holder.aclose()


async def test_no_interpreter_leaves_the_thread_that_loaded_it(
    write_bundle: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals cross threads; an interpreter caught in a traceback's cycle would be freed in the wrong one."""
    holder = BundleHolder(write_bundle())
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    gc.collect()
    gc.disable()
    try:
        for files in (
            {"decision.rego": "package orchestrator\nallow {"},
            {"decision.rego": None, "extra.rego": "package extra\n\nx if y\ny if x\n"},
            {"decision.rego": ALLOW_ALL, "extra.rego": None},
            {"bad_test.rego": 'package bad_test\n\ntest_x if to_number("x")\n'},
        ):
            write_bundle(files)
            with pytest.raises(ConfigurationError):
                await holder.reload()
        del files
    finally:
        gc.collect()
        gc.enable()
    assert seen == []


def test_no_holder_without_a_good_bundle(write_bundle: Write) -> None:
    with pytest.raises(ConfigurationError):
        BundleHolder(write_bundle({"decision.rego": ALLOW_ALL}))


def test_run_tests_reports_instead_of_refusing(write_bundle: Write) -> None:
    folder = write_bundle(
        {
            "decision_test.rego": """package orchestrator_test

import data.orchestrator

test_allow if {
	print("seen")
	orchestrator.decision.allow == true with input as {"job": {"name": "build"}}
}

test_false := false

test_broken if to_number("x") == 1

todo_test_later if false

helper := 1

test_arguments(x) if x
"""
        }
    )
    report = run_tests(folder)
    outcomes = {result.name.rpartition(".")[2]: result.outcome.value for result in report.results}
    assert outcomes == {"test_allow": "pass", "test_false": "fail", "test_broken": "error", "todo_test_later": "skip"}
    assert not report.passed
    assert "seen" in "".join(report.results[0].prints)
    assert [(r.file, r.line) for r in report.results][1] == ("decision_test.rego", 10)
    text = json.dumps(report.as_json())
    assert json.loads(text)["counts"] == {"pass": 1, "fail": 1, "error": 1, "skip": 1}


def test_coverage_names_the_lines_that_no_test_reached(write_bundle: Write) -> None:
    folder = write_bundle(
        {
            "extra.rego": "package extra\n\nf(x) := 1 if {\n\tx == 1\n}\n\nf(x) := 2 if {\n\tx == 2\n\tinput.deep\n}\n",
            "extra_test.rego": "package extra_test\n\ntest_f if data.extra.f(1) == 1\n",
        }
    )
    report = run_tests(folder)
    extra = next(file for file in report.coverage if file.file == "extra.rego")
    assert 4 in extra.covered
    assert 9 in extra.not_covered
    assert 0 < extra.percent < 100
    assert 0 < report.coverage_percent < 100
    assert all("_test" not in file.file for file in report.coverage)
    assert report.as_json()["coverage"]


def test_the_engine_passes_the_canaries() -> None:
    run_canaries()


def test_an_engine_that_turns_false_into_zero_is_refused() -> None:
    """What one build of the interpreter did to Python objects."""
    program = RegoProgram([CANARY_MODULE])
    with pytest.raises(ConfigurationError, match="false is not true") as caught:
        run_canaries(lambda rule, document: program.rule(rule, document.replace("false", "0")))
    assert caught.value.reason == "policy_engine_unsound"


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_each_canary_can_fail(canary: object) -> None:
    """Answer this one question wrongly and all others rightly."""
    program = RegoProgram([CANARY_MODULE])
    wanted = CANARIES.index(canary)  # type: ignore[arg-type]
    asked = -1

    def ask(rule: str, document: str) -> str | None:
        nonlocal asked
        asked += 1
        if asked == wanted:
            return '"wrong"'
        return program.rule(rule, document)

    with pytest.raises(ConfigurationError, match="canary"):
        run_canaries(ask)
    assert asked == wanted


def test_one_is_not_true_for_a_canary() -> None:
    program = RegoProgram([CANARY_MODULE])

    def ask(rule: str, document: str) -> str | None:
        answer = program.rule(rule, document)
        return "1" if answer == "true" else answer

    with pytest.raises(ConfigurationError, match="true is true"):
        run_canaries(ask)


def test_an_engine_that_swallows_errors_is_refused() -> None:
    program = RegoProgram([CANARY_MODULE])

    def ask(rule: str, document: str) -> str | None:
        try:
            return program.rule(rule, document)
        except RegoFailureError:
            return None

    with pytest.raises(ConfigurationError, match="loud"):
        run_canaries(ask)


def test_a_configured_folder_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^policy\.bundle: .*/none: No such file or directory$") as caught:
        BundleHolder(tmp_path / "none")
    assert (caught.value.reason, bool(caught.value.fix)) == ("policy_unreadable", True)
