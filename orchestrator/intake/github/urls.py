"""What the URL of a configured organisation, repository or enterprise says: scope, API base, OIDC issuer. Pure.

The forms are those that `actions/scaleset` accepts; the issuers are those of GitHub's OpenID Connect reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote, urlsplit

from orchestrator.errors import ConfigurationError

MAX_URL_CHARS: Final = 2048
_HOSTED: Final = frozenset({"github.com", "www.github.com", "github.localhost"})
_CLOUD_SUFFIX: Final = ".ghe.com"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")


class Scope(StrEnum):
    """Whose runners they are."""

    ORGANIZATION = "organization"
    REPOSITORY = "repository"
    ENTERPRISE = "enterprise"


class Flavour(StrEnum):
    """Which GitHub it is: the common one, a company's own cloud (`*.ghe.com`), or a server somebody runs (GHES)."""

    GITHUB_COM = "github.com"
    GHE_COM = "ghe.com"
    SERVER = "ghes"


@dataclass(frozen=True, slots=True)
class GitHubUrl:
    """A configuration URL, taken apart.

    `owner` is the organisation, the repository's owner or the enterprise; `repository` is empty unless the scope is
    a repository. `host` keeps its port. `text` is what GitHub is told at the registration: without outer slashes.
    """

    text: str
    scheme: str
    host: str
    scope: Scope
    owner: str
    repository: str
    flavour: Flavour

    @property
    def api_base(self) -> str:
        """REST base without a final slash."""
        if self.flavour is Flavour.SERVER:
            return f"{self.scheme}://{self.host}/api/v3"
        return f"{self.scheme}://api.{self.host.removeprefix('www.')}"

    @property
    def api_path(self) -> str:
        """The scope below the API base, quoted: `/orgs/acme`, `/repos/acme/shop`, `/enterprises/e`."""
        owner = quote(self.owner, safe="")
        match self.scope:
            case Scope.ORGANIZATION:
                return f"/orgs/{owner}"
            case Scope.REPOSITORY:
                return f"/repos/{owner}/{quote(self.repository, safe='')}"
            case Scope.ENTERPRISE:
                return f"/enterprises/{owner}"

    @property
    def oidc_issuer(self) -> str:
        """Issuer of the tokens that jobs get; an enterprise's own issuer path must be configured instead."""
        match self.flavour:
            case Flavour.GITHUB_COM:
                return f"{self.scheme}://token.actions.githubusercontent.com"
            case Flavour.GHE_COM:
                return f"{self.scheme}://token.actions.{self.host}"
            case Flavour.SERVER:
                return f"{self.scheme}://{self.host}/_services/token"

    @property
    def encrypted(self) -> bool:
        return self.scheme == "https"

    def covers(self, owner: str, repository: str) -> bool:
        """Whether the repository certainly is within the scope. Of an enterprise no name tells."""
        same_owner = owner.lower() == self.owner.lower()
        match self.scope:
            case Scope.REPOSITORY:
                return same_owner and repository.lower() == self.repository.lower()
            case Scope.ORGANIZATION:
                return same_owner and bool(repository)
            case Scope.ENTERPRISE:
                return False


def parse_github_url(text: str, *, force_server: bool = False) -> GitHubUrl:
    """Take a configuration URL apart; `force_server` treats any host as GHES.

    Raises:
        ConfigurationError: reason `github_url_invalid`; no part of a password is repeated.
    """
    if len(text) > MAX_URL_CHARS:
        raise _invalid(f"it is longer than {MAX_URL_CHARS} characters")
    try:
        parts = urlsplit(text.strip())
        _ = parts.port
    except ValueError:
        raise _invalid("it is no URL") from None
    if parts.scheme not in ("https", "http"):
        raise _invalid("it does not begin with https://")
    if parts.username is not None or parts.password is not None:
        raise _invalid("it holds a user name or password")
    if parts.query or parts.fragment:
        raise _invalid("it has a query or a fragment")
    host = parts.netloc.lower()
    if not parts.hostname or not _HOST.fullmatch(re.sub(r":\d+$", "", host)):
        raise _invalid("its host is no host name or address")
    scope, owner, repository = _scope(parts.path.strip("/"))
    path = f"enterprises/{owner}" if scope is Scope.ENTERPRISE else parts.path.strip("/")
    flavour = Flavour.SERVER if force_server else _flavour(host)
    return GitHubUrl(f"{parts.scheme}://{host}/{path}", parts.scheme, host, scope, owner, repository, flavour)


def _flavour(host: str) -> Flavour:
    if host in _HOSTED:
        return Flavour.GITHUB_COM
    return Flavour.GHE_COM if host.endswith(_CLOUD_SUFFIX) else Flavour.SERVER


def _scope(path: str) -> tuple[Scope, str, str]:
    match path.split("/") if path else []:
        case [first, name] if first.lower() == "enterprises":
            found = Scope.ENTERPRISE, name, ""
        case [owner, repository]:
            found = Scope.REPOSITORY, owner, repository
        case [owner]:
            found = Scope.ORGANIZATION, owner, ""
        case _:
            raise _invalid("its path names neither ORG, OWNER/REPO nor enterprises/ENTERPRISE")
    if any(name in (".", "..") or not _NAME.fullmatch(name) for name in found[1:] if name):
        raise _invalid("a name in its path has characters that GitHub does not allow")
    return found


def _invalid(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the GitHub URL cannot be used: {why}",
        reason="github_url_invalid",
        fix="write it as https://HOST/ORG, https://HOST/OWNER/REPO or https://HOST/enterprises/ENTERPRISE",
    )
