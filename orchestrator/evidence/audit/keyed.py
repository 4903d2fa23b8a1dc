"""Keyed hashes: a value can be recognised by those who know it and the key, and by nobody else.

Names, subjects and scripts stand in the audit log so. A plain hash of a word that can be guessed gives the word away.
Source: RFC 2104 with SHA-256.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError
from orchestrator.private_file import open_or_make

_KEY_BYTES: Final = 32


class KeyedHash:
    """HMAC-SHA256 under one key. Cheap; may be used from any thread."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def open(cls, path: Path) -> KeyedHash:
        """With the key in `path` (hexadecimal, mode 0600), which is made if absent; its folder must exist.

        Without that file, values written before can no longer be recognised.

        Raises:
            ConfigurationError: reason `keys_unsafe` or `keys_corrupt`.
            TryAgainError: reason `keys_unavailable`.
        """
        text = open_or_make(path, lambda: secrets.token_hex(_KEY_BYTES).encode() + b"\n").strip()
        try:
            key = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            # The cause may quote key material, so it is not chained.
            raise ConfigurationError(
                f"{path} holds no key of {_KEY_BYTES} bytes in hexadecimal",
                reason="keys_corrupt",
                fix="restore it from a backup, or remove it: values in earlier records can then not be recognised",
            )
        return cls(key)

    def of(self, kind: str, value: str | bytes) -> str:
        """`hmac-sha256:<64 hexadecimal digits>`, or empty for an empty value.

        `kind` says what the value is (`subject`, `host`), so that one text in two places has two hashes.
        """
        if not value:
            return ""
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return "hmac-sha256:" + hmac.digest(self._key, b"%b\0%b" % (kind.encode(), data), "sha256").hex()
