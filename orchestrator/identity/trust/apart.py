"""A role is one application's, in one environment: what two share, the target cannot tell apart.

The exceptions are written in the documents as `shared_roles`, so that they are seen when the map is reviewed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orchestrator.identity.trust.document import GrantRule, TrustDocument
from orchestrator.identity.trust.strict import Place

_WORLDWIDE: Final = frozenset({"aws", "gcp", "azure"})
"""Kinds whose roles are the same thing under every audience; elsewhere a role belongs to its audience."""

_Edge = tuple[str, str, str]
_Use = tuple[TrustDocument, GrantRule]


def check_apart(documents: Sequence[TrustDocument]) -> None:
    """Refuse a role that two applications or two environments share, and an audience without roles that a protected
    document shares with another.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    uses: dict[_Edge, list[_Use]] = {}
    for document in documents:
        for grant in document.grants:
            for edge in _edges(grant):
                uses.setdefault(edge, []).append((document, grant))
    for (_, _, role), found in uses.items():
        if role:
            _check_role(role, found)
        else:
            _check_audience(found)


def _edges(grant: GrantRule) -> list[_Edge]:
    kind = grant.target.kind
    if kind == "github":
        return []  # the token is made by us, for the grant's own repository and permissions
    audience = "" if kind in _WORLDWIDE and grant.roles else grant.target.audience
    return [(kind, audience, role) for role in grant.roles or ("",)]


def _check_role(role: str, uses: list[_Use]) -> None:
    document, grant = uses[-1]
    place = Place(document.path, ("grants", grant.name, "roles"))
    environments = {one.environment for one, _ in uses}
    excepted = all(role in one.shared_roles for one, _ in uses)
    if len(environments) > 1 and (not excepted or any(one.protected for one, _ in uses)):
        other = next(other for one, other in uses if one.environment != document.environment)
        raise place.wrong(
            f"has {role!r}, which {other.rule} of another environment has, too",
            "make a role for each environment; only unprotected documents may share one, by shared_roles in each",
        )
    if _several_applications([grant for _, grant in uses]) and not excepted:
        others = sorted({other.rule for _, other in uses if other is not grant}) or ["more than one of its own"]
        raise place.wrong(
            f"has {role!r} for several applications ({', '.join(others[:3])})",
            "make a role for each application, environment and action; or list it under shared_roles of the document",
        )


def _several_applications(grants: list[GrantRule]) -> bool:
    """Whether more than one has the role. An owner stands for any number; one id of two issuers is two."""
    found = {(grant.key.claim, value) for grant in grants for value in grant.key.values}
    issuers = {
        issuer
        for grant in grants
        for one in grant.pins
        if one.claim == "caller_issuer" and grant.key.claim != "caller"
        for issuer in one.values
    }
    return len(found) > 1 or len(issuers) > 1 or any(claim == "repository_owner_id" for claim, _ in found)


def _check_audience(uses: list[_Use]) -> None:
    environments = {one.environment for one, _ in uses}
    if len(environments) > 1 and any(one.protected for one, _ in uses):
        document, grant = next((one, grant) for one, grant in uses if one.protected)
        other = next(other for one, other in uses if one.environment != document.environment)
        raise Place(document.path, ("grants", grant.name, "target")).wrong(
            f"has the audience {grant.target.audience!r} without a role, as {other.rule} of another environment has",
            "give the protected environment an audience of its own, or roles",
        )
