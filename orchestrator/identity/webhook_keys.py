"""Keys that sign messages to other systems, as Standard Webhooks writes them, and their signatures.

`whsec_` is a shared secret of 24 to 64 bytes (HMAC-SHA256, `v1`); `whsk_` an Ed25519 private key (`v1a`), whose public
half `whpk_` is for the receiver. All are standard Base64. Source: Standard Webhooks 1.0.0, *Signature scheme*.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import TryAgainError
from orchestrator.identity.secret_file import SecretFile

MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
NEW_SECRET_BYTES = 32

_SHARED, _PRIVATE, _PUBLIC = "whsec_", "whsk_", "whpk_"
_SEED_BYTES = 32


class WebhookKey(Protocol):
    """One key."""

    def sign(self, content: bytes) -> str:
        """A signature with its version before it, as in the header."""
        ...


@dataclass(frozen=True, slots=True)
class SharedKey:
    """An HMAC secret, which the receiver has too."""

    secret: bytes

    def sign(self, content: bytes) -> str:
        return "v1," + _text(hmac.new(self.secret, content, hashlib.sha256).digest())


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """An Ed25519 key, whose private half only we have."""

    key: Ed25519PrivateKey

    def sign(self, content: bytes) -> str:
        return "v1a," + _text(self.key.sign(content))

    @property
    def public(self) -> str:
        """What the receiver verifies with."""
        return _PUBLIC + _text(self.key.public_key().public_bytes_raw())


def new_shared_key() -> str:
    """A new shared secret in text form."""
    return _SHARED + _text(secrets.token_bytes(NEW_SECRET_BYTES))


def new_private_key() -> str:
    """A new private key in text form: its seed."""
    return _PRIVATE + _text(Ed25519PrivateKey.generate().private_bytes_raw())


def parse_key(text: str) -> SharedKey | PrivateKey:
    """The key in text form. A private key is its seed, or seed and public half together.

    Raises:
        ValueError: saying what is wrong, and nothing of the text.
    """
    if text.startswith(_SHARED):
        secret = _bytes(text[len(_SHARED) :])
        if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
            raise ValueError(f"a whsec_ secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")
        return SharedKey(secret)
    if not text.startswith(_PRIVATE):
        raise ValueError("a key begins with whsec_ or whsk_")
    data = _bytes(text[len(_PRIVATE) :])
    if len(data) not in (_SEED_BYTES, 2 * _SEED_BYTES):
        raise ValueError("a whsk_ key has 32 or 64 bytes")
    key = Ed25519PrivateKey.from_private_bytes(data[:_SEED_BYTES])
    if data[_SEED_BYTES:] and data[_SEED_BYTES:] != key.public_key().public_bytes_raw():
        raise ValueError("the public half of the whsk_ key is not its own")
    return PrivateKey(key)


class WebhookSigner:
    """Signs with the keys of all files, which are read again when they change: write the new key into a file of its
    own, put it first, and take the old one away once every receiver knows the new one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [(SecretFile(path, "the webhook key"), path) for path in files]
        self._parsed: dict[Path, tuple[str, WebhookKey]] = {}

    def sign(self, message_id: str, moment: int, body: bytes) -> str:
        """The value of `webhook-signature`, one signature for each key. `moment` is Unix time in seconds.

        Raises:
            TryAgainError: reason `secret_file_unusable` or `webhook_key_unfit`.
        """
        content = b".".join((message_id.encode("ascii"), str(moment).encode("ascii"), body))
        return " ".join(key.sign(content) for key in self.present())

    def present(self) -> Sequence[WebhookKey]:
        """The keys that sign now.

        Raises:
            TryAgainError: as for `sign`.
        """
        return [self._key(file, path) for file, path in self._files]

    def _key(self, file: SecretFile, path: Path) -> WebhookKey:
        text = file.read()
        known = self._parsed.get(path)
        if known is not None and known[0] == text:
            return known[1]
        try:
            key = parse_key(text)
        except ValueError as error:
            raise TryAgainError(
                f"the webhook key {path} cannot be used: {error}",
                reason="webhook_key_unfit",
                fix="make one with `orchestrator notifications new-key FILE`",
            ) from None
        self._parsed[path] = (text, key)
        return key


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("what follows the prefix is no standard Base64") from None
