"""Public keys of signers, and whether a signature is theirs: ECDSA (P-256, P-384), Ed25519, RSA of 2048 bits or more.

Sources: DSSE 1.0 leaves the algorithm to the key; the digests are those of Sigstore's registry of algorithms
(P-256 and RSA: SHA-256, P-384: SHA-384); RSA is PKCS #1 v1.5 or PSS, as cosign and key services write it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from functools import cached_property
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
_ED25519_BYTES: Final = 64
_READY_SHA256: Final = utils.Prehashed(hashes.SHA256())
_READY_SHA384: Final = utils.Prehashed(hashes.SHA384())
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


class Signed:
    """What signatures are over. It is hashed once for all keys that are tried: it may be megabytes.

    Made by `Signed(data)`, or by `Signed.by_digest` of bytes of which only the SHA-256 is known. Then keys that sign
    something else than a SHA-256 prove nothing: Ed25519 takes the bytes themselves, P-384 another digest.
    """

    def __init__(self, data: bytes | None, sha256: bytes | None = None) -> None:
        self._data = data
        self._sha256 = sha256

    @classmethod
    def by_digest(cls, sha256: bytes) -> Signed:
        return cls(None, sha256)

    def holds(self, key: PublicKey, signature: bytes) -> bool:
        """Whether `signature` over this is by this key."""
        if len(signature) > _MAX_SIGNATURE_BYTES:
            return False
        try:
            match key:
                case ec.EllipticCurvePublicKey():
                    return self._ecdsa_holds(key, signature)
                case ed25519.Ed25519PublicKey():
                    return self._ed25519_holds(key, signature)
                case rsa.RSAPublicKey():
                    return self._rsa_holds(key, signature)
        except InvalidSignature:
            return False

    def _ecdsa_holds(self, key: ec.EllipticCurvePublicKey, signature: bytes) -> bool:
        if isinstance(key.curve, ec.SECP256R1):
            key.verify(signature, self._digest(), ec.ECDSA(_READY_SHA256))
            return True
        if self._data is None:
            return False
        key.verify(signature, self._sha384, ec.ECDSA(_READY_SHA384))
        return True

    def _ed25519_holds(self, key: ed25519.Ed25519PublicKey, signature: bytes) -> bool:
        if self._data is None or len(signature) != _ED25519_BYTES:
            return False
        key.verify(signature, self._data)
        return True

    def _rsa_holds(self, key: rsa.RSAPublicKey, signature: bytes) -> bool:
        with contextlib.suppress(InvalidSignature):
            key.verify(signature, self._digest(), padding.PKCS1v15(), _READY_SHA256)
            return True
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.AUTO)
        key.verify(signature, self._digest(), pss, _READY_SHA256)
        return True

    def _digest(self) -> bytes:
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self._data or b"").digest()
        return self._sha256

    @cached_property
    def _sha384(self) -> bytes:
        return hashlib.sha384(self._data or b"").digest()


def _unusable(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{where} {what}", reason="signer_key_unusable", fix=_FIX)
