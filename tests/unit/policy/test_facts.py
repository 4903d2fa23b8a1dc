"""Facts of other types than documented never reach a rule."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.policy.facts import UnfitFactError, check_facts, lean_artifact
from orchestrator.policy.lookups import Consent, Verified
from tests.unit.policy.samples import APPROVAL, ARTIFACT, EVERYTHING, EXCEPTION, SECRET, SOURCE, TICKET


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(document)
    *parents, last = path.split(".")
    here: Any = document
    for part in parents:
        here = here[int(part)] if isinstance(here, list) else here[part]
    here[last] = value
    return document


def test_what_is_documented_is_fit() -> None:
    check_facts(EVERYTHING)
    check_facts(Verified())
    check_facts(replace(EVERYTHING, ticket=TICKET | {"more": object()}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("signed", 1),
        ("sbom", None),
        ("provenance", "true"),
        ("digest", "sha256:AA"),
        ("built.repository", 7),
        ("signatures", {}),
        ("sboms.0.components", -1),
        ("sboms.0.format", "swid"),
        ("provenances.0.level", 4),
        ("provenances.0.level", "3"),
        ("provenances.0.finished_at", "yesterday"),
        ("provenances.0.caches", "none"),
        ("provenances.0.egress_refused", 0.5),
        ("scans.0.counts.high", "2"),
        ("scans.0.counts.high", -1),
        ("scans.0.counts.terrible", 1),
        ("scans.0.found", [{"id": "CVE", "severity": "high", "fixed": True}] * 201),
        ("scans.0.finished_at", "2026-11-22 10:00:00"),
    ],
)
def test_evidence_of_another_type_is_named(path: str, value: object) -> None:
    with pytest.raises(UnfitFactError, match=r" - at .*`input\.artifact\."):
        check_facts(replace(EVERYTHING, artifact=changed(ARTIFACT, path, value)))


@pytest.mark.parametrize(
    ("verified", "where"),
    [
        (replace(EVERYTHING, consent=Consent([APPROVAL | {"own": None}])), "approvals[0].own"),
        (replace(EVERYTHING, consent=Consent([APPROVAL | {"id": "x"}])), "approvals[0].id"),
        (replace(EVERYTHING, consent=Consent([], [EXCEPTION | {"kind": "blessing"}])), "exceptions[0].kind"),
        (replace(EVERYTHING, consent=Consent([], [EXCEPTION | {"expires_at": "never"}])), "exceptions[0].expires_at"),
        (replace(EVERYTHING, source=SOURCE | {"protected": "yes"}), "source.protected"),
        (replace(EVERYTHING, ticket=TICKET | {"open": 1}), "ticket.open"),
        (replace(EVERYTHING, secrets=[SECRET | {"allowed": "yes"}]), "secrets[0].allowed"),
    ],
)
def test_other_facts_of_another_type_are_named_and_not_shown(verified: Verified, where: str) -> None:
    with pytest.raises(UnfitFactError) as caught:
        check_facts(verified)
    assert f"input.{where}" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("blessing", "never", "yes"))


def test_only_the_newest_scan_of_each_scanner_keeps_its_findings() -> None:
    found = [{"id": "CVE-1", "severity": "high", "fixed": False}]
    scans = [
        {"scanner": "trivy", "finished_at": "2026-11-22T09:00:00Z", "counts": {"high": 1}, "found": found},
        {"scanner": "trivy", "finished_at": "2026-11-22T10:00:00Z", "found": found},
        {"scanner": "trivy", "finished_at": "2026-11-22T10:00:00Z", "found": found, "signer": "other"},
        {"scanner": "grype", "finished_at": "2026-11-21T10:00:00Z", "found": found},
    ]
    kept = lean_artifact({"scans": scans})["scans"]
    assert [len(scan["found"]) for scan in kept] == [0, 1, 1, 1]
    assert kept[0] == scans[0] | {"found": []}
    assert scans[0]["found"] == found
