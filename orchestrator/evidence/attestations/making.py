"""Statements that the control plane or a signer makes about artifacts, and the bundle that stock tools read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from orchestrator.evidence.attestations.keys import PublicKey, hint_of
from orchestrator.evidence.attestations.reading import BUNDLE_TYPE, Attestation
from orchestrator.evidence.provenance import STATEMENT_TYPE

SIGNATURE_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"
"""Predicate type of a statement that says no more than: I signed these."""
REPORTER: Final = "urn:orchestrator:reporter:v1"
"""Annotation of each subject (in-toto ResourceDescriptor): which job reported the document. The predicate stays as it
was reported, so others read it under its own type."""


def statement(
    subjects: Sequence[tuple[str, str]],
    predicate_type: str,
    predicate: Mapping[str, Any],
    reporter: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """An in-toto statement v1 about `subjects`, (name, `sha256:<hex>`) each.

    `reporter`: {job, builder, caller, pool, trust_tier} of the job whose word the predicate is; None for our own.
    """
    told: list[dict[str, Any]] = [
        {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}} for name, digest in subjects
    ]
    if reporter is not None:
        for subject in told:
            subject["annotations"] = {REPORTER: dict(reporter)}
    return {
        "_type": STATEMENT_TYPE,
        "subject": told,
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def signature_statement(
    subjects: Sequence[tuple[str, str]], reporter: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What `cosign sign` states: these are signed, and nothing else."""
    return statement(subjects, SIGNATURE_TYPE, {}, reporter)


def bundle_text(attestation: Attestation, key: PublicKey | None) -> str:
    """The attestation as a Sigstore bundle v0.3 (JSON text); `key` is who signed, for the hint, None when unknown.

    Key ids stay out: cosign looks for a signature whose id is its own name for the key, or that has none.
    """
    if attestation.artifact:
        content: dict[str, Any] = {
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": _base64(attestation.artifact)},
                "signature": _base64(attestation.signatures[0].value),
            }
        }
    else:
        content = {
            "dsseEnvelope": {
                "payload": _base64(attestation.payload),
                "payloadType": attestation.payload_type,
                "signatures": [{"sig": _base64(one.value)} for one in attestation.signatures],
            }
        }
    material = {"publicKey": {"hint": hint_of(key) if key is not None else ""}}
    bundle = {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, **content}
    return json.dumps(bundle, separators=(",", ":"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
