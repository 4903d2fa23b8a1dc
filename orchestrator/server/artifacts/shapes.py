"""What goes in and out about artifacts: what is known of one, and what was signed about it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.server.operation import Answer, Operation
from orchestrator.server.schemas import Request
from orchestrator.server.shapes import EnvelopeView, View

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"


class ArtifactListQuery(Request):
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    """Artifacts in the answer."""


class AttestationUpload(BaseModel):
    """A DSSE envelope, or a Sigstore bundle of version 0.1 to 0.3, as it is."""

    model_config = ConfigDict(extra="allow")


class AttestationView(View):
    """One signed statement. It counts for what `counts_for` names; `reason` says why it counts for nothing."""

    id: str
    standing: Literal["own", "vouched", "loose", "hearsay"]
    """Made here; uploaded, when it came by a configured signer or not; or made here of the word of a job that neither
    built the artifact nor is listed as a reporter."""
    predicate_type: str
    signers: list[str]
    counts_for: list[str]
    reason: str


class ArtifactView(View):
    digest: str
    facts: dict[str, Any]
    """What was verified just now, exactly as policy is told: `input.artifact` of the policy input reference."""
    attestations: list[AttestationView]


class ArtifactListView(View):
    artifacts: list[str]
    """Digests; those first about which something was said last."""


class BundleView(View):
    """Sigstore bundle v0.3, for stock tools."""

    model_config = ConfigDict(extra="allow")

    mediaType: str  # noqa: N815 -- the bundle's own name


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "list_artifacts",
        "GET",
        "/v1/artifacts",
        "List artifacts about which something was signed; for operators",
        {200: Answer("Their digests", ArtifactListView)},
        query=ArtifactListQuery,
        problems=(403, 404, 503),
    ),
    Operation(
        "get_artifact",
        "GET",
        "/v1/artifacts/{digest}",
        "Read what is known of an artifact, and who signed it",
        {200: Answer("As of now", ArtifactView)},
        problems=(404, 503),
    ),
    Operation(
        "upload_attestation",
        "POST",
        "/v1/artifacts/{digest}/attestations",
        "Add what somebody signed about an artifact; it counts if a configured signer did",
        {
            201: Answer("Kept", AttestationView),
            200: Answer("It was there already", AttestationView),
        },
        body=AttestationUpload,
        problems=(404, 409, 422, 503),
    ),
    Operation(
        "read_attestation",
        "GET",
        "/v1/artifacts/{digest}/attestations/{attestation}",
        "Read one attestation as a Sigstore bundle",
        {200: Answer("The bundle", BundleView)},
        problems=(404, 503),
    ),
    Operation(
        "read_summary",
        "GET",
        "/v1/jobs/{job_id}/summary",
        "Read the verification summary that a deploy job's identity is bound to: a signed DSSE envelope",
        {200: Answer("The envelope", EnvelopeView)},
        problems=(404,),
    ),
)
