"""The job credential: what a job in a cluster shows to the gateway, and with its spans to the runner API.

It is a keyed digest (HMAC-SHA256, RFC 2104) of the runner's uid, so nothing has to be remembered: a restarted
daemon knows it again. It says which runner, not that its job still runs; whoever checks it asks the record too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from orchestrator.private_file import damaged, private_folder, read_private_file, write_private_file

_FILE = "job-credential.key"
_CONTEXT = b"job-credential\0"
_KEY_BYTES = 32


class JobCredentials:
    """Makes and checks credentials under one key."""

    def __init__(self, key: bytes) -> None:
        """`key` has 32 random bytes."""
        if len(key) != _KEY_BYTES:
            raise ValueError(f"the key must have {_KEY_BYTES} bytes")
        self._key = key

    @classmethod
    def open(cls, folder: Path) -> JobCredentials:
        """Read the key in `folder`, or make the first one.

        Raises:
            ConfigurationError: reason `keys_unsafe` or `keys_corrupt`.
            TryAgainError: reason `keys_unavailable`.
        """
        private_folder(folder)
        path = folder / _FILE
        text = read_private_file(path, 1024)
        if text is None:
            key = secrets.token_bytes(_KEY_BYTES)
            write_private_file(path, key.hex().encode() + b"\n")
            return cls(key)
        try:
            return cls(bytes.fromhex(text.decode("ascii").strip()))
        except ValueError:
            raise damaged(path, "running jobs of a cluster lose their egress") from None

    def credential(self, uid: str) -> str:
        """The credential of the runner with this uid: 43 characters of base64url (RFC 4648 section 5)."""
        digest = hmac.digest(self._key, _CONTEXT + uid.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    def matches(self, uid: str, presented: str) -> bool:
        """Whether `presented` is the credential of this uid, told in constant time."""
        return hmac.compare_digest(self.credential(uid).encode(), presented.encode("utf-8", "replace"))
