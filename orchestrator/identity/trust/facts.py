"""The facts that the trust map judges by: verified by us, or our own doing. Nothing of `claimed`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.identity.claims import image_digest, verified_facts
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

OWN_FACTS: Final = frozenset(
    {
        *("source", "attempt", "pool", "trust_tier", "isolation", "backend", "runner_image_digest"),
        *("caller", "caller_issuer", "environment", "artifact_digest"),
    }
)
"""What we say ourselves; all of these names are reserved, so that no caller's fact is taken for ours."""


def trust_facts(record: Record, pool: Pool) -> Mapping[str, str]:
    """The job's facts by name; one that is not known is empty or missing.

    * the verified facts of its caller (`repository_id`, `ref`, `ref_protected`, …, `stage` if its source gives one);
    * `caller`, `caller_issuer`: who dispatched it (`Caller.id`, and the `iss` that vouched);
    * `source`, `attempt`, `pool`, `trust_tier`, `isolation`, `backend`;
    * `runner_image_digest` (`sha256:<hex>`) of a pool whose image is pinned by digest, else empty;
    * `environment`, `artifact_digest`: what it asks to deploy and where, which policy has judged at this exchange.
    """
    spec, caller, key = record.offer.spec, record.offer.caller, record.offer.key
    return verified_facts(caller) | {
        "source": key.source,
        "attempt": str(key.attempt),
        "pool": pool.name,
        "trust_tier": pool.trust_tier.value,
        "isolation": pool.isolation,
        "backend": pool.backend,
        "runner_image_digest": image_digest(pool),
        "caller": caller.id,
        "caller_issuer": caller.issuer,
        "environment": spec.deployment_environment,
        "artifact_digest": spec.artifact_digest,
    }
