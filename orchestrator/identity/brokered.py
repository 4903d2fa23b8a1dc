"""Credentials that a third party makes for a job because we ask it to, such as GitHub's installation tokens.

They are decided, recorded, masked and ended like our own tokens. What differs is that making one is an act elsewhere
that may succeed without our learning of it: docs/decisions/0147 says which fact stands before it, and what
heals a crash.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from orchestrator.errors import GiveUpError
from orchestrator.identity.claims import lifetime_seconds, subject
from orchestrator.identity.issuer import Trusted
from orchestrator.model.decision import Decision
from orchestrator.model.events import TokenIssued
from orchestrator.model.job import JobId
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

GITHUB_INSTALLATION: Final = "github_installation"
"""`TokenIssued.kind` of GitHub's installation tokens."""

INSTALLATION_SECONDS: Final = 3600
"""Life of an installation token; GitHub grants no other."""
_CLOCKS_SECONDS: Final = 300
"""How far GitHub's clock may be ahead of ours."""
_REPOSITORY_ID: Final = re.compile(r"[1-9][0-9]{0,18}")


class CredentialNotMadeError(GiveUpError):
    """The third party did not give a credential.

    `certain`: none was made; otherwise one may exist there that nobody has, until the time that was recorded for it.
    `again`: the same request may succeed later.
    """

    def __init__(self, message: str, *, reason: str, certain: bool, again: bool = False, fix: str = "") -> None:
        super().__init__(message, reason=reason, fix=fix)
        self.certain = certain
        self.again = again


@dataclass(frozen=True, slots=True)
class BrokeredDraft:
    """A credential that is recorded and not made yet.

    `issued.expires_at` is the latest moment at which it can still live, `lifetime_seconds` how long the job may have
    it: after that we end it. It is good in the one repository with `repository_id`, for `permissions` (name to level).
    """

    issued: TokenIssued
    lifetime_seconds: int
    repository_id: str
    permissions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Credential:
    """What the third party gave, and when it ends by itself (Unix seconds)."""

    secret: str = field(repr=False)
    expires_at: int


def installation_draft(
    record: Record, pool: Pool, audience: str, decision: Decision, trusted: Trusted, *, vouches: str, now: int
) -> BrokeredDraft:
    """The installation token that policy's *allow* and the trust map's grant stand for. Pure.

    It is for the repository that the grant names, or for the job's own. `vouches` is the caller issuer whose fact
    `repository_id` is GitHub's number: another platform's repositories have numbers too. `now` is Unix seconds.

    Raises:
        GiveUpError: `not_allowed`, `github_repository_foreign`, `ttl_invalid`, `job_deadline_passed`.
    """
    if not decision.allowed:
        raise GiveUpError("policy did not allow this token", reason="not_allowed")
    grant, caller = trusted.grant, record.offer.caller
    vouched = not grant.own_repository or caller.issuer == vouches
    if not vouched or not _REPOSITORY_ID.fullmatch(grant.repository_id):
        raise GiveUpError(
            f"{grant.rule} is for the job's own repository at GitHub, and GitHub has vouched for none",
            reason="github_repository_foreign",
            fix="ask the owners of the trust map for a grant that names the repository_id",
        )
    lifetime = lifetime_seconds(record, pool, decision, (INSTALLATION_SECONDS, grant.max_ttl_seconds), now)
    latest = now + INSTALLATION_SECONDS + _CLOCKS_SECONDS
    issued = TokenIssued(
        jti=secrets.token_urlsafe(16),
        audience=audience,
        subject=subject(caller, record.offer.spec.pool, record.offer.spec.deployment_environment),
        algorithm="",
        key_id="",
        issued_at=now,
        expires_at=latest,
        kind=GITHUB_INSTALLATION,
    )
    # The credential itself is the session.
    told = replace(trusted.told(issued), session_expires_at=latest)
    return BrokeredDraft(told, lifetime, grant.repository_id, grant.permissions)


class Broker(Protocol):
    """Asks third parties; one for all audiences that are not ours to sign for."""

    def serves(self, audience: str) -> bool:
        """Whether the audience is one of a third party that is configured."""
        ...

    def draft(self, record: Record, pool: Pool, audience: str, decision: Decision, trusted: Trusted) -> BrokeredDraft:
        """What is to be made. Asks nobody.

        Raises:
            GiveUpError: the grant or the job is not fit for it.
        """
        ...

    async def make(self, job_id: JobId, draft: BrokeredDraft) -> Credential:
        """Have it made, and keep what is needed to end it, durably, before this returns.

        Whoever is cancelled while waiting leaves no credential behind: it is ended as soon as it is there.

        Raises:
            CredentialNotMadeError
        """
        ...

    def abandon(self, jti: str) -> None:
        """The job did not get it: end it soon. Never raises."""
        ...
