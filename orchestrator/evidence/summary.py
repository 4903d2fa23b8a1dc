"""What the gate swears to when it lets an artifact into an environment: a verification summary. Pure.

Source: SLSA v1 Verification Summary Attestation, https://slsa.dev/spec/v1.0/verification_summary. Fields of our own
begin with `orchestrator_`, as its extension rules ask.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.evidence.provenance import STATEMENT_TYPE, statement_bytes, timestamp
from orchestrator.model.decision import Decision
from orchestrator.model.record import Record

SUMMARY_TYPE: Final = "https://slsa.dev/verification_summary/v1"
SLSA_VERSION: Final = "1.0"
_LISTS: Final = ("signatures", "sboms", "provenances", "scans")
_MOST_INPUTS: Final = 256
_MOMENTARY: Final = ("timeVerified", "orchestrator_decision")


@dataclass(frozen=True, slots=True)
class Verifier:
    """`url` is the daemon's own, `version` the program's."""

    url: str
    version: str

    @property
    def id(self) -> str:
        return f"{self.url}/gate/v1"


def inputs_of(facts: Mapping[str, Any] | None) -> list[str]:
    """The ids (`sha256:<hex>`) of the attestations that counted, sorted; `facts` as policy is told them."""
    told = facts or {}
    found = {
        entry["attestation"]
        for name in _LISTS
        for entry in told.get(name, ())
        if isinstance(entry, Mapping) and isinstance(entry.get("attestation"), str)
    }
    return sorted(found)[:_MOST_INPUTS]


def levels_of(facts: Mapping[str, Any] | None) -> list[str]:
    """What was verified, in SLSA's words: the best build level of any provenance that counted."""
    levels = [entry.get("level", 0) for entry in (facts or {}).get("provenances", ()) if isinstance(entry, Mapping)]
    best = max((level for level in levels if isinstance(level, int)), default=0)
    return [f"SLSA_BUILD_LEVEL_{min(best, 3)}"]


def summary_statement(
    record: Record,
    decision: Decision,
    facts: Mapping[str, Any] | None,
    consents: Sequence[str],
    verifier: Verifier,
    now_ns: int,
) -> dict[str, Any]:
    """The statement: `decision` allowed this job to deploy its artifact.

    `facts` is what was verified about the artifact, `consents` the ids (`sha256:<hex>`) of signed approvals and
    exceptions that bear on the job. Times are Unix nanoseconds.
    """
    spec = record.offer.spec
    attestations = dict.fromkeys([*inputs_of(facts), *sorted(consents)])
    inputs = [{"digest": {"sha256": one.removeprefix("sha256:")}} for one in attestations]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": _name(facts), "digest": {"sha256": spec.artifact_digest.removeprefix("sha256:")}}],
        "predicateType": SUMMARY_TYPE,
        "predicate": {
            "verifier": {"id": verifier.id, "version": {"orchestrator": verifier.version}},
            "timeVerified": timestamp(now_ns),
            "resourceUri": f"{verifier.url}/environments/{spec.deployment_environment}",
            "policy": {
                "uri": f"{verifier.url}/policy",
                "digest": {"sha256": decision.bundle_digest.removeprefix("sha256:")},
            },
            "inputAttestations": inputs[:_MOST_INPUTS],
            "verificationResult": "PASSED",
            "verifiedLevels": levels_of(facts),
            "slsaVersion": SLSA_VERSION,
            "orchestrator_job": record.id,
            "orchestrator_caller": {"id": record.offer.caller.id, "issuer": record.offer.caller.issuer},
            "orchestrator_environment": spec.deployment_environment,
            "orchestrator_decision": {"id": decision.id, "input": decision.input_digest},
            "orchestrator_waivers": [
                {"exception": waiver.exception, "codes": list(waiver.codes)} for waiver in decision.waivers
            ],
        },
    }


def summary_bytes(statement: Mapping[str, Any]) -> bytes:
    """The bytes to sign."""
    return statement_bytes(dict(statement))


def summary_digest(data: bytes) -> str:
    """`sha256:<hex>` of the signed bytes: how tokens, facts and receipts name a summary."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def substance(statement: Mapping[str, Any]) -> str:
    """What a summary says, apart from when and by which decision: equal for two that say the same."""
    told = {name: value for name, value in statement["predicate"].items() if name not in _MOMENTARY}
    return summary_digest(summary_bytes({"subject": statement["subject"], "predicate": told}))


def statement_in(envelope: str) -> dict[str, Any] | None:
    """The statement of an envelope of our own, its signature unchecked; None for what is none."""
    try:
        found = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
        return found if found["predicateType"] == SUMMARY_TYPE else None
    except (ValueError, KeyError, TypeError):
        return None


def _name(facts: Mapping[str, Any] | None) -> str:
    built = (facts or {}).get("built", {})
    name = built.get("name", "") if isinstance(built, Mapping) else ""
    return name if isinstance(name, str) else ""
