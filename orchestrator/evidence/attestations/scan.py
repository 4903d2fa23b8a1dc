"""Reports of vulnerability scanners: who looked, when, and what was found. What cannot be read is refused, and never
counted as nothing found. Only the parts that are needed are decoded.

Sources: cosign's vulnerability predicate v1, in-toto vulns v0.1 and v0.2; inside cosign's: the JSON of Trivy and Grype,
SARIF 2.1.0 with `security-severity`; CVSS v3.1 section 5 for what a score is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from orchestrator.evidence.attestations.documents import (
    NOT_THERE,
    Entry,
    decoded,
    is_there,
    optional_text,
    refused,
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


class _Scanner(msgspec.Struct):
    uri: str
    result: msgspec.Raw
    version: Any = None


class _Metadata(msgspec.Struct):
    finished: Any = msgspec.field(default=None, name="scanFinishedOn")


class _Scan(msgspec.Struct):
    scanner: _Scanner
    metadata: _Metadata


class _Result(msgspec.Struct):
    """A report's first level, by which its tool is told."""

    results: msgspec.Raw = msgspec.field(default=NOT_THERE, name="Results")
    schema: int | None = msgspec.field(default=None, name="SchemaVersion")
    artifact: str | None = msgspec.field(default=None, name="ArtifactName")
    matches: msgspec.Raw = NOT_THERE
    runs: msgspec.Raw = NOT_THERE


class _TrivyFinding(msgspec.Struct, gc=False):
    name: str = msgspec.field(name="VulnerabilityID")
    severity: str = msgspec.field(default="", name="Severity")
    fixed: str = msgspec.field(default="", name="FixedVersion")


class _Target(msgspec.Struct):
    vulnerabilities: list[_TrivyFinding] | None = msgspec.field(default=None, name="Vulnerabilities")


class _Fix(msgspec.Struct, gc=False):
    state: str = ""


class _GrypeFinding(msgspec.Struct, gc=False):
    id: str
    severity: str = ""
    fix: _Fix | None = None


class _Match(msgspec.Struct, gc=False):
    vulnerability: _GrypeFinding


class _Scored(msgspec.Struct):
    score: Any = msgspec.field(default=None, name="security-severity")


class _Configuration(msgspec.Struct):
    level: str | None = None


class _Rule(msgspec.Struct):
    id: str = ""
    properties: _Scored | None = None
    configuration: _Configuration | None = msgspec.field(default=None, name="defaultConfiguration")


class _Driver(msgspec.Struct):
    rules: list[_Rule] = []


class _Tool(msgspec.Struct):
    driver: _Driver | None = None


class _SarifFinding(msgspec.Struct):
    rule: str = msgspec.field(name="ruleId")
    level: str | None = None
    properties: _Scored | None = None


class _Run(msgspec.Struct):
    """One without results did not finish."""

    results: list[_SarifFinding]
    tool: _Tool | None = None


class _Severity(msgspec.Struct):
    score: Any = None


class _InTotoFinding(msgspec.Struct):
    id: str
    severity: list[_Severity] = []


_scan = msgspec.json.Decoder(_Scan)
_result = msgspec.json.Decoder(_Result)
_trivy = msgspec.json.Decoder(list[_Target])
_grype = msgspec.json.Decoder(list[_Match])
_sarif = msgspec.json.Decoder(list[_Run])
_in_toto = msgspec.json.Decoder(list[_InTotoFinding])


def read_scan(predicate_type: str, predicate: msgspec.Raw, now_ns: int) -> Entry:
    """{scanner, version, finished_at, counts, found, truncated} of a report.

    Raises:
        AttestationRefusedError: reason `scan_malformed`, `scan_format_unknown`, `time_in_the_future`.
    """
    told = decoded(_scan, predicate, _MALFORMED)
    read = _of_in_toto if predicate_type in IN_TOTO_TYPES else _of_a_tool
    found = sorted(read(told.scanner.result), key=lambda one: (SEVERITIES.index(one[1]), one[0]))
    if any(not 0 < len(name) <= _MAX_NAME for name, _, _ in found):
        raise refused("the id of a vulnerability is empty or too long", _MALFORMED)
    counts = dict.fromkeys(SEVERITIES, 0)
    for _, severity, _ in found:
        counts[severity] += 1
    listed = [{"id": name, "severity": severity, "fixed": fixed} for name, severity, fixed in found[:MOST_FOUND]]
    return {
        "scanner": scanner_name(text(told.scanner.uri, _MALFORMED)),
        "version": optional_text(told.scanner.version),
        "finished_at": time_of(told.metadata.finished, _MALFORMED, now_ns),
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


def _of_a_tool(raw: msgspec.Raw) -> Iterator[Found]:
    told = decoded(_result, raw, "scan_format_unknown")
    if sum(map(is_there, (told.results, told.matches, told.runs))) > 1:
        raise refused("a report of two formats at once says two things", _MALFORMED)
    if is_there(told.results):
        return _of_trivy(told.results)
    if is_there(told.matches):
        return _of_grype(told.matches)
    if is_there(told.runs):
        return _of_sarif(told.runs)
    if told.schema is not None and told.artifact is not None:
        return iter(())  # Trivy leaves the list out when there is nothing in it
    raise refused("neither Trivy's nor Grype's report, nor SARIF", "scan_format_unknown")


def _of_trivy(raw: msgspec.Raw) -> Iterator[Found]:
    for target in decoded(_trivy, raw, _MALFORMED):
        for one in target.vulnerabilities or ():
            yield one.name, _word(one.severity), bool(one.fixed)


def _of_grype(raw: msgspec.Raw) -> Iterator[Found]:
    for match in decoded(_grype, raw, _MALFORMED):
        one = match.vulnerability
        yield one.id, _word(one.severity), one.fix is not None and one.fix.state == "fixed"


def _of_sarif(raw: msgspec.Raw) -> Iterator[Found]:
    runs = decoded(_sarif, raw, _MALFORMED)
    if not runs:
        raise refused("nothing was run", _MALFORMED)
    for run in runs:
        driver = run.tool.driver if run.tool is not None else None
        rules = {rule.id: rule for rule in driver.rules} if driver is not None else {}
        for one in run.results:
            yield one.rule, _sarif_severity(one, rules.get(one.rule, _Rule())), False


def _sarif_severity(finding: _SarifFinding, rule: _Rule) -> str:
    for properties in (finding.properties, rule.properties):
        if properties is not None and properties.score is not None:
            return _scored(properties.score)
    level = finding.level or (rule.configuration.level if rule.configuration is not None else None)
    return _SARIF_LEVELS.get(level or "", "unknown")


def _of_in_toto(raw: msgspec.Raw) -> Iterator[Found]:
    for one in decoded(_in_toto, raw, _MALFORMED):
        ranked = [_scored(entry.score) for entry in one.severity]
        yield one.id, min(ranked, key=SEVERITIES.index, default="unknown"), False


def _word(value: str) -> str:
    return _WORDS.get(value.lower(), "unknown")


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
