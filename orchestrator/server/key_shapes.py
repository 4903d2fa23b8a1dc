"""The documented shape of what the API shows of signing keys: never anything private."""

from __future__ import annotations

from typing import Literal

from orchestrator.server.shapes import View


class KeyView(View):
    """A signing key. `since` is when its state began; a *revoked* key is in no key set any more."""

    kid: str
    algorithm: Literal["RS256", "ES256"]
    state: Literal["next", "active", "retiring", "revoked"]
    since: str | None


class IssuerKeysView(View):
    """The keys of one issuer. `issuer` is its name in `identity.issuers`, empty for the daemon's own URL."""

    issuer: str
    url: str
    keys: list[KeyView]


class KeyListView(View):
    issuers: list[IssuerKeysView]


class KeyRevokedView(View):
    """The key is withdrawn. `changed` is false when it was already; `keys` are the issuer's as they are now."""

    issuer: str
    url: str
    kid: str
    changed: bool
    keys: list[KeyView]
