"""What is proven about an artifact, as facts for policy: `input.artifact`. Pure.

*Signed*, *has an SBOM* and *has provenance* are three facts, each by statements of its own kind and all about the one
digest asked for: a tool that says *verified* of an artifact with nothing but an SBOM shows why. Whatever cannot be
proven is false, and the reason is kept for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from orchestrator.evidence.attestations.documents import CLOCK_SKEW
from orchestrator.evidence.attestations.examine import Examined, Finding, claim_of, examine
from orchestrator.evidence.attestations.signers import CONTROL_PLANE, Claim, Signers
from orchestrator.evidence.attestations.summaries import latest_by_environment
from orchestrator.evidence.attestations.whose import Tries

MOST_ATTESTATIONS: Final = 512
"""Attestations of one artifact that are examined; what comes after them counts for nothing."""
_MOST_LISTED: Final = 64
_MOST_FOUND: Final = 600
"""Findings of all scans together."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LISTS: Final = {
    Claim.SIGNATURE: "signatures",
    Claim.SBOM: "sboms",
    Claim.PROVENANCE: "provenances",
    Claim.SCAN: "scans",
}


@dataclass(frozen=True, slots=True)
class ArtifactFacts:
    """`attestations` are all that were examined, in the order given; `listed` holds what counts, `refused` what does
    not, by its id. `built` is not empty when a job of this orchestrator built it; else `reason` says why not."""

    digest: str
    built: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    listed: Mapping[Claim, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    refused: Sequence[tuple[str, str]] = ()
    attestations: Sequence[Examined] = ()

    def facts(self) -> dict[str, Any]:
        """The form that policy's input takes."""
        lists = {name: list(self.listed.get(claim, ()))[:_MOST_LISTED] for claim, name in _LISTS.items()}
        return {
            "digest": self.digest,
            "signed": bool(lists["signatures"]),
            "sbom": bool(lists["sboms"]),
            "provenance": bool(lists["provenances"]),
            "base": self.built.get("base", ""),
            "built": dict(self.built),
            "reason": self.reason,
            **lists,
            "summaries": latest_by_environment(one.summary for one in self.attestations if one.summary is not None),
            "refused": [
                {"attestation": attestation, "reason": reason} for attestation, reason in self.refused[:_MOST_LISTED]
            ],
        }


def facts(digest: str, attestations: Iterable[str], signers: Signers, now_ns: int) -> dict[str, Any]:
    """What `attestations` (envelopes and bundles as JSON text, in any order) prove at `now_ns` about `digest`
    (`sha256:<hex>`), in the form that policy's input takes. Never raises: what does not hold is false."""
    return judge(digest, attestations, signers, now_ns).facts()


def judge(digest: str, attestations: Iterable[str], signers: Signers, now_ns: int) -> ArtifactFacts:
    """As `facts`, with what was found of each attestation."""
    if not _DIGEST.fullmatch(digest):
        return ArtifactFacts(digest, reason="digest_malformed")
    tries = Tries()
    examined: dict[str, Examined] = {}
    for number, source in enumerate(attestations):
        if number >= MOST_ATTESTATIONS:
            break
        found = examine(digest, source, signers, now_ns, tries)
        examined.setdefault(found.id or f"#{number}", found)
    return _sum_up(digest, list(examined.values()), signers)


def _sum_up(digest: str, examined: Sequence[Examined], signers: Signers) -> ArtifactFacts:
    record = _record_of(examined)
    listed: dict[Claim, list[Mapping[str, Any]]] = {claim: [] for claim in Claim}
    refused = [(one.id, one.reason) for one in examined if one.reason]
    for one in examined:
        for finding in one.findings:
            why = _not_counted(finding, record, signers)
            if why:
                refused.append((one.id, why))
            else:
                listed[finding.claim].append(finding.entry)
    listed[Claim.SCAN] = _newest(listed[Claim.SCAN])
    if record is not None and record.lists_sbom:
        listed[Claim.SBOM].append(_listed_sbom(record))
    return ArtifactFacts(
        digest=digest,
        built=record.built if record is not None else {},
        reason="" if record is not None else _why_not_ours(examined),
        listed=listed,
        refused=refused,
        attestations=examined,
    )


def _record_of(examined: Sequence[Examined]) -> Finding | None:
    """Our provenance of record: of the job that ended first. One that later claims the same digest changes nothing, so
    nobody can lend an artifact a better origin by reporting it again from a better pool; nor when the pool of the first
    is gone, or was changed, and what it built counts no more; nor when a signer's builder had made it before the job of
    ours began: a job that reports what it has fetched has not built it."""
    first = min((one.built_on for one in examined if one.built_on), default="")
    ours = (finding for one in examined for finding in one.findings if finding.built)
    record = next((finding for finding in ours if finding.built["finished_on"] == first), None)
    return None if record is None or _made_before(record, examined) else record


def _made_before(record: Finding, examined: Sequence[Examined]) -> bool:
    if not record.started_at:
        return False
    latest = (datetime.fromisoformat(record.started_at) - CLOCK_SKEW).strftime("%Y-%m-%dT%H:%M:%SZ")
    return any(
        "" < finding.entry["finished_at"] < latest
        for one in examined
        for finding in one.findings
        if finding.claim is Claim.PROVENANCE and not finding.signer.is_control_plane
    )


def _not_counted(finding: Finding, record: Finding | None, signers: Signers) -> str:
    """Why a finding does not count beside the others; empty when it does."""
    if not finding.signer.is_control_plane or finding.claim is Claim.SCAN:
        return ""
    if finding.claim is Claim.PROVENANCE:
        return "" if finding is record else "provenance_not_first"
    reporter = finding.reporter
    if reporter is None:
        return "reporter_missing"
    if record is not None and reporter["job"] == record.built["job"]:
        return ""
    if finding.claim is Claim.SBOM and signers.sboms.include(reporter["pool"], reporter["caller"]):
        return ""
    # Any job may report any digest: only the word of the one that built it is more than hearsay.
    return "reporter_not_builder"


def _newest(scans: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last word of each signer about each scanner, newest first: an artifact that is scanned each night must not
    outgrow policy's input. What does not fit of the findings is left out; the counts never are."""
    latest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for scan in sorted(scans, key=lambda one: str(one["finished_at"])):
        latest[scan["signer"], scan["scanner"]] = scan
    left = _MOST_FOUND
    kept: list[Mapping[str, Any]] = []
    for scan in sorted(latest.values(), key=lambda one: str(one["finished_at"]), reverse=True):
        found = scan["found"][:left]
        left -= len(found)
        kept.append({**scan, "found": found, "truncated": scan["truncated"] or len(found) < len(scan["found"])})
    return kept


def _listed_sbom(record: Finding) -> Mapping[str, Any]:
    """The job reported its bill of materials as an artifact beside this one: we know its digest, and no more of it."""
    return {
        "signer": record.signer.name,
        "attestation": record.entry["attestation"],
        "format": "cyclonedx",
        "components": 0,
        "created_at": "",
        "reporter": {
            "job": record.built["job"],
            "builder": record.built["builder"],
            "caller": record.built["caller"],
            "pool": "",
            "trust_tier": record.built["trust_tier"],
        },
    }


def _why_not_ours(examined: Sequence[Examined]) -> str:
    """Why the first that was to be our provenance is none; `provenance_missing` when there was none to be."""
    tried = (
        one
        for one in examined
        if one.reason and CONTROL_PLANE in one.signers and claim_of(one.predicate_type) in (Claim.PROVENANCE, None)
    )
    found = next(tried, None) or next((one for one in examined if one.reason and not one.signers), None)
    return found.reason if found is not None else "provenance_missing"
