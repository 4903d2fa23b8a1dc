"""What happened to a job's credentials: asked for, decided, issued, refused, revoked. See `events`."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.decision import Decision


@dataclass(frozen=True, slots=True)
class ExchangeDecided:
    """Policy's answer to one token request, recorded before a token exists."""

    audience: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class TokenIssued:
    """A token went to the job: never its value, only what names it. Times are Unix seconds.

    `role`, `rule` and `trust_digest` (`sha256:<hex>` of the trust map) are empty without a trust map. `issuer` is the
    `iss`, empty for the daemon's own URL. `session_expires_at` is the latest moment at which a session made from this
    token at its target can still live: the token's own end plus the target's slack and longest session; 0 when the
    target is not known, or lets a job have its session begin later. `kind` is `id_token`, or the kind of a credential
    that a third party makes for us, such as `github_installation`: that is recorded before it is made, so `jti` is a
    name of our own for it, and `expires_at` the latest moment at which it can still live.
    """

    jti: str
    audience: str
    subject: str
    algorithm: str
    key_id: str
    issued_at: int
    expires_at: int
    session_tags: tuple[str, ...] = ()
    role: str = ""
    rule: str = ""
    trust_digest: str = ""
    issuer: str = ""
    session_expires_at: int = 0
    kind: str = "id_token"
    target: str = ""


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """`rule` and `detail` say which rule of the trust map refused it, and by which claim.

    `jti` is set when a third party was to make a credential that had been recorded as issued, and certainly made none.
    """

    audience: str
    reason: str
    role: str = ""
    rule: str = ""
    detail: str = ""
    jti: str = ""


@dataclass(frozen=True, slots=True)
class CredentialRevoked:
    """A third party's credential, made for the job by us, was ended there before it expired; `jti` as it was issued."""

    jti: str
    kind: str
