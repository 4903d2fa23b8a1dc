"""Makes our tokens and checks them again: RS256 by default, ES256 where an audience's settings say so."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import jwt

from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.identity.claims import AWS_TAGS_CLAIM, job_claims, lifetime_seconds, merged_tags, session_tags
from orchestrator.identity.jwks import ALGORITHMS, discovery_document, jwks_document
from orchestrator.identity.keys import KeyStore, SigningKey
from orchestrator.identity.signature import TokenInvalidError, open_token, read_header
from orchestrator.identity.trust.answers import Grant
from orchestrator.identity.trust.kinds import KINDS
from orchestrator.model.decision import Decision
from orchestrator.model.events import TokenIssued
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

OPERATOR: Final = "operator"
"""Subject of the local caller token; a job's subject never looks like it."""

_MAX_CLAIMS_BYTES: Final = 8192
_SKEW_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class AudienceConfig:
    algorithm: str = "RS256"
    max_ttl_seconds: int = 900


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """`issuer` is the URL byte for byte; `audiences` are the only ones a job can ever get a token for.

    `introspection_url` is where its tokens are asked about; empty for below its own URL. `own` marks an issuer that is
    not the daemon's own URL: facts then name it.

    Raises:
        ConfigurationError: a value that would make tokens unusable or unsafe.
    """

    issuer: str
    audiences: Mapping[str, AudienceConfig] = field(default_factory=dict)
    token_ttl_seconds: int = 300
    caller_token_ttl_seconds: int = 600
    introspection_url: str = ""
    own: bool = False

    def __post_init__(self) -> None:
        if not self.issuer.startswith(("http://", "https://")) or self.issuer.endswith("/"):
            raise ConfigurationError("the issuer must be an http(s) URL without a trailing slash", fix="see public_url")
        # A job's token must never be a caller token.
        if self.issuer in self.audiences:
            raise ConfigurationError(
                "the daemon's own URL cannot be an audience: jobs could dispatch jobs as the operator",
                fix="remove it from identity.audiences",
            )
        for name, audience in self.audiences.items():
            if not 0 < len(name) <= 255 or not name.isprintable():
                raise ConfigurationError("an audience has 1 to 255 printable characters", fix="see identity.audiences")
            if audience.algorithm not in ALGORITHMS or audience.max_ttl_seconds <= 0:
                raise ConfigurationError(f"audience {name!r} needs RS256 or ES256 and a positive longest life")
        if min(self.token_ttl_seconds, self.caller_token_ttl_seconds) <= 0:
            raise ConfigurationError("token lives must be positive")
        object.__setattr__(self, "audiences", MappingProxyType(dict(self.audiences)))

    @property
    def longest_token_seconds(self) -> int:
        cap = max((audience.max_ttl_seconds for audience in self.audiences.values()), default=0)
        return max(min(self.token_ttl_seconds, cap), self.caller_token_ttl_seconds)


@dataclass(frozen=True, slots=True)
class Trusted:
    """The trust map's grant for one token, and the digest of the map that gave it."""

    grant: Grant
    digest: str

    def claims(self) -> dict[str, str]:
        """`trust_rule`, and `role` where the grant has one."""
        role = {"role": self.grant.role} if self.grant.role else {}
        return {"trust_rule": self.grant.rule, **role}

    def told(self, issued: TokenIssued) -> TokenIssued:
        """The fact with what the trust map adds to it.

        A session at the target begins at the latest when the target, with its slack, stops taking the token. Where a
        job can have it begin later, its latest end is not known.
        """
        grant, target = self.grant, self.grant.target
        latest = issued.expires_at + target.slack_seconds + target.latest_session_seconds
        return replace(
            issued,
            role=grant.role,
            rule=grant.rule,
            trust_digest=self.digest,
            session_expires_at=0 if KINDS[target.kind].starts_later else latest,
            target=target.name,
        )


@dataclass(frozen=True, slots=True)
class TokenDraft:
    """A token that exists in every detail but its signature, so that its facts can be recorded first."""

    claims: Mapping[str, Any]
    key: SigningKey
    issued: TokenIssued

    @property
    def lifetime_seconds(self) -> int:
        return self.issued.expires_at - self.issued.issued_at


