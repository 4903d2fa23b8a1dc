"""Who we are to GitHub: the App's own JWT, signed with its private key, which may be replaced while we run.

Source: GitHub documentation, "Generating a JSON Web Token (JWT) for a GitHub App".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from orchestrator.errors import TryAgainError
from orchestrator.identity.secret_file import SecretFile

LIFETIME_SECONDS: Final = 540
"""From `iat`. GitHub takes an `exp` of at most 10 minutes ahead."""
BACKDATED_SECONDS: Final = 60
"""A clock that is a little fast would otherwise make tokens from the future, which are refused."""
MIN_KEY_BITS: Final = 2048


class GitHubApp:
    """Signs App JWTs. `client_id` is the App's client id or its numeric id.

    The key file is read at each signature if it changed; a new one that is not usable leaves the former in use for
    nothing: it is an error, for the operator must learn of it before the former is revoked.
    """

    def __init__(self, client_id: str | int, key_file: Path, *, now: Callable[[], float] = time.time) -> None:
        self.client_id = str(client_id)
        self._file = SecretFile(key_file, "the GitHub App's private key")
        self._now = now
        self._parsed: tuple[str, RSAPrivateKey] | None = None

    def sign(self) -> str:
        """A JWT that GitHub takes as the App for the next minutes.

        Raises:
            TryAgainError: reason `secret_file_unusable` or `github_app_key_unusable`; no content is repeated.
        """
        issued = int(self._now()) - BACKDATED_SECONDS
        claims = {"iat": issued, "exp": issued + LIFETIME_SECONDS, "iss": self.client_id}
        return jwt.encode(claims, self._key(), algorithm="RS256")

    def exposed_to(self) -> str:
        """See `SecretFile.exposed_to`."""
        return self._file.exposed_to()

    def _key(self) -> RSAPrivateKey:
        pem = self._file.read()
        if self._parsed is None or self._parsed[0] != pem:
            self._parsed = (pem, self._parse(pem))
        return self._parsed[1]

    def _parse(self, pem: str) -> RSAPrivateKey:
        try:
            key = load_pem_private_key(pem.encode("ascii"), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # What the library says may quote the file; chain nothing.
            raise self._unusable("is no PEM private key without a password") from None
        if not isinstance(key, RSAPrivateKey):
            raise self._unusable("is no RSA key")
        if key.key_size < MIN_KEY_BITS:
            raise self._unusable(f"has fewer than {MIN_KEY_BITS} bits")
        return key

    def _unusable(self, why: str) -> TryAgainError:
        return TryAgainError(
            f"the GitHub App's private key {self._file.path} {why}",
            reason="github_app_key_unusable",
            fix="generate a private key in the App's settings and write it there as it was downloaded",
        )
