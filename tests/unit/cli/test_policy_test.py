"""policy test: the bundle's own tests, with an exit code a pipeline can gate on."""

from __future__ import annotations

import json

import pytest

POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "not_main", "message": "only main"}]}

decision := {"allow": true} if {
\tinput.caller.facts.ref == "refs/heads/main"
}
"""
TESTS = """package orchestrator_test

import data.orchestrator

test_main_is_allowed if {
\torchestrator.decision.allow with input as {"caller": {"facts": {"ref": "refs/heads/main"}}}
}
"""


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "main.rego").write_text(POLICY)
    (tmp_path / "main_test.rego").write_text(TESTS)
    return tmp_path


def test_passing_tests(cli, bundle):
    done = cli("policy", "test", str(bundle), "--coverage")
    assert done.exit_code == 0, done.stderr
    assert "data.orchestrator_test.test_main_is_allowed" in done.stdout
    assert "1 pass" in done.stdout
    assert "main.rego" in done.stdout


def test_a_failing_test_fails_and_says_where(cli, bundle):
    (bundle / "main_test.rego").write_text(
        TESTS + '\ntest_fork if orchestrator.decision.allow with input as {"a": 1}\n'
    )
    done = cli("policy", "test", str(bundle))
    assert done.exit_code == 1
    assert "main_test.rego:9" in done.stdout
    report = json.loads(cli("policy", "test", str(bundle), "--json").stdout)
    assert report["counts"]["fail"] == 1
    assert report["passed"] is False


def test_too_little_coverage_fails(cli, bundle):
    (bundle / "main.rego").write_text(POLICY + "\nunused if {\n\tinput.never == true\n\tinput.x == 2\n}\n")
    done = cli("policy", "test", str(bundle), "--min-coverage", "100", "--coverage")
    assert done.exit_code == 1
    assert "coverage is" in done.stderr
    assert "not reached" in done.stdout


def test_a_bundle_that_does_not_parse_is_an_error(cli, bundle):
    (bundle / "main.rego").write_text("package orchestrator\nallow {")
    done = cli("policy", "test", str(bundle))
    assert done.exit_code == 1
    assert "main.rego" in done.stderr
    assert "Traceback" not in done.stderr
