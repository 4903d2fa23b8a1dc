"""The trust map in force: loaded at start, loaded again when asked, and never less fit than the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import ConfigurationError
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.trust.document import Target, TrustDocument
from orchestrator.identity.trust.trust_map import TrustMap

GITHUB_KIND = "github"


class TrustHolder:
    """Without `paths` there is no trust map, and there never will be: that is for the settings to say.

    `brokered` tells the audiences that third parties answer for.
    """

    def __init__(self, paths: Sequence[Path], issuers: IssuerSet, brokered: Callable[[str], bool]) -> None:
        self._paths = tuple(paths)
        self._issuers = issuers
        self._brokered = brokered
        self._map: TrustMap | None = None
        self._loading = asyncio.Lock()

    @property
    def configured(self) -> bool:
        return bool(self._paths)

    def current(self) -> TrustMap | None:
        """The map in force; None where none is configured."""
        return self._map

    async def load(self) -> bool:
        """Read the files, check them, and put them in force; whether anything changed by it.

        Raises:
            ConfigurationError: they are not fit; the map before, if there was one, stays in force.
        """
        if not self._paths:
            return False
        async with self._loading:
            found = await asyncio.to_thread(TrustMap.load, self._paths)
            for document in found.documents:
                self._check(document)
            changed = self._map is None or self._map.digest != found.digest
            self._map = found
            return changed

    def _check(self, document: TrustDocument) -> None:
        """What the document itself cannot know: which issuers and audiences are configured."""
        issuer = self._issuers.get(document.issuer)
        if issuer is None:
            known = ", ".join(name for name in self._issuers.names if name) or "none"
            raise _unfit(
                f"{document.path}: issuer: {document.issuer!r} is not listed under identity.issuers",
                f"list it there, or name one that is: {known}",
            )
        for name, target in document.targets.items():
            where = f"{document.path}: targets.{name}.audience: {target.audience!r}"
            if self._brokered(target.audience) is not (target.kind == GITHUB_KIND):
                raise _unfit(f"{where} {_mixed_up(target)}", "see docs/how-to/get-tokens.md")
            if target.kind != GITHUB_KIND and target.audience not in issuer.config.audiences:
                whose = f"identity.issuers.{document.issuer}.audiences" if document.issuer else "identity.audiences"
                raise _unfit(f"{where} is not listed under {whose}", "list it there, or take the target away")


def _mixed_up(target: Target) -> str:
    if target.kind == GITHUB_KIND:
        return "names no App of identity.github_apps; it must be github: and the name of one"
    return f"is an App of identity.github_apps, which only a target of kind github can be, not {target.kind}"


def _unfit(message: str, fix: str) -> ConfigurationError:
    return ConfigurationError(message, reason="trust_map_invalid", fix=fix)
