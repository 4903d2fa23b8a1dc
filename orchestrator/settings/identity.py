"""Settings of who jobs are to others: audiences, issuers, key rotation, trust maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.settings.fields import Group, Name, Seconds
from orchestrator.settings.github import GitHubPage, NumberOrText, ProxyUrl

TokenSeconds = Annotated[int, Field(ge=10, le=3600)]


class AudienceSettings(Group):
    algorithm: Literal["RS256", "ES256"] = "RS256"
    """Signature algorithm for tokens of this audience; RS256 is the one every cloud accepts."""
    max_ttl_seconds: int = Field(default=900, ge=10, le=86400)
    """Longest life of a token for this audience, in seconds."""


class IssuerSettings(Group):
    """An issuer of its own: its URL is `server.public_url` with `/issuers/` and its name, its keys lie in a folder of
    their own, and a token of another issuer never verifies under it. The trust map says who gets them."""

    audiences: tuple[str, ...] = Field(default=(), max_length=200)
    """Those of `identity.audiences` for which it issues, and no other. Empty: all of them."""
    token_ttl_seconds: TokenSeconds | None = None
    """Life of its tokens; none: `identity.token_ttl_seconds`."""
    rotation_seconds: Seconds | None = None
    """How long one of its keys signs; none: `identity.rotation_seconds`."""


class GitHubJobAppSettings(Group):
    """A GitHub App that makes installation tokens for jobs, each for one repository and with the permissions of a grant
    of the trust map. Give it no more than jobs are to have: an App of its own, not the one that manages runners."""

    url: GitHubPage
    """Page of the organisation or user that the App is installed on: `https://github.com/ORG`, or the same on
    `SUBDOMAIN.ghe.com` or a GitHub Enterprise Server."""
    client_id: NumberOrText
    """The App's client id (`Iv23…`), or its numeric id."""
    installation_id: int = Field(gt=0, lt=1 << 63)
    """Id of its installation on the account."""
    private_key_file: Path
    """PEM file with the App's private key; read again when it is replaced. Nobody else may read it (mode 0400)."""
    issuer: str = Field(default="", max_length=512)
    """Exact issuer of callers whose fact `repository_id` is GitHub's own number. Empty: GitHub's job tokens of the URL.
    Jobs of other issuers get a token only by a grant that names the repository itself."""
    ca_file: Path | None = None
    """PEM file with further CAs that vouch for a GitHub Enterprise Server."""
    proxy: ProxyUrl = ""
    """HTTP proxy for these requests, e.g. `http://proxy.example:3128`; empty for none."""


class IdentitySettings(Group):
    audiences: dict[str, AudienceSettings] = Field(default_factory=dict)
    """Audiences that jobs may ask for. Policy decides who may; an audience not listed is refused to all."""
    issuers: dict[Name, IssuerSettings] = Field(default_factory=dict, max_length=16)
    """Issuers besides the daemon's own URL, by name: one for each environment whose keys are to be apart."""
    trust_maps: tuple[Path, ...] = Field(default=(), max_length=100)
    """Trust maps: which verified facts may get which audience and role. Files, or folders of `.yaml` files, with one
    document for each environment; read again on SIGHUP. Once there is one, a job without a grant gets no token at all;
    policy must allow it as well. Empty: policy alone decides."""
    github_apps: dict[Name, GitHubJobAppSettings] = Field(default_factory=dict, max_length=100)
    """GitHub Apps whose installation tokens jobs can have, by name. A job asks for the audience `github:` and the name;
    only a trust map can grant it, in a target of kind `github`."""
    token_ttl_seconds: TokenSeconds = 300
    """Life of an issued token unless audience, policy or the job's deadline make it shorter."""
    rotation_seconds: Seconds = 7 * 86400
    """How long one key signs before the next takes over."""
    publish_ahead_seconds: Seconds = 86400
    """How long a new key is published before it signs, so that caches of the key set know it."""
    retire_seconds: Seconds = 86400 + 3600 + 600
    """How long an old key stays published: longest token, 10 minutes of clock skew, a day of caches."""
    caller_token_ttl_seconds: int = Field(default=600, ge=30, le=3600)
    """Life of the local caller token in the state folder, renewed at half of it."""

    @model_validator(mode="after")
    def _apps_need_grants(self) -> IdentitySettings:
        if self.github_apps and not self.trust_maps:
            raise ValueError("github_apps needs trust_maps: only a grant says which repository and which permissions")
        return self

    @model_validator(mode="after")
    def _issuers_issue_what_is_listed(self) -> IdentitySettings:
        for name, issuer in self.issuers.items():
            unknown = sorted(set(issuer.audiences) - set(self.audiences))
            if unknown:
                raise ValueError(
                    f"issuers.{name}.audiences names {unknown[0]!r}, which is not listed under identity.audiences"
                )
        return self
