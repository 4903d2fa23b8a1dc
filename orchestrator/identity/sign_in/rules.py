"""Who somebody is and what they may do, by the claims of a verified ID token. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.identity.signature import SignedClaims, TokenInvalidError
from orchestrator.identity.verify import claim_text

Table = Mapping[str, re.Pattern[str]]
"""Claim to pattern, matched in full; all must match."""

_NAMES: Final = ("name", "preferred_username", "email", "sub")
"""Where a name for people is looked for, in this order."""
_MAX_NAME: Final = 100
_MAX_SUBJECT: Final = 255
"""OpenID Connect Core 1.0, section 2."""
_MAX_VALUES: Final = 2000


@dataclass(frozen=True, slots=True)
class Rules:
    """One table that matches is enough for a role; without any nobody has it."""

    viewer: Sequence[Table] = ()
    operator: Sequence[Table] = ()

    def role(self, claims: SignedClaims) -> str:
        """`operator`, `viewer`, or nothing at all."""
        if any(_matches(claims, table) for table in self.operator):
            return "operator"
        return "viewer" if any(_matches(claims, table) for table in self.viewer) else ""


@dataclass(frozen=True, slots=True)
class Person:
    """`issuer` and `subject` are who it is; `name` is their own word for it."""

    issuer: str
    subject: str
    name: str
    role: str


def person(claims: SignedClaims, issuer: str, rules: Rules) -> Person:
    """Raises TokenInvalidError: `claim_mismatch`: there is no usable subject."""
    subject = claim_text(claims["sub"])
    if not subject or len(subject) > _MAX_SUBJECT:
        raise TokenInvalidError("claim_mismatch", "the token's sub is empty, too long or not text")
    return Person(issuer, subject, _name(claims), rules.role(claims))


def check_audience(claims: SignedClaims, client_id: str) -> None:
    """OpenID Connect Core 1.0, section 3.1.3.7, steps 3 to 5: it is for us, and was given to us.

    Raises:
        TokenInvalidError: `audience_mismatch`.
    """
    audience = claims["aud"]
    several = isinstance(audience, list)
    named = client_id in audience if isinstance(audience, list) else audience == client_id
    party = claims.get("azp", None if several and len(audience) > 1 else client_id)
    if not named or party != client_id:
        raise TokenInvalidError("audience_mismatch", "the token is for another client")


def check_nonce(claims: SignedClaims, nonce: str) -> None:
    """Section 3.1.3.7, step 11: the token answers this very attempt.

    Raises:
        TokenInvalidError: `nonce_mismatch`.
    """
    told = claims.get("nonce")
    if not isinstance(told, str) or not hmac.compare_digest(told.encode(errors="replace"), nonce.encode()):
        raise TokenInvalidError("nonce_mismatch", "the token answers another sign-in")


def _matches(claims: SignedClaims, table: Table) -> bool:
    return bool(table) and all(_fits(claims.get(claim), pattern) for claim, pattern in table.items())


def _fits(value: Any, pattern: re.Pattern[str]) -> bool:
    values = value[:_MAX_VALUES] if isinstance(value, list) else [value]
    texts = (claim_text(one) for one in values)
    return any(text is not None and pattern.fullmatch(text) for text in texts)


def _name(claims: SignedClaims) -> str:
    for claim in _NAMES:
        text = claim_text(claims.get(claim)) or ""
        shown = "".join(letter for letter in text if letter.isprintable()).strip()[:_MAX_NAME]
        if shown:
            return shown
    return ""
