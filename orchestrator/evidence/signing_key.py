"""The key that signs evidence: P-256, one file, readable by the daemon's user only.

It is another key than the issuer's on purpose: what verifies a statement must not verify a token. It is
never rotated by itself, since statements are checked years later; replace the file and keep the old
public half to do so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import ConfigurationError, TryAgainError

_FILE: Final = "evidence.pem"
_MAX_BYTES: Final = 16 << 10


def key_id(public: ec.EllipticCurvePublicKey) -> str:
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
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_unsafe(folder.lstat(), folder, stat.S_IFDIR)
        data = _read(path)
        if data is None:
            key = generate_evidence_key()
            _write(path, key.private)
            return key
    except OSError as error:
        raise TryAgainError(
            f"the evidence key cannot be read or written: {error.strerror}",
            reason="keys_unavailable",
            fix="check free space and permissions of the state folder",
        ) from error
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


def _refuse_unsafe(info: os.stat_result, what: Path, kind: int) -> None:
    if stat.S_IFMT(info.st_mode) != kind:
        raise ConfigurationError(f"{what} is not what it should be", reason="keys_unsafe", fix="remove it")
    if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise ConfigurationError(
            f"{what} belongs to user id {info.st_uid} with mode {stat.S_IMODE(info.st_mode):04o}: "
            "others may have read the private key",
            reason="keys_unsafe",
            fix="replace the key if others use this machine; then only the daemon's user may have access",
        )


def _read(path: Path) -> bytes | None:
    try:
        # Never through a link: the check must be about the file that is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        _refuse_unsafe(os.fstat(file.fileno()), path, stat.S_IFREG)
        return file.read(_MAX_BYTES)


def _write(path: Path, private: ec.EllipticCurvePrivateKey) -> None:
    """Whole or not at all: written beside its place, synced, then renamed."""
    temporary = path.with_name(f"{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
