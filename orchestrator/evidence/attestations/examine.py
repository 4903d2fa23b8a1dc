"""One attestation at a time: who signed it, is it about this artifact, may they say that, and what does it say.

In this order: nothing of a document is looked into before a signature by a known key holds over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from orchestrator.evidence.attestations import builds, sbom, scan
from orchestrator.evidence.attestations.documents import (
    Entry,
    optional_table,
    optional_text,
    optional_time,
    refused,
    time_of,
)
from orchestrator.evidence.attestations.making import REPORTER, SIGNATURE_TYPE
from orchestrator.evidence.attestations.reading import (
    Attestation,
    AttestationRefusedError,
    Statement,
    read_attestation,
    read_statement,
)
from orchestrator.evidence.attestations.signers import Claim, Signer, Signers
from orchestrator.evidence.attestations.summaries import read_summary
from orchestrator.evidence.attestations.whose import Tries, signers_of
from orchestrator.evidence.provenance import PREDICATE_TYPE
from orchestrator.evidence.summary import SUMMARY_TYPE

MESSAGE_SIGNATURE: Final = "messageSignature"
"""In place of a predicate type: a signature over the artifact's own bytes, as `cosign sign-blob` makes it."""
_REPORTER_KEYS: Final = ("job", "builder", "caller", "pool", "trust_tier")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one attestation says by one signer's word.

    `reporter` is the job whose word it really is, None for the signer's own. `built` and `started_at` (RFC 3339, when
    the job began) are not empty for our own provenance only; `lists_sbom` says that the job it is about reported a
    bill of materials as an artifact.
    """

    claim: Claim
    signer: Signer
    entry: Entry
    reporter: Mapping[str, str] | None = None
    built: Mapping[str, str] = field(default_factory=dict)
    started_at: str = ""
    lists_sbom: bool = False


@dataclass(frozen=True, slots=True)
class Examined:
    """One attestation. `id` is empty when it could not be read. `signers` have signed it, entitled to or not; `reason`
    says why it counts for nothing, and is empty also for statements of types that are not about these claims. `summary`
    is what a verification summary of the daemon's own says (see `summaries`). `covers`: somebody known has signed a
    statement that is about the artifact, whatever it is. `built_on` (RFC 3339) is when a job of ours ended that built
    it by our own provenance, also where its builder is none of ours any more."""

    id: str
    predicate_type: str = ""
    signers: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    summary: Mapping[str, Any] | None = None
    covers: bool = False
    built_on: str = ""


def claim_of(predicate_type: str) -> Claim | None:
    """What a statement of this type is; None for all that are none of these, e.g. verification summaries."""
    if predicate_type in (SIGNATURE_TYPE, MESSAGE_SIGNATURE):
        return Claim.SIGNATURE
    if predicate_type in builds.TYPES:
        return Claim.PROVENANCE
    if predicate_type in scan.TYPES:
        return Claim.SCAN
    return Claim.SBOM if sbom.TYPES.fullmatch(predicate_type) else None


def examine(digest: str, source: str, signers: Signers, now_ns: int, tries: Tries) -> Examined:
    """Examine an envelope or bundle (JSON text) that is to be about the artifact `digest` (`sha256:<hex>`). Never
    raises. Times are Unix nanoseconds."""
    try:
        attestation = read_attestation(source)
    except AttestationRefusedError as error:
        return Examined("", reason=error.reason)
    kind = ""
    signed_by: tuple[str, ...] = ()
    try:
        found = signers_of(attestation, signers, tries)
        signed_by = tuple(signer.name for signer in found)
        statement = _over_the_artifact(attestation) if attestation.artifact else read_statement(attestation)
        kind = statement.predicate_type
        if statement.about(digest) is None:
            raise refused("it is about something else", "digest_not_covered")
    except AttestationRefusedError as error:
        return Examined(attestation.id, kind, signed_by, reason=error.reason)
    findings: list[Finding] = []
    reason = ""
    for signer in found if claim_of(kind) is not None else ():
        try:
            findings.append(_finding(digest, attestation.id, statement, signer, signers, now_ns))
        except AttestationRefusedError as error:
            reason = reason or error.reason
    summary = None
    try:
        summary = _summary(digest, attestation.id, statement, found)
    except AttestationRefusedError as error:
        reason = reason or error.reason
    return Examined(
        attestation.id,
        kind,
        signed_by,
        tuple(findings),
        "" if findings else reason,
        summary,
        True,
        _built_on(statement, found),
    )


def _built_on(statement: Statement, found: tuple[Signer, ...]) -> str:
    if statement.predicate_type != PREDICATE_TYPE or not any(signer.is_control_plane for signer in found):
        return ""
    try:
        return optional_text(_metadata(statement).get("finishedOn"))
    except AttestationRefusedError:
        return ""


def _metadata(statement: Statement) -> Mapping[str, Any]:
    return optional_table(optional_table(statement.predicate.get("runDetails")).get("metadata"))


def _summary(
    digest: str, attestation: str, statement: Statement, found: tuple[Signer, ...]
) -> Mapping[str, Any] | None:
    """What our own verification summary says; not one of which we only swear that a job said it."""
    if statement.predicate_type != SUMMARY_TYPE or not any(signer.is_control_plane for signer in found):
        return None
    return read_summary(attestation, statement.predicate) if _reporter(statement, digest) is None else None


def _over_the_artifact(attestation: Attestation) -> Statement:
    return Statement(MESSAGE_SIGNATURE, [{"digest": {"sha256": attestation.artifact.hex()}}], msgspec.Raw(b"{}"))


def _finding(
    digest: str, attestation: str, statement: Statement, signer: Signer, signers: Signers, now_ns: int
) -> Finding:
    claim = claim_of(statement.predicate_type)
    assert claim is not None
    why = signer.refusal(claim, now_ns)
    if why:
        raise refused(f"the word of {signer.name} does not count", why)
    reporter = _reporter(statement, digest) if signer.is_control_plane else None
    entry: Entry = {"signer": signer.name, "attestation": attestation}
    match claim:
        case Claim.SIGNATURE:
            return Finding(claim, signer, entry | {"reporter": reporter}, reporter)
        case Claim.SBOM:
            entry |= sbom.read_sbom(statement.predicate_type, statement.raw, digest, now_ns)
            return Finding(claim, signer, entry | {"reporter": reporter}, reporter)
        case Claim.SCAN:
            entry |= scan.read_scan(statement.predicate_type, statement.raw, _said_at(reporter, now_ns))
            _check_scanner(entry["scanner"], signer, reporter, signers)
            return Finding(claim, signer, entry | {"reporter": reporter}, reporter)
        case Claim.PROVENANCE:
            entry |= builds.read_provenance(statement.predicate_type, statement.predicate, signer, now_ns)
            return _build_finding(digest, statement, signer, entry, now_ns)


def _build_finding(digest: str, statement: Statement, signer: Signer, entry: Entry, now_ns: int) -> Finding:
    if not signer.is_control_plane:
        return Finding(Claim.PROVENANCE, signer, entry)
    if statement.predicate_type != PREDICATE_TYPE:
        raise refused("our provenance is SLSA v1", "provenance_malformed")
    built = builds.read_our_own(statement, digest)
    told = {name: built[name] for name in ("job", "caller", "trust_tier", "isolation")}
    listed = builds.lists_an_sbom(statement, digest)
    started_at = optional_time(_metadata(statement).get("startedOn"), now_ns)
    return Finding(Claim.PROVENANCE, signer, entry | told, built=built, started_at=started_at, lists_sbom=listed)


def _reporter(statement: Statement, digest: str) -> Mapping[str, str] | None:
    annotations = optional_table(optional_table(statement.about(digest)).get("annotations"))
    told = annotations.get(REPORTER)
    if told is None:
        return None
    if not isinstance(told, dict) or not all(isinstance(told.get(key), str) for key in _REPORTER_KEYS):
        raise refused("the reporter is not named as we name them", "statement_malformed")
    return {key: optional_text(value) for key, value in told.items()}


def _said_at(reporter: Mapping[str, str] | None, now_ns: int) -> int:
    """When a document was handed in, as far as we know: it cannot tell of anything later."""
    reported_at = (reporter or {}).get("reported_at")
    if reported_at is None:
        return now_ns
    moment = datetime.fromisoformat(time_of(reported_at, "statement_malformed", now_ns))
    return min(now_ns, int(moment.timestamp()) * 1_000_000_000)


def _check_scanner(name: str, signer: Signer, reporter: Mapping[str, str] | None, signers: Signers) -> None:
    if not signer.is_control_plane:
        if name not in signer.scanners:
            raise refused(f"{signer.name} may not sign reports of this scanner", "scanner_not_entitled")
        return
    entitled = signers.scanners.get(name)
    if entitled is None or reporter is None or not entitled.include(reporter["pool"], reporter["caller"]):
        raise refused("the job that reported it may not report for this scanner", "reporter_not_entitled")
