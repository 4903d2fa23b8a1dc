"""Public keys of signers, and whether a signature is theirs: ECDSA (P-256, P-384), Ed25519, RSA of 2048 bits or more.

Sources: DSSE 1.0 leaves the algorithm to the key; the digests are those of Sigstore's registry of algorithms
(P-256 and RSA: SHA-256, P-384: SHA-384); RSA is PKCS #1 v1.5 or PSS, as cosign and key services write it.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.signing_key import key_id

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

MAX_KEYS_BYTES: Final = 64 << 10
"""A file of public keys is small."""
_MOST_KEYS: Final = 16
_MAX_SIGNATURE_BYTES: Final = 1024
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----[A-Za-z0-9+/=\s]+-----END \1-----")
_FIX: Final = "give the public half, e.g. `cosign public-key --key KEY` or `openssl pkey -in KEY -pubout`"


def read_keys(pem: str, where: str) -> tuple[PublicKey, ...]:
    """All public keys in a text of PEM blocks, in order; `where` names the text in errors.

    Raises:
        ConfigurationError: reason `signer_key_unusable`: none, too many, a private one, or of a kind we do not check.
    """
    blocks = list(_BLOCK.finditer(pem))
    if not 0 < len(blocks) <= _MOST_KEYS:
        raise _unusable(where, f"holds {len(blocks)} PEM blocks, of 1 to {_MOST_KEYS}")
    return tuple(_read_key(block[0], block[1], where) for block in blocks)


def _read_key(block: str, label: str, where: str) -> PublicKey:
    if label != "PUBLIC KEY":
        # The label only: the block may be a private key.
        raise _unusable(where, f"holds a block `{label}`, which is no public key")
    try:
        key = serialization.load_pem_public_key(block.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(where, "holds a public key that is damaged or of an unknown kind") from None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 8192
    ):
        return key
    raise _unusable(where, "holds a key other than ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits")


def hint_of(key: PublicKey) -> str:
    """How a Sigstore bundle by cosign names the key: base64 of the SHA-256 that is also its id."""
    return base64.b64encode(bytes.fromhex(key_id(key).removeprefix("sha256:"))).decode("ascii")


def holds(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature` over `data` is by this key."""
    match key:
        case ec.EllipticCurvePublicKey():
            return _verifies_ecdsa(key, signature, data, ec.ECDSA(_hash_of(key)))
        case ed25519.Ed25519PublicKey():
            return _verifies_ed25519(key, signature, data)
        case rsa.RSAPublicKey():
            return _verifies_rsa(key, signature, data, hashes.SHA256())


def holds_over_digest(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    """Whether `signature` is by this key over the bytes whose SHA-256 is `digest`.

    False for keys that sign something else than SHA-256: Ed25519 takes the bytes themselves, P-384 another digest.
    """
    ready = utils.Prehashed(hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1) and _verifies_ecdsa(key, signature, digest, ec.ECDSA(ready))
    return isinstance(key, rsa.RSAPublicKey) and _verifies_rsa(key, signature, digest, ready)


def _hash_of(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    return hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()


def _verifies_ecdsa(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> bool:
    if len(signature) > _MAX_SIGNATURE_BYTES:
        return False
    try:
        key.verify(signature, data, algorithm)
    except InvalidSignature:
        return False
    return True


def _verifies_ed25519(key: ed25519.Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _verifies_rsa(
    key: rsa.RSAPublicKey, signature: bytes, data: bytes, digest: hashes.SHA256 | utils.Prehashed
) -> bool:
    if len(signature) > _MAX_SIGNATURE_BYTES:
        return False
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.AUTO)
    for scheme in (padding.PKCS1v15(), pss):
        try:
            key.verify(signature, data, scheme, digest)
        except InvalidSignature:
            continue
        return True
    return False


def _unusable(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{where} {what}", reason="signer_key_unusable", fix=_FIX)
