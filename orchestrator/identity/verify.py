"""Who dispatches: checks a caller's OIDC token against the table of its issuer.

Trust is data. Each issuer has one audience, a table of claims that must match in full, and a table that
maps claims to facts; an empty table of requirements trusts nobody. A claim that no table names does
not exist for us.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.identity.issuer import OPERATOR, Issuer
from orchestrator.identity.issuer_keys import DiscoveredKeys, FileKeys, KeySource, OwnKeys
from orchestrator.identity.jwks import ALGORITHMS
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.signature import (
    SignedClaims,
    TokenInvalidError,
    open_token,
    read_header,
    unverified_issuer,
)
from orchestrator.model.job import Caller

LEEWAY_SECONDS: Final = 30
"""Clock difference granted to caller issuers, on `exp`, `nbf` and `iat` alike."""

MAX_CLAIM_CHARS: Final = 1024
_MAX_SUBJECT_CHARS: Final = 512
_MAX_RULES: Final = 64

_FIXES: Final[Mapping[str, str]] = {
    "token_missing": "send Authorization: Bearer <token>",
    "token_expired": "fetch a new token",
    "token_too_old": "fetch a new token",
    "token_not_yet_valid": "check the clocks of the caller's issuer and of this machine",
    "token_replayed": "fetch a new token for each idempotency key",
    "issuer_unknown": "the issuer must be listed under callers, byte for byte",
    "audience_mismatch": "request the token for the audience that is configured for its issuer, as a single string",
    "claim_mismatch": "the token's claims do not meet the issuer's require table",
    "algorithm_refused": "the issuer must sign with an algorithm listed for it",
}


class CallerRefusedError(GiveUpError):
    """The caller is not let in. `issuer` is set when the token's signature proved it, for the audit."""

    def __init__(self, reason: str, message: str, *, issuer: str = "") -> None:
        super().__init__(message, reason=reason, fix=_FIXES.get(reason, "send a token of a configured issuer"))
        self.issuer = issuer


@dataclass(frozen=True, slots=True)
class CallerIssuerConfig:
    """One row of trust; the fields mean what the settings of the same names say.

    `ssl_context` and `proxy` (a URL) are for fetching its keys.

    Raises:
        ConfigurationError: `require` is empty, a pattern is no regular expression, or a value is out of range.
    """

    issuer: str
    audience: str
    require: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)
    algorithms: tuple[str, ...] = ALGORITHMS
    jwks_file: Path | None = None
    max_age_seconds: float = 3600
    single_use: bool = True
    ssl_context: ssl.SSLContext | None = None
    proxy: str = ""

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience:
            raise ConfigurationError("a caller issuer needs its issuer and audience", fix="see callers")
        if not self.require:
            raise ConfigurationError(
                f"caller issuer {self.issuer} has an empty require table, which would trust everybody there",
                fix="require at least one claim, for example repository",
            )
        if max(len(self.require), len(self.facts)) > _MAX_RULES:
            raise ConfigurationError(f"a caller issuer has at most {_MAX_RULES} required claims and facts")
        if not self.algorithms or not set(self.algorithms) <= set(ALGORITHMS):
            raise ConfigurationError(f"caller issuer {self.issuer}: algorithms are RS256 and ES256")
        if self.max_age_seconds <= 0:
            raise ConfigurationError(f"caller issuer {self.issuer}: max_age_seconds must be positive")
        for claim, pattern in self.require.items():
            try:
                re.compile(pattern)
            except re.error:
                raise ConfigurationError(f"the pattern for claim {claim!r} is not a regular expression") from None


@dataclass(frozen=True, slots=True)
class _Row:
    config: CallerIssuerConfig
    require: Mapping[str, re.Pattern[str]]
    keys: KeySource


def _row(config: CallerIssuerConfig, keys: KeySource) -> _Row:
    return _Row(config, {claim: re.compile(pattern) for claim, pattern in config.require.items()}, keys)


def _keys(config: CallerIssuerConfig, monotonic: Callable[[], float]) -> KeySource:
    if config.jwks_file is not None:
        return FileKeys(config.jwks_file)
    return DiscoveredKeys(config.issuer, monotonic, ssl_context=config.ssl_context, proxy=config.proxy)


