"""The shipped staging and prod rules: a table, the subset property, and proof that the bundled tests bite."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.model.decision import Verdict
from orchestrator.policy.bundle import default_bundle, run_tests
from orchestrator.policy.document import Evaluation
from orchestrator.policy.engine import RegorusEngine
from orchestrator.policy.files import Bundle, read_bundle
from orchestrator.policy.rego import Module, RegoFailureError, RegoProgram
from orchestrator.policy.rego_test_runner import TestReport, run_bundle_tests

Make = Callable[[str], dict[str, Any]]
BUNDLE: Bundle = read_bundle(default_bundle())
ENGINE = RegorusEngine(BUNDLE.modules, BUNDLE.data_json, BUNDLE.digest)
MISSING = object()


def ask(document: Any) -> Evaluation:
    return ENGINE.evaluate_now(json.dumps(document))


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(document)
    *parents, last = path.split(".")
    here: Any = document
    for part in parents:
        here = (here[int(part)] if int(part) < len(here) else None) if isinstance(here, list) else here.get(part)
        if not isinstance(here, (dict, list)):
            return document
    if isinstance(here, list):
        return document
    if value is MISSING:
        here.pop(last, None)
    else:
        here[last] = value
    return document


@pytest.mark.parametrize("environment", ["", "staging", "prod"])
def test_a_good_job_is_allowed(good_document: Make, environment: str) -> None:
    assert ask(good_document(environment)).verdict is Verdict.ALLOW


STAGING_TABLE = [
    ("artifact.signed", False, "artifact_unsigned"),
    ("artifact.sbom", False, "sbom_missing"),
    ("artifact.base", "ubuntu", "base_not_approved"),
    ("artifact.digest", "sha256:" + "b" * 64, "artifact_unknown"),
    ("artifact.provenance", False, "built_elsewhere"),
    ("artifact.built.builder", "", "built_elsewhere"),
    ("artifact.built", MISSING, "built_elsewhere"),
    ("artifact.built.repository", "acme/other", "source_mismatch"),
    ("artifact.built.repository", MISSING, "source_mismatch"),
    ("artifact.built.repository_id", "43", "source_mismatch"),
    ("artifact.built.repository_id", MISSING, "source_mismatch"),
    ("artifact.built.caller_issuer", "https://other.example", "source_mismatch"),
    ("caller.facts", {}, "source_mismatch"),
    ("artifact.built.trust_tier", "untrusted", "build_trust_tier_too_low"),
    ("credentials.workload_identity", False, "static_secrets"),
    ("request.secrets", ["old"], "secret_not_allowed"),
    ("pool.isolation", "privileged", "isolation_not_approved"),
    ("pool.trust_tier", "untrusted", "trust_tier_too_low"),
]
PROD_TABLE = [
    ("artifact.base", "host-toolchain", "base_not_approved"),
    ("artifact.built.trust_tier", "standard", "build_trust_tier_too_low"),
    ("artifact.built.repository", MISSING, "source_unverified"),
    ("artifact.sboms", [], "sbom_unfit"),
    ("artifact.provenances.0.level", 1, "provenance_level_too_low"),
    ("artifact.provenances.0.finished_at", "2026-08-01T00:00:00Z", "provenance_stale"),
    ("artifact.provenances.0.caches", ["pip"], "build_used_caches"),
    ("artifact.scans", [], "scan_missing"),
    ("artifact.scans.0.scanner", "grype", "scan_missing"),
    ("artifact.scans.0.finished_at", "2026-11-21T09:59:59Z", "scan_stale"),
    ("artifact.scans.0.counts.high", 1, "vulnerabilities_over_threshold"),
    ("approvals", [], "security_approval_missing"),
    ("approvals.0.expires_at", "2026-11-22T09:59:59Z", "security_approval_missing"),
    ("approvals.0.artifact_digest", "sha256:" + "b" * 64, "security_approval_missing"),
    ("approvals.0.approver", "repo:acme/shop", "security_approval_missing"),
    ("approvals.0.own", True, "security_approval_missing"),
    ("source", None, "commit_not_on_protected_branch"),
    ("source.protected", False, "commit_not_on_protected_branch"),
    ("source.commit", "d" * 40, "commit_not_on_protected_branch"),
    ("ticket", None, "ticket_missing"),
    ("ticket.exists", False, "ticket_missing"),
    ("ticket.open", False, "ticket_unfit"),
    ("credentials.static_secrets", 1, "static_secrets"),
    ("pool.trust_tier", "standard", "trust_tier_too_low"),
]


@pytest.mark.parametrize("stage", ["admission", "exchange"])
@pytest.mark.parametrize(
    ("environment", "path", "value", "code"),
    [("staging", *row) for row in STAGING_TABLE] + [("prod", *row) for row in STAGING_TABLE + PROD_TABLE],
)
def test_one_thing_wrong(
    good_document: Make, stage: str, environment: str, path: str, value: object, code: str
) -> None:
    document = changed(good_document(environment), path, value)
    if stage == "exchange":
        document |= {"stage": "exchange", "runner": {"uid": "u"}}
        document["request"]["audience"] = f"https://{environment}.deploy.example"
    evaluation = ask(document)
    assert evaluation.verdict is Verdict.DENY
    assert evaluation.document is not None
    found = {reason.code: reason.message for reason in evaluation.document.reasons}
    assert code in found
    assert len(found[code]) > 30


_FIELDS = [
    "stage", "time", "job", "job.id", "caller", "caller.subject", "caller.facts", "pool", "pool.trust_tier",
    "pool.isolation", "pool.name", "runner", "request", "request.artifact_digest", "request.audience", "artifact",
    "artifact.digest", "artifact.signed", "artifact.sbom", "artifact.base", "artifact.provenance",
    "artifact.built", "artifact.built.repository", "artifact.built.repository_id", "artifact.built.builder",
    "artifact.built.trust_tier", "artifact.built.caller", "artifact.built.caller_issuer", "caller.id", "caller.issuer",
    "caller.facts.repository", "caller.facts.repository_id", "approvals", "approvals.0.kind",
    "approvals.0.expires_at", "approvals.0.approver", "approvals.0.own", "artifact.sboms", "artifact.provenances",
    "artifact.provenances.0.level", "artifact.provenances.0.builder", "artifact.scans", "artifact.scans.0.counts",
    "artifact.scans.0.scanner", "artifact.signatures", "exceptions", "source", "source.commit", "source.protected",
    "ticket", "ticket.id", "ticket.open", "request.ticket", "request.secrets", "workload", "credentials",
    "credentials.static_secrets",
    "credentials.workload_identity", "claimed",
]  # fmt: skip
_VALUES = st.one_of(
    st.just(MISSING),
    st.sampled_from(
        [None, True, False, 0, 1, "", "true", [], {}, [True], "prod", "staging", "admission", "exchange", "protected",
         "standard", "untrusted", "bubblewrap", "privileged", "distroless", "host-toolchain", "sha256:" + "b" * 64,
         "https://prod.deploy.example", "https://staging.deploy.example", {"uid": "u"}]
    ),
    st.text(max_size=5),
    st.integers(),
)  # fmt: skip
_CHANGES = st.lists(st.tuples(st.sampled_from(_FIELDS), _VALUES), max_size=4)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=_CHANGES, exchange=st.booleans())
def test_prod_allows_nothing_that_staging_denies(
    good_document: Make, changes: list[tuple[str, object]], exchange: bool
) -> None:
    document = good_document("prod")
    if exchange:
        document |= {"stage": "exchange", "runner": {"uid": "u"}}
        document["request"]["audience"] = "https://prod.deploy.example"
    for path, value in changes:
        document = changed(document, path, value)
    prod = ask(document)
    staging = changed(changed(document, "request.deployment_environment", "staging"), "stage", "admission")
    if prod.verdict is Verdict.ALLOW and isinstance(document["request"], dict):
        twin = ask(staging)
        assert twin.verdict is Verdict.ALLOW
        assert prod.document is not None
        assert twin.document is not None
        ours, theirs = prod.document.obligations, twin.document.obligations
        if not exchange and ours.max_duration_seconds is not None:
            assert theirs.max_duration_seconds is not None
            assert ours.max_duration_seconds <= theirs.max_duration_seconds


_STAGING = json.loads(BUNDLE.data_json)["environments"]["staging"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.dictionaries(st.sampled_from([*_STAGING, "other"]), _VALUES, max_size=4),
    leave_out=st.booleans(),
    changes=_CHANGES,
)
def test_an_edit_of_stagings_data_changes_no_answer_about_prod(
    good_document: Make, edits: dict[str, object], leave_out: bool, changes: list[tuple[str, object]]
) -> None:
    data = json.loads(BUNDLE.data_json)
    kept = {key: value for key, value in (_STAGING | edits).items() if value is not MISSING}
    data["environments"] = {"prod": data["environments"]["prod"]} | ({} if leave_out else {"staging": kept})
    edited = RegorusEngine(BUNDLE.modules, json.dumps(data), BUNDLE.digest)
    document = good_document("prod")
    assert edited.evaluate_now(json.dumps(document)) == ask(document)
    for path, value in changes:
        document = changed(document, path, value)
    document["request"] = {**good_document("prod")["request"], "deployment_environment": "prod"}
    assert edited.evaluate_now(json.dumps(document)) == ask(document)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    environment=st.sampled_from(["staging", "prod"]),
    changes=_CHANGES,
    claimed=st.dictionaries(st.text(max_size=8) | st.sampled_from(["signed", "approvals", "artifact"]), st.text()),
)
def test_claims_never_change_a_decision(
    good_document: Make, environment: str, changes: list[tuple[str, object]], claimed: dict[str, str]
) -> None:
    document = good_document(environment)
    for path, value in changes:
        document = changed(document, path, value)
    with_claims = ask(document | {"claimed": claimed})
    without = ask(document | {"claimed": {}})
    assert with_claims == without


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["stage", "request", "pool", "artifact", "x"]), inner, max_size=5)
        ),
        max_leaves=15,
    )
)
def test_no_odd_document_is_allowed(document: object) -> None:
    """None of these can hold a job, as `job` and `deployment_environment` are never there."""
    assert ask(document).verdict is not Verdict.ALLOW


def test_no_rule_reads_what_the_job_claims() -> None:
    for module in BUNDLE.modules:
        code = re.sub(r"#.*", "", module.text)
        assert "claimed" not in code, module.path
        assert "input[" not in code, module.path


def test_the_bundled_tests_pass_and_reach_every_line() -> None:
    report = run_tests(default_bundle())
    assert report.passed
    assert {file.file: file.not_covered for file in report.coverage if file.not_covered} == {}


# A grant needs two things that say the same: a conjunction, and an empty list of reasons. To see that the
# conjunction alone is complete, and each of its parts tested, the mutants have no list of reasons to lean on.
CONJUNCTION_ALONE = tuple(
    Module(module.path, re.sub(r"^\tcount\((unmet|denials)\) == 0$", "\ttrue", module.text, flags=re.MULTILINE))
    for module in BUNDLE.modules
)
_CONDITIONS = [
    (module.path, number, line.strip())
    for module in CONJUNCTION_ALONE
    for number, line in enumerate(module.text.splitlines())
    if re.match(r"^\t(?!\"|true$|bases :=|kinds :=|wanted :=|value :=)[a-z].*[^{,(\[]$", line)
    # Obligations exist for known stages only, so that nothing is granted at another one anyway.
    and module.text.splitlines()[number - 1 : number + 1] != ["stage_granted if {", '\tinput.stage == "exchange"']
]


def with_modules(modules: tuple[Module, ...]) -> Bundle:
    return Bundle(modules, BUNDLE.tests, BUNDLE.data, BUNDLE.data_json, "sha256:0")


def test_the_conjunction_alone_is_complete() -> None:
    assert BUNDLE.modules != CONJUNCTION_ALONE
    assert run_bundle_tests(with_modules(CONJUNCTION_ALONE), coverage=False).passed


def rule_value(path: str) -> Any:
    answer = RegoProgram(BUNDLE.modules, BUNDLE.data_json).rule(f"data.orchestrator.{path}", "{}")
    assert answer is not None
    return json.loads(answer)


def test_the_reference_page_lists_every_code_and_who_may_set_it_aside() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "policy-input.md").read_text()
    _, requirements, requests = re.split("### Requirements of an environment|### Requests that nothing", page)
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([a-z, ]*)\|", requirements, re.MULTILINE)
    told = {code: {word for word in re.split(", | ", words) if word} for code, words in rows}
    assert set(told) == set(rule_value("controls.catalogue"))
    waivable = json.loads(BUNDLE.data_json)["exceptions"]["waivable"]
    for code, words in told.items():
        assert ("never" in words) == (code in rule_value("exceptions.never")), code
        assert ("b" in words, "o" in words) == (code in waivable["break_glass"], code in waivable["override"]), code
    codes = set(re.findall(r"`(\w+)`", requests.partition("| --- |")[2]))
    text = "".join(module.text for module in BUNDLE.modules if module.path == "decision.rego")
    assert set(re.findall(r'"code": "(\w+)"', text)) <= codes


@functools.cache
def run_bundle_tests_once() -> TestReport:
    return run_bundle_tests(BUNDLE, coverage=False)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted({path for path, _, _ in _CONDITIONS}))
def test_leaving_a_condition_out_fails_the_bundled_tests(path: str) -> None:
    """Mutants of the rules: each line of a rule's body, removed, must turn some test red (or break the file)."""
    assert passes(path, None)
    survivors = [f"{number + 1}: {text}" for file, number, text in _CONDITIONS if file == path and passes(path, number)]
    assert survivors == []


