"""Settings of the live page: who may look, who may act, and where people sign in."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from orchestrator.settings.fields import Group, Name

Claims = Annotated[dict[str, str], Field(min_length=1, max_length=16)]
Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
PageHost = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?$")]


class PageProviderSettings(Group):
    """An OpenID provider at which people sign in for the page. Register the redirect address
    `<server.public_url>/signin/<name>/callback` there."""

    name: Name
    """Part of the sign-in address."""
    label: Text = "Sign in"
    """What the page's button says."""
    issuer: Text
    """Exact issuer, `https://…`; its discovery document is read from there. Plain http from this machine only."""
    client_id: Text
    """As whom we ask."""
    client_secret_file: Path | None = None
    """File with the client's secret, of mode 0400; read again at each sign-in. None: a public client. PKCE is always
    used."""
    scopes: tuple[Text, ...] = Field(default=("openid", "profile", "email"), max_length=16)
    """What is asked for; `openid` must be in it. Some providers tell groups only for a scope of theirs."""
    algorithms: tuple[Literal["RS256", "ES256"], ...] = Field(default=("RS256", "ES256"), min_length=1)
    """Signature algorithms of ID tokens that are accepted."""
    viewer: tuple[Claims, ...] = Field(default=(), max_length=32)
    """Who may look: tables of claim to regular expression (matched in full). All of a table must match, and one table
    is enough; of a claim with several values, such as `groups`, one must match. Empty: nobody."""
    operator: tuple[Claims, ...] = Field(default=(), max_length=32)
    """Who may look and act (cancel jobs), by tables like those of `viewer`. Empty: nobody."""

    @field_validator("issuer")
    @classmethod
    def _https(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "https" and parts.hostname and not parts.query and not parts.fragment:
            return value
        if parts.scheme == "http" and is_loopback(parts.hostname or ""):
            return value
        raise ValueError("must be https:// with a host, without query or fragment (http:// for this machine only)")

    @field_validator("scopes")
    @classmethod
    def _asks_who(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value or any(" " in scope for scope in value):
            raise ValueError("must hold openid, and one scope in each entry")
        return value

    @field_validator("viewer", "operator")
    @classmethod
    def _compile(cls, tables: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
        for table in tables:
            for claim, pattern in table.items():
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"pattern for claim {claim!r} is not a regular expression: {error}") from None
        return tables

    @model_validator(mode="after")
    def _lets_somebody_in(self) -> PageProviderSettings:
        if not self.viewer and not self.operator:
            raise ValueError("lets nobody in: give viewer or operator")
        return self


class PageSessionSettings(Group):
    idle_seconds: float = Field(default=4 * 3600, ge=60, le=30 * 86400)
    """Unused for so long a session ends. What an open page asks by itself while nobody touches it is no use."""
    absolute_seconds: float = Field(default=12 * 3600, ge=60, le=30 * 86400)
    """After so long a session ends in any case. Roles are those at the sign-in, so this is also how long somebody who
    was removed at the provider can go on."""
    survive_restart: bool = True
    """Sessions go on over a restart of the daemon, until they would end anyway, unless the provider or its tables were
    changed meanwhile. They are kept in the state folder, as digests, and in no backup. With `false` all end with the
    daemon, and a restart ends all that there are."""
    link_seconds: float = Field(default=120, ge=10, le=3600)
    """How long a sign-in link that `orchestrator page` prints is good for, and the way back from a provider; each works
    once."""


class PageSettings(Group):
    enabled: bool = True
    """Serve the page at `/`. The API stays as it is without it."""
    anonymous: Literal["auto", "always", "never"] = "auto"
    """Who may look without signing in: `auto` everybody on this machine who asks for it by a name of its own, and only
    where the API listens on a loopback address and has no `public_url` of another host; `always` everybody who reaches
    the page, job output excepted; `never` nobody. Acting always needs a sign-in."""
    hosts: tuple[PageHost, ...] = Field(default=(), max_length=32)
    """Further names (with their port unless it is the scheme's own) under which browsers reach the page, besides that
    of `server.public_url` and this machine's own. A request under another name is refused, which is what keeps a
    foreign web site from reading the page by pointing its own name here."""
    session: PageSessionSettings = PageSessionSettings()
    providers: tuple[PageProviderSettings, ...] = Field(default=(), max_length=8)
    """Where people sign in. Without one there is the link of `orchestrator page`."""

    @field_validator("providers")
    @classmethod
    def _differ(cls, value: tuple[PageProviderSettings, ...]) -> tuple[PageProviderSettings, ...]:
        names = [one.name for one in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of providers must differ; given twice: {', '.join(twice)}")
        return value


def is_loopback(host: str) -> bool:
    """Whether a host name or address of a URL is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_redirect(page: PageSettings, public_url: str) -> None:
    """Raises ValueError: people would be sent back over plain http from elsewhere."""
    parts = urlsplit(public_url)
    if page.providers and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("page.providers need server.public_url to be https://: a sign-in must not cross a network")
