"""What grants must be to be fit for anything: pinned to somebody, able to match a job, never two for one job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from orchestrator.identity.claims import RESERVED_CLAIMS
from orchestrator.identity.trust.apart import check_apart
from orchestrator.identity.trust.conditions import Comparison, Condition
from orchestrator.identity.trust.document import KEY_PINS, GrantRule, TrustDocument
from orchestrator.identity.trust.facts import OWN_FACTS
from orchestrator.identity.trust.grants import TRUSTED_TIERS
from orchestrator.identity.trust.overlaps import check_overlaps
from orchestrator.identity.trust.strict import Place
from orchestrator.identity.trust.stricter import check_stricter
from orchestrator.model.pool import TrustTier

CLOSED: Final[Mapping[str, frozenset[str]]] = {
    "trust_tier": frozenset(tier.value for tier in TrustTier),
    "ref_protected": frozenset({"true", "false"}),
    "fork": frozenset({"true", "false"}),
    "backend": frozenset({"kubernetes", "sandbox"}),
}
"""Every value that these claims can have."""

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    "caller": re.compile(r"[0-9a-f]{16}"),
    "attempt": re.compile(r"[1-9][0-9]{0,6}"),
    "artifact_digest": _DIGEST,
    "runner_image_digest": _DIGEST,
}
"""The form that every value of these claims has."""


def check(documents: Sequence[TrustDocument]) -> None:
    """Refuse a map that is not fit to be asked.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    seen: dict[str, TrustDocument] = {}
    for document in documents:
        if document.environment in seen:
            raise Place(document.path, ("environment",)).wrong(
                f"is {document.environment!r}, as in {seen[document.environment].path}",
                "an environment has one document; put the grants into it",
            )
        seen[document.environment] = document
        _check_names(document)
        for grant in document.grants:
            _check_grant(grant, document, Place(document.path, ("grants", grant.name)))
        check_overlaps(document)
    check_apart(documents)
    for document in documents:
        check_stricter(document, seen)


def _check_names(document: TrustDocument) -> None:
    seen: set[str] = set()
    for index, grant in enumerate(document.grants):
        if grant.name in seen:
            raise Place(document.path, ("grants", str(index), "name")).wrong(
                f"is {grant.name!r} for the second time", "a grant's name says which one refused or granted"
            )
        seen.add(grant.name)


def _check_grant(grant: GrantRule, document: TrustDocument, place: Place) -> None:
    when = place.at("when")
    for condition in grant.conditions:
        _check_reachable(condition, document.environment, when.at(condition.claim))
    _check_pinned(grant, when)
    if document.protected:
        _check_protected(grant, when)


def _check_reachable(condition: Condition, environment: str, place: Place) -> None:
    """Each value that is written can be a job's, and one of them may be."""
    claim = condition.claim
    if claim in RESERVED_CLAIMS - OWN_FACTS:
        raise place.wrong(
            "is no fact that a job can have: the name means something in tokens themselves",
            "use a fact of the caller, or one of ours: docs/reference/trust-map.md lists them",
        )
    if claim == "environment" and not (environment and condition.allows(environment)):
        raise place.wrong(
            f"wants {condition.wanted()}, but this document is for {environment or 'no environment'!r}",
            "leave it out: the document's environment is a condition of each of its grants",
        )
    if condition.test is Comparison.TAGGABLE:
        return
    form, closed = FORMS.get(claim), CLOSED.get(claim)
    for value in sorted(condition.values):
        if form is not None and not form.fullmatch(value):
            raise place.wrong(f"wants {value!r}, which no job has", f"write it as {form.pattern}")
        if closed is not None and value not in closed:
            raise place.wrong(f"wants {value!r}, which no job has", f"it is one of {', '.join(sorted(closed))}")
    if closed is not None and not any(condition.allows(value) for value in closed):
        raise place.wrong(f"wants it {condition.wanted()}, which no job has", f"it is one of {_list(closed)}")
    if claim == "trust_tier" and condition.allows(TrustTier.UNTRUSTED.value):
        raise place.wrong(
            f"grants something to the tier {TrustTier.UNTRUSTED.value}",
            f"jobs of untrusted pools get nothing; allow {_list(TRUSTED_TIERS)} only",
        )


def _check_pinned(grant: GrantRule, place: Place) -> None:
    """Somebody is named for ever. Names of repositories, users and workflows can be given to others."""
    pinned = {one.claim for one in grant.pins}
    if not pinned & {*KEY_PINS}:
        raise place.wrong(
            "pins no identity for ever: names can be given to somebody else",
            "require repository_id, or caller and caller_issuer, by equals or one_of",
        )
    if grant.key.claim == "caller" and "caller_issuer" not in pinned:
        raise place.wrong(
            "pins caller without caller_issuer",
            "require both: caller is a short digest, the issuer bounds who makes it",
        )


def _check_protected(grant: GrantRule, place: Place) -> None:
    """What `protected: true` demands of each grant."""
    demands = {"ref_protected": frozenset({"true"}), "trust_tier": frozenset({TrustTier.PROTECTED.value})}
    for claim, wanted in demands.items():
        conditions = [one for one in grant.conditions if one.claim == claim]
        allowed = {value for value in CLOSED[claim] if all(one.allows(value) for one in conditions)}
        if allowed != wanted:
            raise place.at(claim).wrong(
                f"may be {_list(allowed)} in a protected document", f"require {claim} to equal {_list(wanted)}"
            )
    if not any(one.claim == "caller_issuer" for one in grant.pins):
        raise place.wrong(
            "does not pin caller_issuer in a protected document",
            "require it by equals or one_of: an id is unique within one issuer only",
        )
    if grant.key.claim == "repository_owner_id":
        raise place.wrong(
            "pins no more than an owner in a protected document",
            "require repository_id, or caller and caller_issuer, by equals or one_of",
        )


def _list(values: Iterable[str]) -> str:
    return " or ".join(sorted(values))
