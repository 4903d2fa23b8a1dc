"""Kinds of targets: what each does with a token, in figures, and the form that its roles have.

The defaults err towards the longer life, as they end up on a job's receipt as the latest possible end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_TTL_SECONDS: Final = 3600
"""The most that any target may bound its tokens' life to."""

DEFAULT_TTL_SECONDS: Final = 900

_ACCOUNT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z][a-z0-9.:-]{4,60}[a-z0-9]\.iam\.gserviceaccount\.com"


@dataclass(frozen=True, slots=True)
class RoleForm:
    """`pattern` every role matches in full; `example` is one, for errors."""

    pattern: re.Pattern[str]
    example: str


@dataclass(frozen=True, slots=True)
class Kind:
    """`session_seconds` is the default of the longest session, None where a document has to say it; it may be from
    `shortest_session` to `longest_session`. `roles` is None for targets that know none. `tags` says whether the target
    reads session tags, `permissions` whether a grant lists permissions instead of roles.
    """

    session_seconds: int | None
    shortest_session: int
    longest_session: int
    slack_seconds: int
    roles: RoleForm | None
    tags: bool = False
    permissions: bool = False
    enforceable_seconds: int = 0
    """The shortest limit on its sessions that the target can be told to enforce: a shorter one binds only who asks for
    it, and a job can ask by itself."""
    between_seconds: int = 0
    """Life of what stands between token and session: a session can begin until its end."""
    starts_later: bool = False
    """A job can ask for a session that begins as late as it likes, and nothing forbids it: no latest end is known."""
    by_nonce: bool = False
    """It takes a token once, and knows it again by its `nonce`; without one by its text, which has other spellings."""


KINDS: Final[dict[str, Kind]] = {
    # STS AssumeRoleWithWebIdentity: DurationSeconds from 900 to the role's limit, at most 12 h; takes tokens up to five
    # minutes after their expiry.
    "aws": Kind(
        3600,
        900,
        43200,
        300,
        RoleForm(
            re.compile(r"arn:aws(-[a-z]+){0,3}:iam::[0-9]{12}:role/([!-.0-~]+/){0,8}[A-Za-z0-9+=,.@_-]{1,64}"),
            "arn:aws:iam::123456789012:role/app-release",
        ),
        tags=True,
        enforceable_seconds=3600,  # MaxSessionDuration of a role
    ),
    # STS gives a federated token of 1 h; with it, until its end, generateAccessToken gives a service account's for 1 h,
    # or up to 12 h where the organisation allows it.
    "gcp": Kind(
        3600,
        600,
        43200,
        60,
        RoleForm(re.compile(_ACCOUNT), "release@shop-prod.iam.gserviceaccount.com"),
        enforceable_seconds=3600,
        between_seconds=3600,
    ),
    # Entra gives access tokens of 60 to 90 minutes, and of up to 24 h to a client that says it can handle continuous
    # access evaluation, which any job can say. Its clocks may differ by 5 minutes. A role is a client id.
    "azure": Kind(
        86400,
        600,
        86400,
        300,
        RoleForm(re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "11111111-2222-3333-4444-555555555555"),
    ),
    # auth/jwt: the role's token_max_ttl decides, and its default is a month; 60 s of leeway on expiry.
    "vault": Kind(None, 1, 2764800, 60, RoleForm(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"), "app-release")),
    # The certificate outlives the token: 24 h unless the provisioner says less. That limits its length, and
    # not its beginning.
    "step-ca": Kind(86400, 60, 2764800, 60, None, starts_later=True, by_nonce=True),
    # Structured authentication uses the token itself, and the API server remembers its answer for 10 s. A role is a
    # group that the authentication configuration takes from the claim `role`.
    "kubernetes": Kind(
        0,
        0,
        0,
        10,
        RoleForm(re.compile(r"(?!system:)[a-z0-9]([a-z0-9.:-]{0,251}[a-z0-9])?"), "deployers"),
    ),
    # Anybody else who reads the token itself, or exchanges it. A role is any scope (RFC 6749 section 3.3).
    "oidc": Kind(0, 0, 2764800, 60, RoleForm(re.compile(r"[!#-\[\]-~]{1,255}"), "release"), tags=True),
    # An installation token, made for the job: always 1 h, and revoked at its end.
    "github": Kind(3600, 3600, 3600, 0, None, permissions=True),
}
