"""The keys people sign with: P-256 (ECDSA, SHA-256, DER, as cosign and OpenSSL do it) or Ed25519, in PEM."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.errors import ConfigurationError

PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey

MAX_KEY_FILE_BYTES: Final = 16 << 10
_PUBLIC_BLOCK: Final = re.compile(r"-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----")
_FIX: Final = "openssl ecparam -genkey -name prime256v1, openssl genpkey -algorithm ed25519, or cosign make one"


class KeyEncryptedError(ConfigurationError):
    """The private key is encrypted, and the passphrase is missing or wrong."""


def key_id(public: PublicKey) -> str:
    """`sha256:<hex>` of the public key in DER (SubjectPublicKeyInfo)."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def read_public_keys(pem: str) -> dict[str, PublicKey]:
    """All keys in a text of PEM blocks, by key id; empty when there are none, or one is of another kind."""
    found: dict[str, PublicKey] = {}
    for block in _PUBLIC_BLOCK.findall(pem[:MAX_KEY_FILE_BYTES]):
        try:
            public = serialization.load_pem_public_key(block.encode())
        except (ValueError, UnsupportedAlgorithm):
            return {}
        if not isinstance(public, PublicKey) or not _right_curve(public):
            return {}
        found[key_id(public)] = public
    return found


def read_private_key(path: Path, passphrase: str | None = None) -> PrivateKey:
    """A person's private key, for signing on their own machine.

    Raises:
        ConfigurationError: the file cannot be read, or holds no such key; `KeyEncryptedError`: it needs a passphrase.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", fix="check the path") from None
    try:
        private = serialization.load_pem_private_key(data, password=passphrase.encode() if passphrase else None)
    except TypeError:
        raise KeyEncryptedError(f"{path} is encrypted", fix="give its passphrase when asked") from None
    except (ValueError, UnsupportedAlgorithm):
        # The cause may quote key material, so it is not chained.
        if passphrase:
            raise KeyEncryptedError(f"{path}: wrong passphrase, or a damaged key", fix="try again") from None
        raise ConfigurationError(f"{path} holds no PEM private key that can be read", fix=_FIX) from None
    if not isinstance(private, PrivateKey) or not _right_curve(private.public_key()):
        raise ConfigurationError(f"{path} holds a key that is neither P-256 nor Ed25519", fix=_FIX)
    return private


def sign(private: PrivateKey, data: bytes) -> bytes:
    if isinstance(private, Ed25519PrivateKey):
        return private.sign(data)
    return private.sign(data, ec.ECDSA(hashes.SHA256()))


def holds(public: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether the signature over the data is this key's."""
    try:
        if isinstance(public, Ed25519PublicKey):
            public.verify(signature, data)
        else:
            public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _right_curve(public: PublicKey) -> bool:
    return isinstance(public, Ed25519PublicKey) or isinstance(public.curve, ec.SECP256R1)
