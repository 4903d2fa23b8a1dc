"""What bills of materials, scans and provenance say, in each form they are written in."""

from __future__ import annotations

import json

import msgspec
import pytest

from orchestrator.evidence.attestations.builds import read_provenance
from orchestrator.evidence.attestations.reading import AttestationRefusedError
from orchestrator.evidence.attestations.sbom import TYPES, read_sbom
from orchestrator.evidence.attestations.scan import MOST_FOUND, read_scan, scanner_name
from orchestrator.evidence.attestations.signers import Claim, Signer
from tests.unit.evidence.attestations.conftest import DIGEST, FOREIGN_BUILDER, NOW, OTHER
from tests.unit.evidence.attestations.documents import (
    COMMIT,
    CYCLONEDX,
    FINISHED,
    SLSA,
    SLSA_02,
    SPDX,
    VULN,
    VULNS,
    bom,
    provenance,
    provenance_02,
    scan,
    spdx,
    trivy,
)


def raw(document) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(document).encode())


def refused(call, *arguments) -> str:
    with pytest.raises(AttestationRefusedError) as caught:
        call(*arguments)
    return caught.value.reason


# Bills of materials


def sbom(document, kind=CYCLONEDX):
    return read_sbom(kind, raw(document), DIGEST, NOW)


def test_cyclonedx():
    nested = bom("a", "b", metadata={"timestamp": "2027-01-15T09:05:00+01:00"})
    nested["components"][0]["components"] = [{"name": "within"}]
    assert sbom(nested) == {"format": "cyclonedx", "components": 3, "created_at": FINISHED}


def test_spdx():
    assert sbom(spdx("a", "b"), SPDX) == {"format": "spdx", "components": 2, "created_at": FINISHED}
    graph = [
        {"type": "CreationInfo", "created": FINISHED},
        {"type": "software_Package", "name": "a"},
        {"type": "software_File", "name": "f"},
    ]
    assert sbom({"@context": "…", "@graph": graph}, SPDX) == {
        "format": "spdx",
        "components": 1,
        "created_at": FINISHED,
    }


def test_one_that_names_the_artifact_itself():
    def naming(digest):
        hashes = [{"alg": "SHA-512", "content": "0"}, {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]
        return bom("a", metadata={"component": {"name": "app", "hashes": hashes}})

    assert sbom(naming(DIGEST))["components"] == 1
    assert refused(sbom, naming(OTHER)) == "sbom_of_other_artifact"


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({}, CYCLONEDX),
        (spdx("a"), CYCLONEDX),
        (bom("a"), SPDX),
        (bom("a") | {"specVersion": 1.6}, CYCLONEDX),
        (bom("a") | {"components": {}}, CYCLONEDX),
        (bom("a") | {"components": [{}]}, CYCLONEDX),
        (spdx("a") | {"packages": [1]}, SPDX),
        (spdx("a") | {"packages": {}}, SPDX),
        ({"@graph": {}}, SPDX),
        ({"Data": "SPDXVersion: SPDX-2.3", "Timestamp": FINISHED}, SPDX),
    ],
)
def test_what_is_no_bill_of_materials(document, kind):
    assert refused(sbom, document, kind) == "sbom_malformed"


def test_one_that_is_nested_too_deep():
    document = bom("a")
    inner = document["components"][0]
    for _ in range(40):
        inner["components"] = [{"name": "within"}]
        inner = inner["components"][0]
    assert refused(sbom, document) == "sbom_malformed"


def test_one_from_tomorrow():
    assert refused(sbom, bom("a", metadata={"timestamp": "2027-02-01T00:00:00Z"})) == "time_in_the_future"


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (CYCLONEDX, True),
        (CYCLONEDX + "/v1.6", True),
        (SPDX, True),
        (SPDX + "/v2.3", True),
        (CYCLONEDX + "x", False),
        ("http://cyclonedx.org/bom", False),
    ],
)
def test_types_of_bills_of_materials(kind, known):
    assert (TYPES.fullmatch(kind) is not None) is known


# Scans


def counts(result, kind=VULN):
    told = scan(result)
    found = read_scan(kind, raw(told), NOW)
    return {name: number for name, number in found["counts"].items() if number}