class Issuer:
    """`clock_ns` gives Unix time in nanoseconds.

    Raises:
        ConfigurationError: keys would leave the key set before the last token they signed is dead.
    """

    def __init__(self, config: IssuerConfig, keys: KeyStore, clock_ns: Callable[[], int]) -> None:
        if keys.schedule.retire_seconds < config.longest_token_seconds + _SKEW_SECONDS:
            raise ConfigurationError(
                f"retire_seconds is shorter than the longest token ({config.longest_token_seconds} s) plus 10 minutes",
                fix="raise identity.retire_seconds or lower the token lives",
            )
        self.config = config
        self.keys = keys
        self._clock_ns = clock_ns

    @property
    def url(self) -> str:
        return self.config.issuer

    def now(self) -> int:
        """Unix seconds, rounded down."""
        return self._clock_ns() // 1_000_000_000

    def discovery(self) -> dict[str, Any]:
        return discovery_document(self.config.issuer, self.config.introspection_url)

    def jwks(self) -> dict[str, Any]:
        return jwks_document(self.keys.published())

    def draft(
        self,
        record: Record,
        pool: Pool,
        audience: str,
        decision: Decision,
        trusted: Trusted | None = None,
        summary: str = "",
    ) -> TokenDraft:
        """The token that policy's *allow* and the trust map's grant stand for; not yet signed.

        `trusted` is None where there is no trust map; `summary` is the digest of the verification summary that a deploy
        job's identity is bound to. The token's life is the shortest of: audience's cap, the grant's,
        policy's limit at admission and at this exchange, the default, and what is left until the job's deadline.

        Raises:
            GiveUpError: `audience_unlisted`, `not_allowed`, `job_deadline_passed`, `session_tags_invalid`,
                `session_tags_conflict`, `ttl_invalid`, `claims_too_large`.
        """
        settings = self.config.audiences.get(audience)
        if settings is None:
            raise GiveUpError("the audience is not listed", reason="audience_unlisted", fix="see identity.audiences")
        if not decision.allowed:
            raise GiveUpError("policy did not allow this token", reason="not_allowed")
        now = self.now()
        caps = [settings.max_ttl_seconds, self.config.token_ttl_seconds]
        caps += [trusted.grant.max_ttl_seconds] if trusted else []
        lifetime = lifetime_seconds(record, pool, decision, caps, now)
        tags = decision.obligations.session_tags
        claims = job_claims(record, pool, decision_id=decision.id, summary=summary)
        if trusted:
            tags = merged_tags(tags, trusted.grant.session_tags)
            claims |= trusted.claims()
        if tags:
            claims[AWS_TAGS_CLAIM] = session_tags(tags, trusted.grant.transitive if trusted else ())
        claims |= self._envelope(audience, now, lifetime)
        if trusted and KINDS[trusted.grant.target.kind].by_nonce:
            claims["nonce"] = claims["jti"]
        if len(json.dumps(claims)) > _MAX_CLAIMS_BYTES:
            raise GiveUpError(
                f"the token would exceed {_MAX_CLAIMS_BYTES} bytes of claims",
                reason="claims_too_large",
                fix="map fewer claims to facts, or set fewer session tags",
            )
        draft = self._drafted(claims, settings.algorithm, tuple(sorted(tags)))
        return draft if trusted is None else replace(draft, issued=trusted.told(draft.issued))

    def mint_caller_token(self, subject: str = OPERATOR) -> tuple[str, int]:
        """A token for the local command line, audience our own URL, and its end in Unix seconds."""
        claims = {"sub": subject, **self._envelope(self.url, self.now(), self.config.caller_token_ttl_seconds)}
        draft = self._drafted(claims, "ES256", ())
        return self.sign(draft), draft.issued.expires_at

    def sign(self, draft: TokenDraft) -> str:
        """The token itself. About 0.8 ms of processor time for RS256, 0.1 ms for ES256.

        Raises:
            GiveUpError: `key_revoked`, the key was withdrawn since the draft.
        """
        if not self.keys.publishes(draft.key.kid):
            raise GiveUpError("the signing key was withdrawn", reason="key_revoked", fix="ask again")
        return jwt.encode(
            dict(draft.claims), draft.key.private, algorithm=draft.key.algorithm, headers={"kid": draft.key.kid}
        )

    def open(self, token: str) -> Mapping[str, Any] | None:
        """The claims of a token of ours whose signature, issuer and times hold now; None otherwise.

        The audience is not looked at: this is for introspection, where the token is told about, not used.
        """
        try:
            header = read_header(token)
            key = self.keys.verify_key(header.kid)
            if key is None or header.algorithm != key.algorithm:
                return None
            claims = open_token(token, key, issuer=self.url, audience=None)
        except TokenInvalidError:
            return None
        now = self.now()
        return claims if claims["iat"] <= now < claims["exp"] and claims.get("nbf", 0) <= now else None

    def _envelope(self, audience: str, now: int, lifetime: int) -> dict[str, Any]:
        return {
            "iss": self.url,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "jti": secrets.token_urlsafe(16),
        }

    def _drafted(self, claims: dict[str, Any], algorithm: str, tags: tuple[str, ...]) -> TokenDraft:
        key = self.keys.signing_key(algorithm)
        issued = TokenIssued(
            jti=claims["jti"],
            audience=claims["aud"],
            subject=claims["sub"],
            algorithm=algorithm,
            key_id=key.kid,
            issued_at=claims["iat"],
            expires_at=claims["exp"],
            session_tags=tags,
            issuer=self.url if self.config.own else "",
        )
        return TokenDraft(claims, key, issued)
