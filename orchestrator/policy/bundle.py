"""Loading a policy bundle: nothing decides that was not linted, tried on an empty document and tested.

The last good bundle stays in force when a new one is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestrator.errors import ConfigurationError
from orchestrator.model.decision import Stage, Verdict
from orchestrator.policy.canary import run_canaries
from orchestrator.policy.document import Evaluation
from orchestrator.policy.engine import RegorusEngine
from orchestrator.policy.files import Bundle, read_bundle
from orchestrator.policy.lint import lint
from orchestrator.policy.rego import Module, RegoFailureError, RegoProgram
from orchestrator.policy.rego_test_runner import TestOutcome, TestReport, run_bundle_tests
from orchestrator.policy.syntax import Syntax, read_syntax

_MAX_SHOWN = 20
_MOST_PROVEN = 64
_proven: OrderedDict[str, None] = OrderedDict()
"""Digests of bundles that passed every check in this process; over all files, the tests included."""


def default_bundle() -> Path:
    """The folder of the bundle that ships with the program."""
    return Path(__file__).parent / "bundles" / "default"


def _invalid(message: str, fix: str) -> ConfigurationError:
    return ConfigurationError(message, reason="policy_invalid", fix=fix)


def _listed(lines: list[str]) -> str:
    more = [f"… and {len(lines) - _MAX_SHOWN} more"] if len(lines) > _MAX_SHOWN else []
    return "\n".join(lines[:_MAX_SHOWN] + more)


def _parse(module: Module) -> Syntax:
    try:
        return read_syntax(RegoProgram([module]).syntax()[0])
    except RegoFailureError as failure:
        where = f"{failure.file}:{failure.line}" if failure.file else module.path
        if "keyword is required before" in failure.text:
            fix = "this is Rego of before OPA 1.0; write `allow if { … }` and `deny contains message if { … }`"
        else:
            fix = "correct the file; it must be Rego as OPA 1.x reads it"
        raise _invalid(f"{where}: {failure.text}", fix) from None


def check_syntax(bundle: Bundle) -> None:
    """Parse and lint every file.

    Raises:
        ConfigurationError: reason `policy_invalid`; one line for each finding: file, line, rule, fix.
    """
    issues = lint(
        [_parse(module) for module in bundle.modules], [_parse(module) for module in bundle.tests], bundle.data
    )
    if issues:
        raise _invalid(_listed([str(issue) for issue in issues]), issues[0].fix)


def check_empty_document(bundle: Bundle) -> None:
    """Evaluate every rule, then the entrypoint, on documents that say nothing. None of them may be allowed.

    Raises:
        ConfigurationError: reason `policy_invalid`: a rule cannot be evaluated, or nothing is enough for an allow.
    """
    try:
        RegoProgram(bundle.modules, bundle.data_json).all_rules("{}")
    except RegoFailureError as failure:
        raise _invalid(str(failure), "correct the rule: it fails on an empty input document") from None
    engine = RegorusEngine(bundle.modules, bundle.data_json, bundle.digest)
    for document in ({}, *({"stage": stage.value} for stage in Stage)):
        evaluation = engine.evaluate_now(json.dumps(document))
        if evaluation.verdict is Verdict.ALLOW:
            raise _invalid(
                f"the bundle allows the document {json.dumps(document)}",
                "let decision default to a denial and allow only on facts that are there",
            )
        if evaluation.verdict is Verdict.ERROR:
            raise _invalid(
                f"on the document {json.dumps(document)}: {evaluation.detail}",
                "let decision be an object with allow, reasons and obligations, whatever is missing",
            )


def check_tests(bundle: Bundle) -> TestReport:
    """Run the bundled tests.

    Raises:
        ConfigurationError: reason `policy_tests_failed`: there are none, or not all pass.
    """
    report = run_bundle_tests(bundle, coverage=False)
    if report.passed:
        return report
    bad = [result for result in report.results if result.outcome in (TestOutcome.FAIL, TestOutcome.ERROR)]
    lines = [f"{r.file}:{r.line}: {r.name}: {r.outcome.value} {r.detail}".rstrip() for r in bad]
    raise ConfigurationError(
        _listed(lines) if lines else "the bundle has no test that passes",
        reason="policy_tests_failed",
        fix="run `orchestrator policy test` on the folder; a bundle is loaded only when its own tests pass",
    )


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and put it through every check.

    Raises:
        ConfigurationError: reasons `policy_unreadable`, `policy_invalid`, `policy_tests_failed`,
            `policy_engine_unsound`.
    """
    run_canaries()
    bundle = read_bundle(folder)
    if bundle.digest not in _proven:
        check_syntax(bundle)
        check_empty_document(bundle)
        check_tests(bundle)
        _proven[bundle.digest] = None
        while len(_proven) > _MOST_PROVEN:
            _proven.popitem(last=False)
    return bundle


