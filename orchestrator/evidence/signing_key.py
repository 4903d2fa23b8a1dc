"""The key that signs evidence: P-256, one file, readable by the daemon's user only.

It is another key than the issuer's on purpose: what verifies a statement must not verify a token. It is
never rotated by itself, since statements are checked years later; replace the file and keep the old
public half to do so.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from orchestrator.errors import ConfigurationError
from orchestrator.private_file import open_or_make, private_folder

_FILE: Final = "evidence.pem"
_MOST_KEYS: Final = 64
_PUBLIC_BLOCK: Final = re.compile(r"-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----")


def key_id(public: PublicKeyTypes) -> str:
    """`sha256:<hex>` of the public key in DER (SubjectPublicKeyInfo)."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


@dataclass(frozen=True, slots=True)
class EvidenceKey:
    id: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        return self.private.public_key()

    @property
    def public_pem(self) -> str:
        """What verifiers get; `cosign` and OpenSSL read this form."""
        return self.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode("ascii")


def read_public_keys(pem: str) -> dict[str, ec.EllipticCurvePublicKey]:
    """All P-256 keys in a text of PEM blocks, by key id: today's, and older ones that were kept. Empty when there are
    none, or a block is something else."""
    found: dict[str, ec.EllipticCurvePublicKey] = {}
    for block in _PUBLIC_BLOCK.findall(pem)[:_MOST_KEYS]:
        try:
            public = serialization.load_pem_public_key(block.encode())
        except (ValueError, UnsupportedAlgorithm):
            return {}
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            return {}
        found[key_id(public)] = public
    return found


def generate_evidence_key() -> EvidenceKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return EvidenceKey(key_id(private.public_key()), private)


def open_evidence_key(folder: Path) -> EvidenceKey:
    """Load the key from `folder` (made with mode 0700 if absent), or make it.

    Raises:
        ConfigurationError: `keys_unsafe` (another owner, or others may read) or `keys_corrupt`.
        TryAgainError: `keys_unavailable`.
    """
    path = folder / _FILE
    private_folder(folder)
    data = open_or_make(path, lambda: _pem(generate_evidence_key().private))
    try:
        private = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        # The cause may quote key material, so it is not chained.
        raise ConfigurationError(
            f"{path} is damaged or not a P-256 key",
            reason="keys_corrupt",
            fix="restore it from a backup, or remove it: earlier evidence then verifies with the old public key only",
        )
    return EvidenceKey(key_id(private.public_key()), private)


def _pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
