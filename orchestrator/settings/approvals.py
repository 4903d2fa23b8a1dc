"""Settings of approvals and of exceptions to the rules: who signs is in the approvers' file, bounds are here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.settings.fields import Group, Seconds


class ApprovalIssuerSettings(Group):
    """An OIDC issuer whose tokens show who a person is. They approve, and do nothing else here."""

    issuer: str = Field(min_length=1, max_length=512)
    """Exact `iss` of its tokens; also where its discovery document is fetched from."""
    audience: str = Field(min_length=1, max_length=255)
    """The one `aud` that its tokens must carry for us; another one than that of callers, so that a token which was
    meant to dispatch a job never approves one."""
    jwks_file: Path | None = None
    """Key set from a file instead of by discovery."""
    algorithms: tuple[Literal["RS256", "ES256"], ...] = ("RS256", "ES256")
    """Signature algorithms accepted."""
    max_age_seconds: Seconds = 600
    """Oldest `iat` accepted, in seconds: an approval is to be given by somebody who is there now."""


class ApprovalsSettings(Group):
    people: Path | None = None
    """The approvers' file (YAML): who may sign what, and who they are elsewhere; read again on SIGHUP. None: nobody
    may, and what demands an approval is denied."""
    objects: tuple[Path, ...] = Field(default=(), max_length=16)
    """Folders of signed objects (`.json`), such as a checkout of a repository; read at the start and on SIGHUP. Others
    are given in over the API."""
    issuers: tuple[ApprovalIssuerSettings, ...] = Field(default=(), max_length=8)
    """Issuers by whose tokens people may sign over the API, without a key of their own."""
    max_approval_seconds: Annotated[float, Field(gt=0, le=90 * 86400)] = 7 * 86400
    """Longest life of an approval, from its start to its end."""
    max_break_glass_seconds: Annotated[float, Field(gt=0, le=7 * 86400)] = 4 * 3600
    """Longest life of a break-glass."""
    max_override_seconds: Annotated[float, Field(gt=0, le=86400)] = 3600
    """Longest life of an override."""
    break_glass_approvers: int = Field(default=2, ge=2, le=5)
    """People who must sign a break-glass besides the one who asks for it; never fewer than two."""
    max_uses: int = Field(default=20, ge=1, le=100)
    """Most jobs that one exception may be asked for."""
    review_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 3 * 86400
    """How long after its first use an exception may go without a review. After that no break-glass of the same
    environment and repository counts until somebody has reviewed it. 0: nobody has to."""

    @model_validator(mode="after")
    def _people_first(self) -> ApprovalsSettings:
        if (self.objects or self.issuers) and self.people is None:
            raise ValueError("objects and issuers need people: without the approvers' file nobody's signature counts")
        names = [one.issuer for one in self.issuers]
        if len(set(names)) != len(names):
            raise ValueError("issuers names an issuer twice")
        return self
