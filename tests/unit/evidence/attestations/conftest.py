"""Signers, and statements of theirs about one artifact."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.evidence.attestations.facts import facts
from orchestrator.evidence.attestations.making import statement
from orchestrator.evidence.attestations.signers import Claim, Reporters, Signer, Signers, control_plane
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, statement_bytes
from orchestrator.evidence.signing_key import EvidenceKey, generate_evidence_key

CONTENT = b"the artifact's own bytes"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
OTHER = "sha256:" + "e" * 64
SECOND = 1_000_000_000
NOW = 1_800_000_600 * SECOND
OUR_BUILDER = "https://ci.example/builders/sandbox/bubblewrap/standard/v1"
FOREIGN_BUILDER = "https://build.example/hosted/v1"
OUTSIDE = "release-team"


@pytest.fixture(scope="session")
def our_key() -> EvidenceKey:
    return generate_evidence_key()


@pytest.fixture(scope="session")
def outside_key() -> EvidenceKey:
    return generate_evidence_key()


@pytest.fixture
def outside(outside_key) -> Signer:
    """A signer who may say everything."""
    return Signer(OUTSIDE, (outside_key.public,), frozenset(Claim), {FOREIGN_BUILDER: 3}, frozenset({"trivy", "grype"}))


@pytest.fixture
def ours(our_key) -> Signer:
    return control_plane([our_key.public], {OUR_BUILDER: 2})


@pytest.fixture
def signers(ours, outside) -> Signers:
    return Signers([ours, outside], scanners={"trivy": Reporters(pools=frozenset({"scan"}))})


@pytest.fixture
def signed(outside_key):
    """An envelope with a statement about the artifact, by the outside signer unless another key is given."""

    def sign(predicate_type: str, predicate: Mapping[str, Any], *, digest: str = DIGEST, key=None, **more: Any) -> str:
        told = statement([("app", digest)], predicate_type, predicate, more.pop("reporter", None)) | more
        return sign_envelope(statement_bytes(told), IN_TOTO, key or outside_key)

    return sign


@pytest.fixture
def proven(signers):
    """What envelopes prove about the artifact."""

    def prove(*envelopes: str, digest: str = DIGEST, by: Signers | None = None, now: int = NOW) -> dict[str, Any]:
        found = facts(digest, envelopes, by or signers, now)
        assert json.loads(json.dumps(found)) == found
        return found

    return prove


def blob_bundle(content: bytes, key: EvidenceKey) -> str:
    """A signature over the bytes themselves, in a bundle as `cosign sign-blob` writes it."""
    signature = key.private.sign(content, ec.ECDSA(hashes.SHA256()))
    digest = hashlib.sha256(content).digest()
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": base64.b64encode(digest).decode()},
                "signature": base64.b64encode(signature).decode(),
            },
        }
    )
