"""Settings of the tracker that knows release tickets: where a ticket is read, and where in it the facts are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator

from orchestrator.settings.commits import EnvironmentName
from orchestrator.settings.fields import Group
from orchestrator.settings.github import ProxyUrl, is_loopback

FieldPath = Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7})?$")]
"""Names of members from the outside to the inside, with dots between them; empty for none."""
Value = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
_PLACE = "{id}"


def _with_place(value: str) -> str:
    """An address with exactly one place for the id, behind the host."""
    try:
        parts = urlsplit(value.replace(_PLACE, "ID"))
        _ = parts.port
    except ValueError:
        raise ValueError("is no URL; write it as https://host/path/{id}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must start with https:// and name a host")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must start with https://; plain http is for this machine itself only")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user name or password; use token_file")
    if parts.fragment or value.count(_PLACE) != 1 or _PLACE in value.split("/", 3)[2]:
        raise ValueError("must have the place {id} exactly once, in its path or query")
    return value


TicketUrl = Annotated[str, Field(max_length=1024), AfterValidator(_with_place)]


class TicketFieldSettings(Group):
    """Where in the tracker's JSON the facts are. The defaults are those of Jira."""

    id: FieldPath = "key"
    """The ticket's own id, which must be the one that was asked for. Empty: the answer tells none."""
    status: FieldPath = "fields.status.statusCategory.key"
    """What `open_values` are compared with; a text, a number, or true and false."""
    project: FieldPath = "fields.project.key"
    """The project or service it belongs to."""
    type: FieldPath = "fields.issuetype.name"
    """Its kind, such as `Release`."""


class TicketSettings(Group):
    """A tracker that is asked for the release ticket of a deployment: `input.ticket` of policy."""

    url: TicketUrl
    """Address of a ticket's JSON with `{id}` in the id's place, such as
    `https://tracker.example/rest/api/2/issue/{id}`. Redirects are not followed."""
    page: TicketUrl | None = None
    """Address of the ticket's page for people, with `{id}`; shown in reasons. None: `url`."""
    pattern: Annotated[str, Field(min_length=1, max_length=200)] = r"[A-Z][A-Z0-9]{1,19}-[1-9][0-9]{0,9}"
    """Regular expression that an id must match in full; another one is no ticket, and the tracker is not asked."""
    token_file: Path | None = None
    """File with the credential, read again when it is replaced. Nobody else may read it (mode 0400)."""
    environments: tuple[EnvironmentName, ...] = Field(default=(), max_length=100)
    """Deployments to these only need the tracker; others are told nothing of a ticket. Empty: all."""
    scheme: Literal["Bearer", "Basic", "token", "PRIVATE-TOKEN"] = "Bearer"
    """How the credential is sent: `Authorization` with this scheme (Basic: the file holds `user:token` in Base64), or
    the header `PRIVATE-TOKEN`."""
    fields: TicketFieldSettings = TicketFieldSettings()
    open_values: tuple[Value, ...] = Field(default=("new", "indeterminate"), min_length=1, max_length=50)
    """Values of `fields.status` that mean *open*, in exactly this spelling. Any other is closed."""
    trailer: Annotated[str, Field(pattern=r"^([A-Za-z][A-Za-z0-9-]{0,62})?$")] = ""
    """Name of a trailer, such as `Release-Ticket`, in the message of the artifact's commit, for jobs that name no
    ticket: those of a platform cannot. Needs `commits`; only a commit on a protected branch counts. Empty: none."""
    ca_file: Path | None = None
    """PEM file with further CAs that vouch for the tracker."""
    proxy: ProxyUrl = ""
    """HTTP proxy for these requests; empty for none."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5
    """Longest wait for an answer; after it the decision is *error*, which denies."""
    max_age_seconds: Annotated[float, Field(ge=0, le=600)] = 15
    """How long an answer may serve further decisions; as long may a ticket that was closed still count as open."""

    @field_validator("pattern")
    @classmethod
    def _compile(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value
