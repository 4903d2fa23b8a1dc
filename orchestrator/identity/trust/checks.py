"""What documents and grants say together: who is pinned, what cannot match, what would match twice, what is apart."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.identity.trust.document import KEY_PINS, TrustDocument
from orchestrator.identity.trust.strict import Place


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
        _check_document(document)


def _check_document(document: TrustDocument) -> None:
    for grant in document.grants:
        place = Place(document.path, ("grants", grant.name))
        if not any(one.claim in KEY_PINS and one.exact for one in grant.conditions):
            raise place.at("when").wrong(
                "pins no identity for ever: names can be given to others",
                "require repository_id (or caller with caller_issuer) by equals or one_of",
            )
