"""What the API asks about signing keys. Answers are JSON's types, and hold nothing private."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestrator.model.job import Caller


class KeyDesk(Protocol):
    """The signing keys of all issuers."""

    def listed(self) -> Sequence[Mapping[str, Any]]:
        """See `key_shapes.IssuerKeysView`. Must not block."""
        ...

    async def revoke(self, kid: str, caller: Caller) -> Mapping[str, Any]:
        """Withdraw a key at once, in the caller's name; again is without effect. See `key_shapes.KeyRevokedView`.

        GiveUpError `key_unknown`; TryAgainError `audit_unavailable` or `keys_unavailable`.
        """
        ...

    async def rotate(self, issuer: str | None, caller: Caller, *, at_once: bool) -> Sequence[Mapping[str, Any]]:
        """Have the keys of the issuer of this name or URL, or of all, followed by others, in the caller's name. See
        `key_shapes.IssuerRotatedView`.

        GiveUpError `key_issuer_unknown` or `keys_too_many`; TryAgainError `audit_unavailable` or `keys_unavailable`.
        """
        ...
