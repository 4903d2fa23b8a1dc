"""What is proven about an artifact, as facts for policy: signed, built how, with a bill of materials or not. Pure.

*Signed*, *has provenance* and *has an SBOM* are separate facts. Each is tied to the one digest asked about;
whatever cannot be proven is false, and the reason is kept for people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.evidence.envelope import EnvelopeRefusedError, open_envelope
from orchestrator.evidence.provenance import IN_TOTO, PREDICATE_TYPE, STATEMENT_TYPE

CYCLONEDX: Final = "application/vnd.cyclonedx+json"
_STATEMENT_TYPES: Final = (STATEMENT_TYPE, "https://in-toto.io/Statement/v0.1")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ArtifactEvidence:
    """`built` says how, in text only, and is empty unless `signed`; `reason` says why it is not."""

    digest: str
    signed: bool = False
    sbom: bool = False
    built: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    def facts(self) -> dict[str, Any]:
        """The form that policy's input takes."""
        return {
            "digest": self.digest,
            "signed": self.signed,
            "sbom": self.sbom,
            "provenance": self.signed and bool(self.built),
            "base": self.built.get("base", ""),
            "built": dict(self.built),
            "reason": self.reason,
        }


class _NotProvenError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def artifact_evidence(
    digest: str,
    envelope: str,
    keys: Mapping[str, ec.EllipticCurvePublicKey],
    builders: Collection[str],
) -> ArtifactEvidence:
    """What `envelope` (DSSE JSON text, empty for none) proves about `digest` (`sha256:<hex>`).

    `keys` by key id are those that count; `builders` are the builder ids that those keys may speak for. Any
    bill of materials must have been reported by the same job and stands in the same signed statement.
    Never raises: what does not hold comes back as `signed` False.
    """
    if not _DIGEST.fullmatch(digest):
        return ArtifactEvidence(digest, reason="digest_malformed")
    if not envelope:
        return ArtifactEvidence(digest, reason="provenance_missing")
    try:
        statement = json.loads(open_envelope(envelope, IN_TOTO, keys))
        return _judge(digest, statement, builders)
    except EnvelopeRefusedError as error:
        return ArtifactEvidence(digest, reason=error.reason)
    except _NotProvenError as error:
        return ArtifactEvidence(digest, reason=error.reason)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ArtifactEvidence(digest, reason="statement_malformed")


def _judge(digest: str, statement: dict[str, Any], builders: Collection[str]) -> ArtifactEvidence:
    if statement["_type"] not in _STATEMENT_TYPES or statement["predicateType"] != PREDICATE_TYPE:
        raise _NotProvenError("statement_of_other_type")
    wanted = digest.removeprefix("sha256:")
    subjects = statement["subject"]
    mine = [subject for subject in subjects if subject["digest"].get("sha256") == wanted]
    if not mine:
        raise _NotProvenError("digest_not_covered")
    predicate = statement["predicate"]
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    builder = run["builder"]["id"]
    if builder not in builders:
        raise _NotProvenError("builder_unknown")
    external, internal = definition["externalParameters"], definition["internalParameters"]
    source, pool = external["source"], internal["pool"]
    # The id is what the key may speak for; what the statement says besides must be that very builder's.
    if not builder.endswith(f"/{pool['backend']}/{pool['isolation']}/{pool['trust_tier']}/v1"):
        raise _NotProvenError("builder_contradicted")
    told = {
        "builder": builder,
        "build_type": definition["buildType"],
        "job": run["metadata"]["invocationId"],
        "job_name": external["job"],
        "finished_on": run["metadata"]["finishedOn"],
        "name": mine[0]["name"],
        "base": pool["base"],
        "isolation": pool["isolation"],
        "trust_tier": pool["trust_tier"],
        "caller": external["caller"]["id"],
        "caller_issuer": external["caller"]["issuer"],
        "policy_bundle": internal["policy"].get("bundle", ""),
        **{name: source[name] for name in ("repository", "repository_id", "ref", "sha") if name in source},
    }
    if not all(isinstance(value, str) for value in told.values()):
        raise _NotProvenError("statement_malformed")
    sbom = any(
        subject.get("mediaType") == CYCLONEDX and subject["digest"].get("sha256") != wanted for subject in subjects
    )
    return ArtifactEvidence(digest, signed=True, sbom=sbom, built=told)
