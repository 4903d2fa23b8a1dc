"""The trust map: every environment's document, loaded together, asked once for each token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

from orchestrator.identity.trust.answers import Explanation, Grant, Refusal
from orchestrator.identity.trust.checks import check
from orchestrator.identity.trust.document import TrustDocument
from orchestrator.identity.trust.matching import MAX_CANDIDATES, Environment
from orchestrator.identity.trust.reading import read_documents
from orchestrator.identity.trust.refusals import no_document


class TrustMap:
    """Immutable. `load` is the way to get one; the constructor takes documents as they are, unchecked.

    No answer depends on any other document than that of the job's own environment.
    """

    def __init__(self, documents: Iterable[TrustDocument]) -> None:
        self.documents: tuple[TrustDocument, ...] = tuple(sorted(documents, key=lambda one: one.environment))
        """One for each environment, sorted by it."""
        self._environments: Mapping[str, Environment] = MappingProxyType(
            {document.environment: Environment(document) for document in self.documents}
        )
        told = "".join(f"{document.digest}\n" for document in self.documents)
        self.digest: str = f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"
        """`sha256:<hex>` of what all documents say: comments, layout and the files' names do not change it."""

    @classmethod
    def load(cls, paths: Iterable[Path]) -> Self:
        """The map of these files, and of the `.yaml` and `.yml` files in these folders. Reads files, so it blocks.

        Raises:
            ConfigurationError: `trust_map_invalid`; it names file, path in the document, value and fix.
        """
        documents = read_documents(paths)
        check(documents)
        return cls(documents)

    def grant(self, facts: Mapping[str, str], audience: str, role: str = "") -> Grant | Refusal:
        """The one grant that a job with these facts (`trust_facts`) has for the audience and, unless empty, the role.

        Never raises; whatever is not granted is refused.
        """
        environment = self._environments.get(facts.get("environment", ""))
        if environment is None:
            return no_document(facts.get("environment", ""), audience)
        return environment.grant(facts, audience, role)

    def explain(self, facts: Mapping[str, str], audience: str, role: str = "") -> Explanation:
        """The same answer, with each grant of the environment for this audience and how its conditions fared."""
        name = facts.get("environment", "")
        environment = self._environments.get(name)
        found = environment.audiences.get(audience) if environment else None
        return Explanation(
            environment=name,
            audience=audience,
            role=role,
            answer=self.grant(facts, audience, role),
            candidates=found.candidates(facts, role) if found else (),
            left_out=max(0, len(found.grants) - MAX_CANDIDATES) if found else 0,
            digest=self.digest,
        )

    @property
    def audiences(self) -> frozenset[str]:
        """Every audience that some grant is for; each has to be listed in the settings, too."""
        return frozenset(grant.target.audience for document in self.documents for grant in document.grants)

    @property
    def unscoped(self) -> tuple[str, ...]:
        """Rules that pin an id of a platform but not the issuer that gave it: ids are unique within one issuer only, so
        with several issuers of callers somebody else's repository may have the same."""
        return tuple(
            grant.rule
            for document in self.documents
            for grant in document.grants
            if not any(one.claim == "caller_issuer" for one in grant.pins)
        )
