"""The daemon's issuers: its own URL, and one for each environment that is to have keys of its own.

A token of one issuer never verifies under another: each has its own URL, its own keys and its own key set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.identity.issuer import Issuer
from orchestrator.identity.signature import TokenInvalidError, unverified_issuer

MAIN: Final = ""
"""Name of the issuer whose URL is the daemon's own."""

ISSUERS_PATH: Final = "/issuers/"


def issuer_url(public_url: str, name: str) -> str:
    """The `iss` of the issuer of this name. A path is allowed by OIDC Discovery 1.0, section 4.1."""
    return f"{public_url}{ISSUERS_PATH}{name}" if name else public_url


class IssuerSet:
    """All issuers by name; `main` is the one of the daemon's own URL.

    Raises:
        ConfigurationError: one issuer's URL is an audience of another, so that a job's token could pass for a caller's.
    """

    def __init__(self, main: Issuer, own: Mapping[str, Issuer] | None = None) -> None:
        self.main = main
        self._by_name: Mapping[str, Issuer] = MappingProxyType({MAIN: main, **(own or {})})
        self._by_url = {issuer.url: issuer for issuer in self._by_name.values()}
        for name, issuer in self._by_name.items():
            clash = self._by_url.keys() & issuer.config.audiences.keys()
            if clash:
                raise ConfigurationError(
                    f"the audiences of issuer {name or 'main'!r} name an issuer of this daemon: {min(clash)}",
                    fix="remove it from identity.audiences",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the main one's empty name first."""
        return tuple(self._by_name)

    def items(self) -> Iterable[tuple[str, Issuer]]:
        return self._by_name.items()

    def get(self, name: str) -> Issuer | None:
        return self._by_name.get(name)

    def of(self, name: str) -> Issuer:
        """The issuer of this name.

        Raises:
            GiveUpError: `issuer_not_configured`.
        """
        issuer = self._by_name.get(name)
        if issuer is None:
            raise GiveUpError(
                f"the issuer {name!r} that the trust map names is not configured",
                reason="issuer_not_configured",
                fix="list it under identity.issuers and restart, or correct the trust map",
            )
        return issuer

    def by_url(self, url: str) -> Issuer:
        """The issuer with this `iss`, which has to be one of ours."""
        return self._by_url[url]

    def lists(self, audience: str) -> bool:
        """Whether any issuer may issue for this audience."""
        return any(audience in issuer.config.audiences for issuer in self._by_name.values())

    def open(self, token: str) -> Mapping[str, Any] | None:
        """`Issuer.open` of the issuer that the token names; None when that is none of ours."""
        try:
            issuer = self._by_url.get(unverified_issuer(token))
        except TokenInvalidError:
            return None
        return issuer.open(token) if issuer else None
