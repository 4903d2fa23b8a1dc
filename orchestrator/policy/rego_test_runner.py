"""Runs the `test_*` rules of a bundle, as `opa test` does, and says which lines of the policy they reached."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.policy.files import Bundle
from orchestrator.policy.rego import RegoFailureError, RegoProgram
from orchestrator.policy.syntax import Rule, Syntax, read_syntax


class TestOutcome(StrEnum):
    """*fail*: the rule was false or undefined; *error*: evaluation broke; *skip*: its name starts with `todo_`."""

    __test__ = False

    PASS = "pass"  # noqa: S105 -- no password
    FAIL = "fail"
    ERROR = "error"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class TestResult:
    """`name` is the rule's full path, e.g. `data.orchestrator.artifact_test.test_unsigned`."""

    __test__ = False

    name: str
    file: str
    line: int
    outcome: TestOutcome
    duration_ns: int = 0
    detail: str = ""
    prints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """Line numbers (from 1) of a policy file that were evaluated by some test, and those that never were."""

    file: str
    covered: tuple[int, ...]
    not_covered: tuple[int, ...]

    @property
    def percent(self) -> float:
        lines = len(self.covered) + len(self.not_covered)
        return 100.0 * len(self.covered) / lines if lines else 100.0


@dataclass(frozen=True, slots=True)
class TestReport:
    """All results in file order, and the coverage of every file that is not a test."""

    __test__ = False

    results: tuple[TestResult, ...]
    coverage: tuple[FileCoverage, ...]
    bundle_digest: str

    def count(self, outcome: TestOutcome) -> int:
        return sum(result.outcome is outcome for result in self.results)

    @property
    def passed(self) -> bool:
        """At least one test passed, and none failed or broke."""
        bad = self.count(TestOutcome.FAIL) + self.count(TestOutcome.ERROR)
        return bad == 0 and self.count(TestOutcome.PASS) > 0

    @property
    def coverage_percent(self) -> float:
        covered = sum(len(file.covered) for file in self.coverage)
        lines = covered + sum(len(file.not_covered) for file in self.coverage)
        return 100.0 * covered / lines if lines else 100.0

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values, for `policy test --json`."""
        return {
            "passed": self.passed,
            "bundle_digest": self.bundle_digest,
            "counts": {outcome.value: self.count(outcome) for outcome in TestOutcome},
            "coverage_percent": round(self.coverage_percent, 2),
            "tests": [
                {
                    "name": result.name,
                    "file": result.file,
                    "line": result.line,
                    "outcome": result.outcome.value,
                    "duration_ns": result.duration_ns,
                    "detail": result.detail,
                    "prints": list(result.prints),
                }
                for result in self.results
            ],
            "coverage": [
                {
                    "file": file.file,
                    "percent": round(file.percent, 2),
                    "covered": list(file.covered),
                    "not_covered": list(file.not_covered),
                }
                for file in self.coverage
            ],
        }


def run_bundle_tests(bundle: Bundle, *, coverage: bool = True) -> TestReport:
    """Run every test of a bundle that parses; each sees an empty input document.

    Raises:
        RegoFailureError: a file does not parse.
    """
    program = RegoProgram((*bundle.modules, *bundle.tests), bundle.data_json, coverage=coverage)
    trees = [read_syntax(tree) for tree in program.syntax()]
    results = [_run(program, tree, rule) for tree in trees for rule in tree.rules if _is_test(tree, rule)]
    lines = program.covered_lines() if coverage else {}
    return TestReport(tuple(results), _coverage(bundle, lines), bundle.digest)


def _is_test(tree: Syntax, rule: Rule) -> bool:
    return (
        tree.file.endswith("_test.rego")
        and len(rule.name) == 1
        and rule.name[0].startswith(("test_", "todo_test_"))
        and rule.arguments is None
        and not rule.is_default
    )


def _run(program: RegoProgram, tree: Syntax, rule: Rule) -> TestResult:
    path = ".".join(("data", *tree.package, *rule.name))
    if rule.name[0].startswith("todo_"):
        return TestResult(path, tree.file, rule.line, TestOutcome.SKIP)
    began = time.perf_counter_ns()
    detail = ""
    try:
        answer = program.rule(path, "{}")
    except RegoFailureError as failure:
        outcome, detail = TestOutcome.ERROR, str(failure)
    else:
        outcome = TestOutcome.PASS if answer == "true" else TestOutcome.FAIL
        if outcome is TestOutcome.FAIL:
            detail = "undefined" if answer is None else f"the value is {answer[:200]}"
    return TestResult(
        path, tree.file, rule.line, outcome, time.perf_counter_ns() - began, detail, tuple(program.prints())
    )


def _coverage(bundle: Bundle, lines: Mapping[str, tuple[frozenset[int], frozenset[int]]]) -> tuple[FileCoverage, ...]:
    files = []
    for module in bundle.modules:
        if module.path in lines:
            covered, missed = lines[module.path]
            files.append(FileCoverage(module.path, tuple(sorted(covered)), tuple(sorted(missed - covered))))
    return tuple(files)
