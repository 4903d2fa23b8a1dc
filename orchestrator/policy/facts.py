"""The types of what lookups answer, as `docs/reference/policy-input.md` has them. Pure.

A fact of another type than documented would make a rule answer something that nobody meant: in Rego every text is
greater than every number, and `null` is true. So the verdict is *error* instead, and names the field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec

from orchestrator.policy.lookups import Facts, Verified


class UnfitFactError(ValueError):
    """Says which fact is of another type than documented; never what it is."""


_Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
_Time = Annotated[str, msgspec.Meta(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d))?\Z")]
"""RFC 3339; empty where a document does not say."""
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Severity = Literal["critical", "high", "medium", "low", "unknown"]


class _Statement(TypedDict, total=False):
    signer: str
    attestation: _Digest
    reporter: dict[str, str] | None


class _Sbom(_Statement, total=False):
    format: Literal["cyclonedx", "spdx"]
    components: _Count
    created_at: _Time


class _Provenance(_Statement, total=False):
    builder: str
    build_type: str
    level: Literal[0, 1, 2, 3]
    repository: str
    commit: str
    finished_at: _Time
    caches: list[str] | None
    egress_refused: _Count | None


class _Finding(TypedDict, total=False):
    id: str
    severity: _Severity
    fixed: bool


class _Scan(_Statement, total=False):
    scanner: str
    finished_at: _Time
    counts: dict[_Severity, _Count]
    found: Annotated[list[_Finding], msgspec.Meta(max_length=200)]
    truncated: bool


class _Refused(TypedDict, total=False):
    attestation: str
    reason: str


class _Summary(TypedDict, total=False):
    attestation: _Digest
    environment: str
    verified_at: _Time
    policy: str
    decision: str
    job: str


class _Artifact(TypedDict, total=False):
    digest: _Digest
    signed: bool
    sbom: bool
    provenance: bool
    base: str
    built: dict[str, str]
    reason: str
    signatures: list[_Statement]
    sboms: list[_Sbom]
    provenances: list[_Provenance]
    scans: list[_Scan]
    summaries: list[_Summary]
    refused: list[_Refused]


class _Approval(TypedDict, total=False):
    id: _Digest
    kind: str
    environment: str
    artifact_digest: str
    repository_id: str
    commit: str
    approver: str
    approver_subjects: list[str]
    own: bool
    approved_at: _Time
    expires_at: _Time
    reason: str


class _Exception(TypedDict, total=False):
    id: _Digest
    kind: Literal["break_glass", "override"]
    environment: str
    repository_id: str
    job: str
    artifact_digest: str
    waives: list[str]
    requested_by: str
    approvers: list[str]
    own: bool
    reason: str
    ticket: str
    starts_at: _Time
    expires_at: _Time
    uses: _Count
    max_uses: _Count


class _Source(TypedDict, total=False):
    repository: str
    repository_id: str
    commit: str
    protected: bool
    merged: bool
    branch: str
    commit_verified: bool
    reviewed: bool
    author: str
    checked_at: _Time


class _Ticket(TypedDict, total=False):
    id: str
    exists: bool
    open: bool
    project: str
    type: str
    url: str
    checked_at: _Time


class _Secret(TypedDict, total=False):
    name: str
    owner: str
    age_seconds: _Count
    max_age_seconds: _Count
    overdue: bool
    allowed: bool


class _Everything(TypedDict):
    artifact: _Artifact | None
    approvals: list[_Approval]
    exceptions: list[_Exception]
    source: _Source | None
    ticket: _Ticket | None
    secrets: list[_Secret]


def check_facts(verified: Verified) -> None:
    """Hold every fact against its documented type. Keys that the page does not list are left alone.

    Raises:
        UnfitFactError: the first that differs.
    """
    told = {
        "artifact": verified.artifact,
        "approvals": list(verified.consent.approvals),
        "exceptions": list(verified.consent.exceptions),
        "source": verified.source,
        "ticket": verified.ticket,
        "secrets": list(verified.secrets),
    }
    try:
        msgspec.convert(told, _Everything, strict=True)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        told_of = what if what.startswith("Expected ") else "Expected another value"
        raise UnfitFactError(f"{told_of} - at {where.replace('$.', 'input.')}") from None


def lean_artifact(artifact: Facts) -> dict[str, Any]:
    """The facts with the findings of older scans left out: of a scanner only the newest counts, and all of many would
    take more than a document may."""
    scans: list[Facts] = list(artifact.get("scans", ()))
    newest: dict[str, str] = {}
    for scan in scans:
        name = scan.get("scanner", "")
        newest[name] = max(newest.get(name, ""), scan.get("finished_at", ""))
    kept = [
        scan if scan.get("finished_at") == newest[scan.get("scanner", "")] else {**scan, "found": []} for scan in scans
    ]
    return {**artifact, "scans": kept}
