"""The documented shape of what the API shows of signing keys: never anything private."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.server.schemas import Flag, Request
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


class RotateKeysQuery(Request):
    issuer: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Name or URL of the issuer; absent: all of them."""
    at_once: Flag = "false"
    """Sign with the new keys now, before others can have fetched them."""


class IssuerRotatedView(View):
    """What a rotation came to for one issuer. `changed` is false when one was asked for before and still waits;
    `signs_at` is when the new keys sign, null for now."""

    issuer: str
    url: str
    changed: bool
    signs_at: str | None
    keys: list[KeyView]


class KeysRotatedView(View):
    issuers: list[IssuerRotatedView]


class KeyRevokedView(View):
    """The key is withdrawn. `changed` is false when it was already; `keys` are the issuer's as they are now."""

    issuer: str
    url: str
    kid: str
    changed: bool
    keys: list[KeyView]