def claim_text(value: object) -> str | None:
    """A claim as text for tables: strings, integers and booleans (`true`, `false`); None for all else.

    Too long a value, and one that is not encodable Unicode, is None as well.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 63 else None
    if not isinstance(value, str) or len(value) > MAX_CLAIM_CHARS:
        return None
    # JSON can carry half a surrogate pair, which no later stage could encode; NUL and kin are no better.
    return value if not any(0xD800 <= ord(c) <= 0xDFFF or ord(c) < 0x20 for c in value) else None


def check_times(claims: Mapping[str, Any], now: float, max_age_seconds: float) -> None:
    """RFC 7519 sections 4.1.4 to 4.1.6, plus a greatest age. Pure.

    Raises:
        TokenInvalidError: `token_expired`, `token_not_yet_valid`, `token_too_old`.
    """
    if now >= claims["exp"] + LEEWAY_SECONDS:
        raise TokenInvalidError("token_expired", "the token has expired")
    if max(claims["iat"], claims.get("nbf", 0)) > now + LEEWAY_SECONDS:
        raise TokenInvalidError("token_not_yet_valid", "the token is from the future")
    if now >= claims["iat"] + max_age_seconds + LEEWAY_SECONDS:
        raise TokenInvalidError("token_too_old", "the token was issued too long ago")


def spent_until(claims: Mapping[str, Any], max_age_seconds: float) -> float:
    """The first moment at which `check_times` refuses the token anyway; a replay entry lives until then."""
    return float(min(claims["exp"], claims["iat"] + max_age_seconds) + LEEWAY_SECONDS)


def map_caller(claims: SignedClaims, config: CallerIssuerConfig, require: Mapping[str, re.Pattern[str]]) -> Caller:
    """Signed claims through the issuer's two tables. Pure.

    Raises:
        TokenInvalidError: `claim_mismatch`.
    """
    for claim, pattern in require.items():
        text = claim_text(claims.get(claim))
        if text is None or not pattern.fullmatch(text):
            raise TokenInvalidError("claim_mismatch", f"claim {claim!r} is not what this issuer's callers must have")
    facts = {}
    for fact, claim in config.facts.items():
        if claim not in claims:
            continue
        text = claim_text(claims[claim])
        if text is None:
            raise TokenInvalidError("claim_mismatch", f"claim {claim!r} cannot be a fact: not text, or too long")
        facts[fact] = text
    subject = claim_text(claims["sub"])
    if not subject or len(subject) > _MAX_SUBJECT_CHARS:
        raise TokenInvalidError("claim_mismatch", "the token's sub is empty, too long or not text")
    return Caller(issuer=config.issuer, subject=subject, facts=facts)


def _token_id(token: str, claims: Mapping[str, Any]) -> str:
    """What names the token for replay: `jti`, else what was signed (an ES256 signature itself can be varied)."""
    if isinstance(claims.get("jti"), str) and claims["jti"]:
        return f"jti:{hashlib.sha256(claims['jti'].encode(errors='surrogatepass')).hexdigest()}"
    return f"signed:{hashlib.sha256(token.rpartition('.')[0].encode()).hexdigest()}"


class CallerVerifier:
    """Verifies caller tokens; close it at shutdown. `clock_ns` is Unix time, `monotonic` for caches.

    Raises:
        ConfigurationError: an issuer is listed twice, a key set file is bad, an issuer is plain http.
    """

    def __init__(
        self,
        configs: tuple[CallerIssuerConfig, ...],
        *,
        local: Issuer | None,
        replay: ReplayStore,
        clock_ns: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._replay = replay
        self._clock_ns = clock_ns
        self._rows: dict[str, _Row] = {}
        if local is not None:
            config = CallerIssuerConfig(
                issuer=local.url,
                audience=local.url,
                require={"sub": re.escape(OPERATOR)},
                max_age_seconds=local.config.caller_token_ttl_seconds,
                single_use=False,
            )
            self._rows[local.url] = _row(config, OwnKeys(local.keys))
        for config in configs:
            if config.issuer in self._rows:
                raise ConfigurationError(f"caller issuer {config.issuer} is listed twice", fix="merge the two entries")
            self._rows[config.issuer] = _row(config, _keys(config, monotonic))

    async def close(self) -> None:
        for row in self._rows.values():
            await row.keys.close()

    async def verify(self, token: str, idempotency_key: str | None = None) -> Caller:
        """The caller behind a token. Pass the idempotency key of calls that create something.

        Raises:
            CallerRefusedError: with the reason.
            TryAgainError: `issuer_unreachable`, `replay_store_full`, `replay_store_unwritable`.
        """
        proven = ""
        try:
            row = self._row_of(token)
            claims = await self._signed_claims(token, row)
            proven = row.config.issuer
            now = self._clock_ns() / 1e9
            check_times(claims, now, row.config.max_age_seconds)
            caller = map_caller(claims, row.config, row.require)
            if idempotency_key is not None and row.config.single_use:
                until = spent_until(claims, row.config.max_age_seconds)
                name = f"{row.config.issuer}\0{_token_id(token, claims)}"
                if not await self._replay.spend(name, idempotency_key, until, now):
                    raise TokenInvalidError("token_replayed", "the token was used with another idempotency key")
        except TokenInvalidError as error:
            raise CallerRefusedError(error.reason, str(error), issuer=proven) from None
        return caller

    def _row_of(self, token: str) -> _Row:
        read_header(token)
        row = self._rows.get(unverified_issuer(token))
        if row is None:
            raise TokenInvalidError("issuer_unknown", "the token's issuer may not dispatch here")
        return row

    async def _signed_claims(self, token: str, row: _Row) -> SignedClaims:
        header = read_header(token)
        if header.algorithm not in row.config.algorithms:
            raise TokenInvalidError("algorithm_refused", "the token is signed with an algorithm not accepted here")
        key = await row.keys.key(header.kid)
        if key is None:
            raise TokenInvalidError("signature_invalid", "the token names a key that its issuer does not publish")
        if key.algorithm != header.algorithm:
            raise TokenInvalidError("algorithm_refused", "the token's algorithm is not its key's")
        return open_token(token, key, issuer=row.config.issuer, audience=row.config.audience)
