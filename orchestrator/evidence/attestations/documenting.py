"""Documents as tools write them, made into predicates: an SBOM stands as it is, a scanner's report gets the wrapper of
cosign's vulnerability predicate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orchestrator.errors import GiveUpError
from orchestrator.evidence.attestations.documents import optional_table
from orchestrator.evidence.attestations.sbom import CYCLONEDX_TYPE, SPDX_TYPE
from orchestrator.evidence.attestations.scan import COSIGN_TYPE

_NO_TIME: Final = "say when the scan ended: a report without its time would be as fresh as one likes"


def sbom_predicate(document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Predicate type and predicate of a bill of materials.

    Raises:
        GiveUpError: reason `sbom_malformed`.
    """
    if document.get("bomFormat") == "CycloneDX":
        return CYCLONEDX_TYPE, document
    if "spdxVersion" in document or "@graph" in document:
        return SPDX_TYPE, document
    raise GiveUpError(
        "neither CycloneDX nor SPDX in JSON", reason="sbom_malformed", fix="make it with e.g. syft, trivy or cdxgen"
    )


def scan_predicate(document: Mapping[str, Any], scanner: str, finished_at: str) -> tuple[str, Mapping[str, Any]]:
    """Predicate type and predicate of a report. One that has the wrapper already stands as it is; else `scanner` names
    the tool and `finished_at` (RFC 3339) says when it ended, where the report does not.

    Raises:
        GiveUpError: reason `scan_malformed`: what is needed is neither given nor in the report.
    """
    if "scanner" in document and "metadata" in document:
        return COSIGN_TYPE, document
    descriptor = optional_table(document.get("descriptor"))  # Grype's
    name = scanner or descriptor.get("name")
    if not name:
        raise GiveUpError("the report does not name its scanner", reason="scan_malformed", fix="name it")
    ended = finished_at or document.get("CreatedAt") or descriptor.get("timestamp")  # Trivy's, Grype's
    if not ended:
        raise GiveUpError("the report does not tell its time", reason="scan_malformed", fix=_NO_TIME)
    return COSIGN_TYPE, {
        "invocation": {"parameters": None, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {
            "uri": name,
            "version": str(descriptor.get("version") or ""),
            "db": {"uri": "", "version": ""},
            "result": document,
        },
        "metadata": {"scanStartedOn": ended, "scanFinishedOn": ended},
    }