def test_trivy():
    result = trivy(("CVE-3", "LOW", ""), ("CVE-1", "CRITICAL", "2.0"), ("CVE-2", "UNKNOWN", ""), ("CVE-0", "odd", ""))
    found = read_scan(VULN, raw(scan(result)), NOW)
    assert (found["scanner"], found["version"], found["finished_at"]) == ("trivy", "v0.69", FINISHED)
    assert found["counts"] == {"critical": 1, "high": 0, "medium": 0, "low": 1, "unknown": 2}
    assert found["found"][0] == {"id": "CVE-1", "severity": "critical", "fixed": True}
    assert [one["id"] for one in found["found"]] == ["CVE-1", "CVE-3", "CVE-0", "CVE-2"]
    assert found["truncated"] is False


def test_trivy_with_nothing_to_tell():
    assert counts({"SchemaVersion": 2, "ArtifactName": "app"}) == {}
    assert counts({"SchemaVersion": 2, "ArtifactName": "app", "Results": [{"Target": "x"}]}) == {}


def test_grype():
    def match(name, severity, state):
        return {"vulnerability": {"id": name, "severity": severity, "fix": {"state": state}}, "artifact": {}}

    result = {"matches": [match("CVE-1", "Negligible", "wont-fix"), match("GHSA-2", "High", "fixed")]}
    found = read_scan(VULN, raw(scan(result, uri="https://scan.example/anchore/grype")), NOW)
    assert found["scanner"] == "grype"
    assert found["found"] == [
        {"id": "GHSA-2", "severity": "high", "fixed": True},
        {"id": "CVE-1", "severity": "low", "fixed": False},
    ]


def test_sarif():
    rules = [
        {"id": "R1", "properties": {"security-severity": "9.8"}},
        {"id": "R2", "defaultConfiguration": {"level": "warning"}},
    ]
    results = [
        {"ruleId": "R1", "level": "note"},
        {"ruleId": "R2"},
        {"ruleId": "R3", "level": "error"},
        {"ruleId": "R4"},
    ]
    result = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x", "rules": rules}}, "results": results}]}
    assert counts(result) == {"critical": 1, "high": 1, "medium": 1, "unknown": 1}


def test_in_toto():
    result = [
        {"id": "CVE-1", "severity": [{"method": "nvd", "score": "5.0"}, {"method": "vendor", "score": 9.1}]},
        {"id": "CVE-2", "severity": [{"method": "CVSS_V3", "score": "AV:N/AC:L"}]},
        {"id": "CVE-3"},
        {"id": "CVE-4", "severity": [{"method": "vendor", "score": "important"}]},
    ]
    assert counts(result, VULNS) == {"critical": 1, "high": 1, "unknown": 2}


@pytest.mark.parametrize("score", [float("1e300"), 10**400, -1, "nan", "inf", True, None, [], "11"])
def test_a_score_that_is_none(score):
    assert counts([{"id": "CVE-1", "severity": [{"score": score}]}], VULNS) == {"unknown": 1}


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (None, "scan_format_unknown"),
        ([], "scan_format_unknown"),
        ({}, "scan_format_unknown"),
        ({"vulnerabilities": []}, "scan_format_unknown"),
        ({"Results": {}}, "scan_malformed"),
        ({"Results": [1]}, "scan_malformed"),
        ({"Results": [{"Vulnerabilities": {}}]}, "scan_malformed"),
        ({"Results": [{"Vulnerabilities": [{}]}]}, "scan_malformed"),
        (trivy(("x" * 200, "LOW", "")), "scan_malformed"),
        ({"matches": [{}]}, "scan_malformed"),
        ({"runs": [{}]}, "scan_malformed"),
        ({"runs": [{"results": [{}]}]}, "scan_malformed"),
        ({"runs": []}, "scan_malformed"),
        ({"Results": [], "matches": [{"vulnerability": {"id": "CVE-1", "severity": "Critical"}}]}, "scan_malformed"),
        ({"matches": [], "runs": [{"results": []}]}, "scan_malformed"),
    ],
)
def test_what_cannot_be_read_is_never_nothing_found(result, why):
    assert refused(read_scan, VULN, raw(scan(result)), NOW) == why