def passes(path: str, number: int | None) -> bool:
    """Whether all tests pass without the line of that number (from 0); first those of the same topic are asked."""
    mutated = tuple(without(module, number) if module.path == path else module for module in CONJUNCTION_ALONE)
    near = {path.replace(".rego", "_test.rego"), "fixtures_test.rego"}
    for tests in ([test for test in BUNDLE.tests if test.path in near], BUNDLE.tests):
        files = {test.path for test in tests}
        names = [result.name for result in run_bundle_tests_once().results if result.file in files]
        try:
            program = RegoProgram((*mutated, *tests), BUNDLE.data_json)
            if any(program.rule(name, "{}") != "true" for name in names):
                return False
        except RegoFailureError:
            return False
    return True


def without(module: Module, number: int | None) -> Module:
    if number is None:
        return module
    lines = module.text.splitlines()
    return Module(module.path, "\n".join([*lines[:number], "\ttrue", *lines[number + 1 :]]))


def with_data(change: Mapping[str, Any]) -> Bundle:
    """The shipped bundle with its data changed as `jsonmerge` would: objects in depth, all else replaced."""
    return Bundle(
        BUNDLE.modules, BUNDLE.tests, {}, json.dumps(merged(json.loads(BUNDLE.data_json), change)), "sha256:0"
    )


