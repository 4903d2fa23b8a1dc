"""`stricter_than`: checked, not inherited. Nothing of the other document becomes part of this one."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.identity.trust.document import PERMISSION_LEVELS, GrantRule, TrustDocument
from orchestrator.identity.trust.strict import Place


def check_stricter(document: TrustDocument, documents: Mapping[str, TrustDocument]) -> None:
    """Refuse a document that is laxer than the one it says it is stricter than.

    Each grant is held against the other document's grants to targets of the same kind: those of the same application,
    or, if that has none there, all of them. It must live no longer than the longest of these, require every claim that
    all of these require (that any requires, for the same application), and allow no value of `trust_tier` or
    `ref_protected` that none of these allows, nor a permission that none of these has.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    if document.stricter_than is None:
        return
    place = Place(document.path, ("stricter_than",))
    other = documents.get(document.stricter_than)
    if other is None or other is document:
        known = ", ".join(repr(name) for name in documents if name != document.environment) or "none"
        raise place.wrong(f"names no other document: {document.stricter_than!r}", f"others are {known}")
    for grant in document.grants:
        peers = [one for one in other.grants if one.target.kind == grant.target.kind]
        if peers:
            _check_grant(grant, peers, Place(document.path, ("grants", grant.name)))


def _check_grant(grant: GrantRule, peers: list[GrantRule], place: Place) -> None:
    own = [one for one in peers if one.key.claim == grant.key.claim and one.key.values & grant.key.values]
    _check_life(grant, own or peers, place)
    _check_claims(grant, own, peers, place.at("when"))
    _check_values(grant, own or peers, place.at("when"))
    _check_permissions(grant, own or peers, place.at("permissions"))


def _check_life(grant: GrantRule, peers: list[GrantRule], place: Place) -> None:
    lives = {
        "max_ttl_seconds": (grant.max_ttl_seconds, max(one.max_ttl_seconds for one in peers)),
        "target": (grant.target.session_seconds, max(one.target.session_seconds for one in peers)),
    }
    for name, (mine, longest) in lives.items():
        if mine > longest:
            what = "is" if name == "max_ttl_seconds" else f"is {grant.target.name}, with session_seconds"
            raise place.at(name).wrong(
                f"{what} {mine}, longer than {longest}, the longest of {_rules(peers)}",
                f"lower it to {longest} or less",
            )


def _check_claims(grant: GrantRule, own: list[GrantRule], peers: list[GrantRule], place: Place) -> None:
    required = [_claims(one) for one in own or peers]
    wanted = set.union(*required) if own else set.intersection(*required)
    missing = sorted(wanted - _claims(grant))
    if missing:
        raise place.wrong(
            f"does not require {', '.join(missing)}, unlike {_rules(own or peers)}",
            f"require {', '.join(missing)}, too",
        )


def _check_values(grant: GrantRule, peers: list[GrantRule], place: Place) -> None:
    for claim, values in (("trust_tier", ("standard", "protected")), ("ref_protected", ("true", "false"))):
        laxer = [
            value
            for value in values
            if _allows(grant, claim, value) and not any(_allows(one, claim, value) for one in peers)
        ]
        if laxer:
            raise place.at(claim).wrong(
                f"allows {' and '.join(laxer)}, which none of {_rules(peers)} allows", "allow no more than they do"
            )


def _check_permissions(grant: GrantRule, peers: list[GrantRule], place: Place) -> None:
    for name, level in grant.permissions.items():
        highest = max(PERMISSION_LEVELS.index(one.permissions.get(name, "")) for one in peers)
        if PERMISSION_LEVELS.index(level) > highest:
            raise place.at(name).wrong(
                f"is {level}, more than any of {_rules(peers)} has", f"give it {PERMISSION_LEVELS[highest] or 'none'}"
            )


def _claims(grant: GrantRule) -> set[str]:
    return {one.claim for one in grant.conditions if not one.implied}


def _allows(grant: GrantRule, claim: str, value: str) -> bool:
    return all(one.allows(value) for one in grant.conditions if one.claim == claim)


def _rules(grants: list[GrantRule]) -> str:
    more = f" and {len(grants) - 3} more" if len(grants) > 3 else ""
    return ", ".join(one.rule for one in grants[:3]) + more
