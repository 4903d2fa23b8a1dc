"""Grants that no job can meet with these settings, since nobody who may dispatch gives a fact that they want."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.identity.trust.facts import OWN_FACTS

if TYPE_CHECKING:
    from orchestrator.identity.trust.document import GrantRule
    from orchestrator.identity.trust.trust_map import TrustMap
    from orchestrator.settings import Settings


def idle_grants(trust_map: TrustMap, settings: Settings) -> Iterator[str]:
    """One line for each claim of a grant that none of the `callers` it is for gives, beginning with its place.

    Nothing is said where there are no callers, nor of grants that GitHub's own jobs may meet: which facts these have
    depends on the job.
    """
    if not settings.callers or settings.github:
        return
    for document in trust_map.documents:
        for grant in document.grants:
            able = [set(one.facts) for one in settings.callers if _is_for(grant, one.issuer)]
            for one in grant.conditions:
                if one.claim not in OWN_FACTS and not any(one.claim in facts for facts in able):
                    yield (
                        f"{document.path}: grants.{grant.name}.when.{one.claim}: no issuer of callers that the grant "
                        "is for gives this fact, so no job can have it; list it under callers[].facts"
                    )


def _is_for(grant: GrantRule, issuer: str) -> bool:
    return all(one.allows(issuer) for one in grant.conditions if one.claim == "caller_issuer")