def merged(base: Any, change: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(change, Mapping):
        return change
    return base | {key: merged(base.get(key), value) for key, value in change.items()}


def audience(**change: object) -> dict[str, Any]:
    good = {"environments": ["staging"], "min_trust_tier": "standard", "ttl_seconds": 60}
    return {"audiences": {"https://x.example": good | change}}


def both(**group: object) -> dict[str, Any]:
    return {"environments": {"staging": group, "prod": group}}


def prod(**change: object) -> dict[str, Any]:
    return {"environments": {"prod": change}}


SCANNED = {"required": True, "scanners": ["grype"], "max_age_seconds": 60, "ignored": [], "max": dict.fromkeys(
    ("critical", "high", "medium", "low", "unknown"), 0)}  # fmt: skip
IGNORED = {"id": "CVE-1", "owner": "team", "reason": "no way in", "expires_at": "2026-12-01T00:00:00Z"}
OUTSIDE = {"id": "https://b.example", "issuer": "https://i.example", "repository_prefix": "https://c.example/",
           "trust_tier": "standard"}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        audience(environments=["qa"]),
        audience(environments=["prod"], min_trust_tier="high"),
        audience(environments=[""], ttl_seconds=1),
        audience(environments=["staging", "prod"]),
        {"environments": {"": {}}},
        prod(strict=False),
        prod(approved_bases=["ubuntu"]),
        prod(approved_isolation=["container"]),
        prod(token_ttl_seconds=6000),
        prod(max_duration_seconds=6000),
        prod(min_trust_tier="untrusted"),
        prod(min_build_trust_tier="untrusted"),
        prod(provenance={"builders": [OUTSIDE]}),
        prod(provenance={"min_level": 9}),
        prod(scans={"scanners": []}),
        prod(scans={"max": {"high": "many"}}),
        prod(scans={"ignored": [IGNORED | {"owner": ""}]}),
        prod(scans={"ignored": [IGNORED | {"expires_at": "soon"}]}),
        prod(modes={"scan_mising": "observe"}),
        prod(modes={"scan_missing": "off"}),
        prod(modes={"artifact_unsigned": "observe"}),
        prod(approvals={"kinds": {"security": 0}}),
        both(provenance={"builders": [OUTSIDE, OUTSIDE]}),
        both(provenance={"builders": [OUTSIDE | {"trust_tier": "high"}]}),
        {"environments": {"staging": {"signers": ["release"]}}},
        {"environments": {"staging": {"scans": SCANNED}}},
        {"environments": {"staging": {"sbom_contents": {
            "required": True, "formats": ["cyclonedx"], "min_components": 9}}}},
        {"environments": {"staging": {"source": {
            "required": True, "signed": True, "reviewed": False, "sensitive_repositories": []}}}},
        {"environments": {"staging": {"ticket": {"required": True, "projects": ["REL"], "types": []}}}},
        {"environments": {"staging": {"approvals": {"required": True, "kinds": {"release": 1}}}}},
        {"environments": {"staging": {"provenance": {
            "required": True, "min_level": 3, "max_age_seconds": 1e9, "caches_allowed": True,
            "egress_refused_allowed": True}}}},
        {"exceptions": {"waivable": {"override": ["artifact_unsigned"]}}},
        {"exceptions": {"waivable": {"override": ["scan_mising"]}}},
        {"exceptions": {"waivable": {"blessing": ["scan_missing"]}}},
        {"secrets": {"tiers": ["protected"]}},
    ],
)  # fmt: skip
def test_the_operators_data_is_held_by_the_bundled_tests(change: Mapping[str, Any]) -> None:
    assert not data_is_good(with_data(change))


