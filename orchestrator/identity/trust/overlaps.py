"""No job may match two grants: of any two of one document that could answer the same request, some claim must be one
thing in the first and another in the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, product
from typing import Final

from orchestrator.identity.trust.conditions import Condition
from orchestrator.identity.trust.document import GrantRule, TrustDocument
from orchestrator.identity.trust.strict import Place

MAX_PAIRS: Final = 4_000_000
"""Pairs of grants that are looked at in one document."""

MAX_COMPARED: Final = 2000
"""Pairs among them that no listed value tells apart, so that their patterns are compared, which takes longer."""


def check_overlaps(document: TrustDocument) -> None:
    """Refuse two grants that could both match one job, unless each has roles and no role in common: then the role asked
    for tells them apart, and a request without a role is refused.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    compared = 0
    for number, (first, second) in enumerate(_pairs(document)):
        if number >= MAX_PAIRS or compared >= MAX_COMPARED:
            raise Place(document.path, ("grants",)).wrong(
                "has too many grants of one identity to compare them all",
                "tell them apart by equals or one_of rather than by patterns, or put several into one",
            )
        if first.roles and second.roles and not set(first.roles) & set(second.roles):
            continue
        shared = [(mine, its) for mine in first.conditions for its in second.conditions if mine.claim == its.claim]
        if not _meet(pair for pair in shared if pair[0].exact or pair[1].exact):
            continue
        compared += 1
        if _meet(shared):
            raise _error(document, first, second)


def _pairs(document: TrustDocument) -> Iterator[tuple[GrantRule, GrantRule]]:
    """The pairs for one audience whose pins may both hold, without looking at every two grants there are."""
    audiences: dict[str, dict[str, list[GrantRule]]] = {}
    for grant in document.grants:
        audiences.setdefault(grant.target.audience, {}).setdefault(grant.key.claim, []).append(grant)
    for by_claim in audiences.values():
        for grants in by_claim.values():
            values: dict[str, list[GrantRule]] = {}
            for grant in grants:
                for value in grant.key.values:
                    values.setdefault(value, []).append(grant)
            for found in values.values():
                yield from combinations(found, 2)
        for one, other in combinations(by_claim.values(), 2):
            yield from product(one, other)


def _meet(shared: Iterable[tuple[Condition, Condition]]) -> bool:
    """Whether each two conditions on one claim may hold at once. Claims that only one grant names are no obstacle."""
    return all(mine.meets(its) for mine, its in shared)


def _error(document: TrustDocument, first: GrantRule, second: GrantRule) -> Exception:
    place = Place(document.path, ("grants", second.name))
    if _same(first.conditions, second.conditions):
        return place.wrong(
            f"has the same conditions as {first.name}", "remove one of the two, or list their roles in one"
        )
    for narrow, wide in ((first, second), (second, first)):
        if _within(narrow, wide):
            return place.wrong(
                f"and {first.name} both match every job of {narrow.name}, which can thus never be granted",
                f"have {wide.name} require a value that {narrow.name} excludes, or remove {narrow.name}",
            )
    return place.wrong(
        f"and {first.name} could both match one job, and exactly one may",
        "have both require one claim, with values that exclude each other",
    )


def _same(first: tuple[Condition, ...], second: tuple[Condition, ...]) -> bool:
    mine, its = ({one.claim: one.as_json() for one in each} for each in (first, second))
    return mine == its


def _within(narrow: GrantRule, wide: GrantRule) -> bool:
    """Whether every job that matches the first surely matches the second."""
    return all(
        any(one.claim == other.claim and one.within(other) for one in narrow.conditions) for other in wide.conditions
    )