def test_a_long_report_is_counted_whole_and_listed_in_part():
    result = trivy(*((f"CVE-{number}", "LOW", "") for number in range(MOST_FOUND)), ("CVE-X", "HIGH", ""))
    found = read_scan(VULN, raw(scan(result)), NOW)
    assert (found["counts"]["low"], found["counts"]["high"], found["truncated"]) == (MOST_FOUND, 1, True)
    assert len(found["found"]) == MOST_FOUND
    assert found["found"][0]["id"] == "CVE-X"


@pytest.mark.parametrize(
    ("finished", "why"),
    [
        (None, "scan_malformed"),
        ("yesterday", "scan_malformed"),
        ("2027-01-15T08:05:00", "scan_malformed"),
        ("0001-01-01T00:00:00+23:00", "scan_malformed"),
        ("2027-01-15T08:16:00Z", "time_in_the_future"),
    ],
)
def test_when_a_scan_ended_must_be_known(finished, why):
    assert refused(read_scan, VULN, raw(scan(trivy(), finished=finished)), NOW) == why


def test_clocks_may_differ_a_little():
    assert read_scan(VULN, raw(scan(trivy(), finished="2027-01-15T08:14:00Z")), NOW)["finished_at"]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("trivy", "trivy"),
        ("Trivy", "trivy"),
        ("pkg:github/aquasecurity/trivy@v0.30.1-8-gf9cb8a28", "trivy"),
        ("pkg:golang/github.com/anchore/grype@v0.9.0?type=module#x", "grype"),
        ("https://github.com/aquasecurity/trivy/", "trivy"),
    ],
)
def test_names_of_scanners(uri, name):
    assert scanner_name(uri) == name


def test_a_scanner_without_a_name():
    for uri in ("/", "@", "#"):
        assert refused(scanner_name, uri) == "scan_malformed"


# Provenance


def signer(parameters=None) -> Signer:
    return Signer("s", (), frozenset(Claim), {FOREIGN_BUILDER: 3}, parameters=parameters)


def built(predicate, kind=SLSA, by=None):
    return read_provenance(kind, predicate, by or signer(), NOW)


def test_provenance_of_both_versions():
    assert built(provenance(FOREIGN_BUILDER)) == {
        "builder": FOREIGN_BUILDER,
        "build_type": "https://build.example/types/container/v1",
        "level": 3,
        "repository": "https://git.example/acme/app",
        "commit": COMMIT,
        "invocation": "run/7",
        "finished_at": FINISHED,
        "parameters": ["workflow"],
        "caches": None,  # not told, which is not none
        "egress_refused": None,
    }
    old = built(provenance_02(FOREIGN_BUILDER), SLSA_02)
    assert (old["builder"], old["commit"], old["invocation"]) == (FOREIGN_BUILDER, COMMIT, "run/8")
    assert (old["finished_at"], old["parameters"]) == (FINISHED, ["level"])


def test_a_password_in_a_sources_address_is_not_told():
    assert built(provenance_02(FOREIGN_BUILDER), SLSA_02)["repository"] == "https://git.example/acme/app"


def test_parameters_that_nobody_expects():
    expecting = signer(frozenset({"workflow"}))
    assert built(provenance(FOREIGN_BUILDER), by=expecting)["parameters"] == ["workflow"]
    more = provenance(FOREIGN_BUILDER, workflow={}, debug=True)
    assert refused(built, more, SLSA, expecting) == "external_parameter_unknown"
    assert refused(built, provenance_02(FOREIGN_BUILDER), SLSA_02, expecting) == "external_parameter_unknown"


@pytest.mark.parametrize("near", ["/", "x", "@refs/tags/v1", " "])
def test_a_builder_is_who_it_is_to_the_letter(near):
    assert refused(built, provenance(FOREIGN_BUILDER + near)) == "builder_unknown"


def test_one_that_ended_tomorrow():
    told = provenance(FOREIGN_BUILDER)
    told["runDetails"]["metadata"]["finishedOn"] = "2027-01-16T08:00:00Z"
    assert refused(built, told) == "time_in_the_future"


@pytest.mark.parametrize("part", ["buildDefinition", "runDetails"])
def test_provenance_that_lacks_a_part(part):
    told = provenance(FOREIGN_BUILDER)
    del told[part]
    assert refused(built, told) == "provenance_malformed"
