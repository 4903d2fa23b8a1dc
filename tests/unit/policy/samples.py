"""All that lookups can answer, every list with an entry: the shapes of `docs/reference/policy-input.md`."""

from __future__ import annotations

from typing import Any

from orchestrator.policy.lookups import Consent, Verified

DIGEST = "sha256:" + "a" * 64
_ENVELOPE = "sha256:" + "b" * 64
_REPORTER = {
    "job": "dispatch.build.1",
    "builder": "https://ci.example/builders/sandbox/bubblewrap/protected/v1",
    "caller": "0123456789abcdef",
    "pool": "scan",
    "trust_tier": "protected",
}
_BY = {"signer": "control-plane", "attestation": _ENVELOPE}

ARTIFACT: dict[str, Any] = {
    "digest": DIGEST,
    "signed": True,
    "sbom": True,
    "provenance": True,
    "base": "distroless",
    "built": {"trust_tier": "protected", "repository": "acme/shop", "repository_id": "42"},
    "reason": "",
    "signatures": [_BY],
    "sboms": [
        _BY
        | {
            "format": "cyclonedx",
            "components": 40,
            "created_at": "2026-11-22T09:00:00Z",
            "reporter": _REPORTER,
        }
    ],
    "provenances": [
        _BY
        | {
            "builder": "https://ci.example/builders/sandbox/bubblewrap/protected/v1",
            "build_type": "https://ci.example/build/v1",
            "level": 3,
            "repository": "acme/shop",
            "commit": "c" * 40,
            "finished_at": "2026-11-22T09:00:00Z",
            "caches": ["pip"],
            "egress_refused": 0,
        }
    ],
    "scans": [
        _BY
        | {
            "scanner": "trivy",
            "finished_at": "2026-11-22T09:30:00Z",
            "counts": {"critical": 0, "high": 1, "medium": 0, "low": 0, "unknown": 0},
            "found": [{"id": "CVE-2026-1", "severity": "high", "fixed": False}],
            "truncated": False,
            "reporter": None,
        }
    ],
    "summaries": [
        {
            "attestation": _ENVELOPE,
            "environment": "prod",
            "verified_at": "2026-11-01T10:00:00Z",
            "policy": "sha256:" + "a" * 64,
            "decision": "0192f0c1-2345-7abc-8def-0123456789ab",
            "job": "dispatch.3f2a.1",
        }
    ],
    "refused": [{"attestation": _ENVELOPE, "reason": "signer_unknown"}],
}

APPROVAL: dict[str, Any] = {
    "id": "sha256:" + "d" * 64,
    "kind": "security",
    "environment": "prod",
    "artifact_digest": DIGEST,
    "repository_id": "42",
    "commit": "",
    "approver": "sam",
    "approver_subjects": ["sam@acme.example"],
    "own": False,
    "approved_at": "2026-11-22T09:00:00Z",
    "expires_at": "2026-11-22T11:00:00Z",
    "reason": "looked at it",
}

EXCEPTION: dict[str, Any] = {
    "id": "sha256:" + "e" * 64,
    "kind": "break_glass",
    "environment": "prod",
    "repository_id": "42",
    "job": "",
    "artifact_digest": "",
    "waives": ["scan_stale"],
    "requested_by": "kim",
    "approvers": ["sam", "alex"],
    "own": False,
    "reason": "scanner is down, customers are too",
    "ticket": "OPS-1",
    "starts_at": "2026-11-22T09:00:00Z",
    "expires_at": "2026-11-22T11:00:00Z",
    "uses": 0,
    "max_uses": 1,
}

SOURCE: dict[str, Any] = {
    "repository": "acme/shop",
    "repository_id": "42",
    "commit": "c" * 40,
    "protected": True,
    "merged": True,
    "branch": "main",
    "commit_verified": True,
    "reviewed": True,
    "author": "kim",
    "author_id": "1001",
    "pull_request": 7,
    "reason": "",
    "checked_at": "2026-11-22T10:00:00Z",
    "from": "github",
}

TICKET: dict[str, Any] = {
    "id": "REL-7",
    "exists": True,
    "open": True,
    "status": "new",
    "project": "REL",
    "type": "release",
    "url": "https://tickets.example/REL-7",
    "checked_at": "2026-11-22T10:00:00Z",
}

SECRET: dict[str, Any] = {
    "name": "legacy-registry",
    "owner": "team-shop",
    "age_seconds": 60,
    "max_age_seconds": 86400,
    "overdue": False,
    "allowed": True,
    "reason": "",
}

WORKLOAD: dict[str, Any] = {
    "cluster": "prod-1",
    "namespace": "shop",
    "kind": "Deployment",
    "name": "shop",
    "operation": "create",
    "owner": "",
    "requested_by": "ada",
    "service_account": "shop",
    "image": "registry.example/shop@" + DIGEST,
    "images": ["registry.example/shop@" + DIGEST],
    "privileged": False,
    "privileges": [],
}

EVERYTHING = Verified(ARTIFACT, Consent([APPROVAL], [EXCEPTION]), SOURCE, TICKET, [SECRET])
