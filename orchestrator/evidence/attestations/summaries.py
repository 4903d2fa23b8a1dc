"""Verification summaries that the daemon itself signed: what an artifact was let through for, and when. Pure.

Source: SLSA v1 Verification Summary Attestation, with the fields of our own that `evidence.summary` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from orchestrator.evidence.attestations.documents import optional_list, optional_table, optional_text

PASSED: Final = "PASSED"
_MOST: Final = 64


def read_summary(identifier: str, predicate: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the predicate of a summary says; `identifier` (`sha256:<hex>`) names its envelope. What is not there, or of
    another type, is empty."""
    policy = optional_text(optional_table(optional_table(predicate.get("policy")).get("digest")).get("sha256"))
    waivers = [optional_text(optional_table(one).get("exception")) for one in _list(predicate, "orchestrator_waivers")]
    return {
        "attestation": identifier,
        "result": optional_text(predicate.get("verificationResult")),
        "environment": optional_text(predicate.get("orchestrator_environment")),
        "verified_at": optional_text(predicate.get("timeVerified")),
        "verifier": optional_text(optional_table(predicate.get("verifier")).get("id")),
        "policy": f"sha256:{policy}" if policy else "",
        "decision": optional_text(optional_table(predicate.get("orchestrator_decision")).get("id")),
        "job": optional_text(predicate.get("orchestrator_job")),
        "levels": [optional_text(one) for one in _list(predicate, "verifiedLevels")],
        "waivers": waivers,
    }


def latest_by_environment(summaries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For policy: of each environment the last time that the artifact passed without an exception; nothing else of it
    says that the rules were met."""
    latest: dict[str, Mapping[str, Any]] = {}
    for one in sorted(summaries, key=lambda summary: str(summary["verified_at"])):
        if one["result"] == PASSED and one["environment"] and not one["waivers"]:
            latest[one["environment"]] = one
    told = ("attestation", "environment", "verified_at", "policy", "decision", "job")
    return [{name: latest[environment][name] for name in told} for environment in sorted(latest)][:_MOST]


def _list(predicate: Mapping[str, Any], name: str) -> list[Any]:
    return optional_list(predicate.get(name))[:_MOST]
