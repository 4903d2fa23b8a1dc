"""Reports of vulnerability scanners: who looked, when, and what was found. What cannot be read is refused, and never
counted as nothing found.

Sources: cosign's vulnerability predicate v1, in-toto vulns v0.1 and v0.2; inside cosign's: the JSON of Trivy and Grype,
SARIF 2.1.0 with `security-severity`; CVSS v3.1 section 5 for what a score is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from orchestrator.evidence.attestations.documents import (
    MAX_TEXT,
    Entry,
    optional_list,
    optional_table,
    refused,
    table,
    text,
    time_of,
)

COSIGN_TYPE: Final = "https://cosign.sigstore.dev/attestation/vuln/v1"
IN_TOTO_TYPES: Final = (
    "https://in-toto.io/attestation/vulns/v0.2",
    "https://in-toto.io/attestation/vulns/v0.1",
    "https://in-toto.io/attestation/vulns",
)
TYPES: Final = frozenset((COSIGN_TYPE, "cosign.sigstore.dev/attestation/vuln/v1", *IN_TOTO_TYPES))

SEVERITIES: Final = ("critical", "high", "medium", "low", "unknown")
"""Worst first; what a scanner does not know comes last in the list, and is a count of its own."""
MOST_FOUND: Final = 200
"""Findings that are listed; the counts are always of all."""

_MALFORMED: Final = "scan_malformed"
_WORDS: Final = {
    "critical": "critical",
    "high": "high",
    "important": "high",
    "medium": "medium",
    "moderate": "medium",
    "low": "low",
    "minor": "low",
    "negligible": "low",
    "none": "low",
}
_SARIF_LEVELS: Final = {"error": "high", "warning": "medium", "note": "low", "none": "low"}
_MAX_NAME: Final = 128
_NAME: Final = re.compile(r"([^/@?#]+)(?:@[^/]*)?(?:[?#].*)?$")

Found = tuple[str, str, bool]
"""Id, severity, whether there is a version without it."""


def read_scan(predicate_type: str, predicate: Mapping[str, Any], now_ns: int) -> Entry:
    """{scanner, version, finished_at, counts, found, truncated} of a report.

    Raises:
        AttestationRefusedError: reason `scan_malformed`, `scan_format_unknown`, `time_in_the_future`.
    """
    scanner = table(predicate.get("scanner"), _MALFORMED)
    finished = table(predicate.get("metadata"), _MALFORMED).get("scanFinishedOn")
    result = scanner.get("result")
    found = sorted(
        _in_toto(result) if predicate_type in IN_TOTO_TYPES else _cosign(result),
        key=lambda one: (SEVERITIES.index(one[1]), one[0]),
    )
    counts = dict.fromkeys(SEVERITIES, 0)
    for _, severity, _ in found:
        counts[severity] += 1
    listed = [{"id": name, "severity": severity, "fixed": fixed} for name, severity, fixed in found[:MOST_FOUND]]
    version = scanner.get("version")
    return {
        "scanner": scanner_name(text(scanner.get("uri"), _MALFORMED)),
        "version": version if isinstance(version, str) and len(version) <= MAX_TEXT else "",
        "finished_at": time_of(finished, _MALFORMED, now_ns),
        "counts": counts,
        "found": listed,
        "truncated": len(found) > MOST_FOUND,
    }


def scanner_name(uri: str) -> str:
    """The short name of a scanner in lower case: `trivy` of `pkg:github/aquasecurity/trivy@v0.69`, of
    `https://github.com/aquasecurity/trivy` and of `Trivy`."""
    matched = _NAME.search(uri.rstrip("/"))
    if matched is None:
        raise refused("the scanner has no name", _MALFORMED)
    return matched[1].lower()


def _cosign(result: object) -> Iterator[Found]:
    match result:
        case {"Results": list(targets)}:
            return _trivy(targets)
        case {"SchemaVersion": int(), "ArtifactName": str(), **rest} if rest.get("Results") is None:
            return iter(())  # Trivy leaves the list out when there is nothing in it
        case {"matches": list(matches)}:
            return _grype(matches)
        case {"runs": list(runs)}:
            return _sarif(runs)
        case _:
            raise refused("neither Trivy's nor Grype's report, nor SARIF", "scan_format_unknown")


def _trivy(targets: list[Any]) -> Iterator[Found]:
    for target in targets:
        vulnerabilities = table(target, _MALFORMED).get("Vulnerabilities")
        if vulnerabilities is not None and not isinstance(vulnerabilities, list):
            raise refused("vulnerabilities are no list", _MALFORMED)
        for one in vulnerabilities or ():
            told = table(one, _MALFORMED)
            yield (
                _name(told.get("VulnerabilityID")),
                _word(told.get("Severity")),
                bool(told.get("FixedVersion")),
            )


def _grype(matches: list[Any]) -> Iterator[Found]:
    for match in matches:
        told = table(table(match, _MALFORMED).get("vulnerability"), _MALFORMED)
        fixed = optional_table(told.get("fix")).get("state") == "fixed"
        yield _name(told.get("id")), _word(told.get("severity")), fixed


def _sarif(runs: list[Any]) -> Iterator[Found]:
    for run in runs:
        told = table(run, _MALFORMED)
        results = told.get("results")
        if not isinstance(results, list):
            raise refused("a run without results did not finish", _MALFORMED)
        driver = optional_table(optional_table(told.get("tool")).get("driver"))
        rules = {rule.get("id"): rule for rule in optional_list(driver.get("rules")) if isinstance(rule, dict)}
        for result in results:
            finding = table(result, _MALFORMED)
            name = _name(finding.get("ruleId"))
            yield name, _sarif_severity(finding, optional_table(rules.get(name))), False


def _sarif_severity(finding: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    for holder in (finding, rule):
        score = optional_table(holder.get("properties")).get("security-severity")
        if score is not None:
            return _scored(score)
    level = finding.get("level") or optional_table(rule.get("defaultConfiguration")).get("level")
    return _SARIF_LEVELS.get(str(level), "unknown")


def _in_toto(result: object) -> Iterator[Found]:
    if not isinstance(result, list):
        raise refused("the result is no list", _MALFORMED)
    for one in result:
        told = table(one, _MALFORMED)
        severities = optional_list(told.get("severity"))
        ranked = [_scored(entry.get("score")) for entry in severities if isinstance(entry, dict)]
        worst = min(ranked, key=SEVERITIES.index, default="unknown")
        yield _name(told.get("id")), worst, False


def _name(value: object) -> str:
    found = text(value, _MALFORMED)
    if len(found) > _MAX_NAME:
        raise refused("the id of a vulnerability is too long", _MALFORMED)
    return found


def _word(value: object) -> str:
    return _WORDS.get(value.lower(), "unknown") if isinstance(value, str) else "unknown"


def _scored(value: object) -> str:
    """A severity for a CVSS base score, or for a word in its place."""
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        score = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        return "unknown"
    for least, severity in ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.0, "low")):
        if least <= score <= 10:
            return severity
    return "unknown"
