"""Credentials that a third party makes for a job because we ask it to, such as GitHub's installation tokens.

They are decided, recorded, masked and ended like our own tokens. What differs is that making one is an act elsewhere
that may succeed without our learning of it: docs/decisions/0147 says which fact stands before it, and what
heals a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.errors import GiveUpError
from orchestrator.identity.issuer import Trusted
from orchestrator.model.decision import Decision
from orchestrator.model.events import TokenIssued
from orchestrator.model.job import JobId
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record


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