@pytest.mark.parametrize(
    "change",
    [
        {},
        audience(min_trust_tier="untrusted"),
        {"environments": {"qa": json.loads(BUNDLE.data_json)["environments"]["staging"]}},
        both(provenance={"builders": [OUTSIDE]}),
        prod(modes={"scan_missing": "observe", "ticket_unfit": "observe", "source_unverified": "observe"}),
        prod(ticket={"required": False}, scans={"required": False}, source={"required": False}),
        prod(scans={"ignored": [IGNORED], "max": {"medium": 3}}),
        both(modes={"artifact_unsigned": "observe"}),
        prod(
            source={"signed": True, "sensitive_repositories": ["42"]},
            approvals={"kinds": {"security": 2, "release": 1}},
        ),
    ],
)
def test_data_that_operators_may_want(change: Mapping[str, Any]) -> None:
    assert data_is_good(with_data(change))


def data_is_good(bundle: Bundle) -> bool:
    program = RegoProgram((*bundle.modules, *bundle.tests), bundle.data_json)
    names = [r.name for r in run_bundle_tests_once().results if r.name.startswith("data.orchestrator.data_test.")]
    assert len(names) > 8
    try:
        return all(program.rule(name, "{}") == "true" for name in names)
    except RegoFailureError:
        return False
