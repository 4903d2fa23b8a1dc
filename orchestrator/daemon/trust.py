"""The trust map in force: loaded at start, loaded again when asked, and never less fit than the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.daemon.github import slice as github_slice
from orchestrator.errors import ConfigurationError
from orchestrator.identity.github_oidc import JOB_CLAIMS
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.trust.document import GrantRule, Target, TrustDocument
from orchestrator.identity.trust.facts import trust_facts
from orchestrator.identity.trust.inventory import inventory
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.lifecycle.pools import Pools
from orchestrator.model.record import Record
from orchestrator.settings import Settings

GITHUB_KIND = "github"

FactsGiven = Mapping[str, Collection[str]]
"""Issuer of callers to names of facts."""


class TrustHolder:
    """Without `paths` there is no trust map, and there never will be: that is for the settings to say.

    `brokered` tells the audiences that third parties answer for; `given` is `facts_given`.
    """

    def __init__(
        self, paths: Sequence[Path], issuers: IssuerSet, brokered: Callable[[str], bool], given: FactsGiven
    ) -> None:
        self._paths = tuple(paths)
        self._issuers = issuers
        self._brokered = brokered
        self._given = given
        self._map: TrustMap | None = None
        self._loading = asyncio.Lock()

    @property
    def configured(self) -> bool:
        return bool(self._paths)

    @property
    def digest(self) -> str:
        """Of the map in force; empty where none is configured."""
        return self._map.digest if self._map else ""

    def current(self) -> TrustMap | None:
        """The map in force; None where none is configured."""
        return self._map

    def lists(self, audience: str) -> bool:
        """Whether any issuer, or any third party that is configured, answers for the audience."""
        return self._issuers.lists(audience) or self._brokered(audience)

    async def load(self, before: Callable[[TrustMap], Awaitable[None]] | None = None) -> bool:
        """Read the files, check them, and put them in force; whether anything changed by it.

        `before` is awaited with a map that is fit and new, before it is in force; if it raises, that is not done.

        Raises:
            ConfigurationError: they are not fit; the map before, if there was one, stays in force.
        """
        if not self._paths:
            return False
        async with self._loading:
            found = await asyncio.to_thread(TrustMap.load, self._paths)
            audiences = {name: one.config.audiences for name, one in self._issuers.items()}
            check_fit(found, audiences, self._brokered, self._given)
            changed = self._map is None or self._map.digest != found.digest
            if changed and before is not None:
                await before(found)
            self._map = found
            return changed


def facts_given(settings: Settings) -> FactsGiven:
    """Issuers of callers, each with the names of the facts that its tokens can become."""
    given: dict[str, frozenset[str]] = {one.issuer: frozenset(one.facts) for one in settings.callers}
    for source in settings.github:
        issuer = github_slice.issuer(source, parse_github_url(source.url))
        given[issuer] = given.get(issuer, frozenset()) | frozenset(JOB_CLAIMS)
    return given


def check_fit(
    trust: TrustMap, audiences: Mapping[str, Collection[str]], brokered: Callable[[str], bool], given: FactsGiven
) -> None:
    """What a map itself cannot know: which issuers there are, for which audiences each of them issues, and which
    issuers of callers give which facts.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    for document in trust.documents:
        _check(document, audiences, brokered)
        for grant in document.grants:
            _check_scoped(document, grant, given)


def _check_scoped(document: TrustDocument, grant: GrantRule, given: FactsGiven) -> None:
    """An id is unique within one issuer only: a grant says whose id it means, unless one issuer alone can give it."""
    pins = {one.claim for one in grant.pins}
    if "caller_issuer" in pins:
        return
    able = sorted(issuer for issuer, facts in given.items() if pins <= {*facts, "caller"})
    if len(able) > 1:
        raise _unfit(
            f"{document.path}: grants.{grant.name}.when: pins {', '.join(sorted(pins))} but not caller_issuer, and "
            f"{len(able)} issuers of callers give {'it' if len(pins) == 1 else 'them'}: another one's may be the same",
            f"require caller_issuer by equals, such as {able[0]}",
        )


def _check(document: TrustDocument, audiences: Mapping[str, Collection[str]], brokered: Callable[[str], bool]) -> None:
    listed = audiences.get(document.issuer)
    if listed is None:
        known = ", ".join(name for name in audiences if name) or "none"
        raise _unfit(
            f"{document.path}: issuer: {document.issuer!r} is not listed under identity.issuers",
            f"list it there, or name one that is: {known}",
        )
    for name, target in document.targets.items():
        where = f"{document.path}: targets.{name}.audience: {target.audience!r}"
        if brokered(target.audience) is not (target.kind == GITHUB_KIND):
            raise _unfit(f"{where} {_mixed_up(target)}", "see docs/how-to/get-tokens.md")
        if target.kind != GITHUB_KIND and target.audience not in listed:
            whose = f"identity.issuers.{document.issuer}.audiences" if document.issuer else "identity.audiences"
            raise _unfit(f"{where} is not listed under {whose}", "list it there, or take the target away")


class TrustReader:
    """`server.deps.TrustReader` over the map in force."""

    def __init__(self, holder: TrustHolder, pools: Pools) -> None:
        self._holder = holder
        self._pools = pools

    def listed(self, audience: str) -> bool:
        return self._holder.lists(audience)

    def explain(self, record: Record, audience: str, role: str) -> Mapping[str, Any] | None:
        pool, trust = self._pools.of(record), self._holder.current()
        if pool is None or trust is None:
            return None
        return trust.explain(trust_facts(record, pool), audience, role).as_json()

    def inventory(self) -> Mapping[str, Any]:
        trust = self._holder.current()
        assert trust is not None, "a configured map is loaded at start"
        return inventory(trust).as_json()


def _mixed_up(target: Target) -> str:
    if target.kind == GITHUB_KIND:
        return "names no App of identity.github_apps; it must be github: and the name of one"
    return f"is an App of identity.github_apps, which only a target of kind github can be, not {target.kind}"


def _unfit(message: str, fix: str) -> ConfigurationError:
    return ConfigurationError(message, reason="trust_map_invalid", fix=fix)