def load_configured(folder: Path) -> Bundle:
    """As `load_bundle`, for the folder that the settings name: errors say which setting that is.

    Raises:
        ConfigurationError: as `load_bundle`.
    """
    try:
        return load_bundle(folder)
    except ConfigurationError as error:
        raise ConfigurationError(f"policy.bundle: {error}", reason=error.reason, fix=error.fix) from None


def run_tests(folder: Path) -> TestReport:
    """The bundle's tests with coverage, for `policy test`; failing tests are in the report.

    Raises:
        ConfigurationError: the bundle cannot be read, parsed or linted, or the engine is unsound.
    """
    run_canaries()
    bundle = read_bundle(folder)
    check_syntax(bundle)
    try:
        return run_bundle_tests(bundle)
    except RegoFailureError as failure:
        raise _invalid(str(failure), "correct the file") from None


class BundleHolder:
    """The engine over the bundle in force; itself a `RegoEngine`, so that a reload needs no rewiring.

    Raises:
        ConfigurationError: from the constructor, see `load_bundle`; there is no holder without a good bundle.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reloading = asyncio.Lock()
        self.bundle = load_configured(folder)
        """The one in force."""
        self._before: Bundle | None = None
        self._rolled_back = ""
        self._engine = self._build(self.bundle)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the bundle in force."""
        return self.bundle.digest

    async def evaluate(self, input_json: str) -> Evaluation:
        return await self._engine.evaluate(input_json)

    async def reload(self, before: Callable[[Bundle], Awaitable[None]] | None = None) -> bool:
        """Load the folder again, off the loop; True when its content has changed. Questions go on meanwhile.

        `before` is awaited with what has changed and is fit, before it is put in force; if it raises, that is not done.

        Raises:
            ConfigurationError: the new content is refused, and the bundle in force stays; reason `policy_rolled_back`
                where it is the one that `roll_back` took out.
        """
        # One at a time, or a load that began earlier and took longer would put an older content in force.
        async with self._reloading:
            bundle = await asyncio.to_thread(load_configured, self._folder)
            if bundle.digest == self.digest:
                return False
            if bundle.digest == self._rolled_back:
                raise ConfigurationError(
                    f"policy.bundle: {self._folder} still holds the bundle that was rolled back",
                    reason="policy_rolled_back",
                    fix="change the bundle and reload, or restart the daemon to have it after all",
                )
            if before is not None:
                await before(bundle)
            self._before, self._rolled_back = self.bundle, ""
            self.bundle, self._engine = bundle, self._build(bundle)
            return True

    async def roll_back(self, before: Callable[[Bundle], Awaitable[None]]) -> bool:
        """Put the bundle before the last reload in force again, and refuse the one of now until its folder has changed;
        False when there is none. `before` is as for `reload`."""
        async with self._reloading:
            if self._before is None:
                return False
            await before(self._before)
            self._rolled_back, self.bundle, self._before = self.digest, self._before, None
            self._engine = self._build(self.bundle)
            return True

    async def aclose(self) -> None:
        await self._engine.aclose()

    @staticmethod
    def _build(bundle: Bundle) -> RegorusEngine:
        return RegorusEngine(bundle.modules, bundle.data_json, bundle.digest)
