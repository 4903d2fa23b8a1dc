"""The facts that the trust map judges by: verified by us, or our own doing. Nothing of `claimed`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from orchestrator.identity.claims import RESERVED_CLAIMS
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

FACT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_FACTS: Final = 64
"""Facts of a caller that are looked at, by name; the same as get into its tokens."""

_DIGEST_PINNED: Final = re.compile(r"[^@\s]+@(sha256:[0-9a-f]{64})")
OWN_FACTS: Final = frozenset(
    {
        *("source", "attempt", "pool", "trust_tier", "isolation", "backend", "runner_image_digest"),
        *("caller", "caller_issuer", "environment", "artifact_digest"),
    }
)
"""What we say ourselves. A caller's fact of such a name is not looked at, even where ours is empty."""


def trust_facts(record: Record, pool: Pool) -> Mapping[str, str]:
    """The job's facts by name; one that is not known is empty or missing.

    * the verified facts of its caller (`repository_id`, `ref`, `ref_protected`, …, `stage` if its source gives one);
    * `caller`, `caller_issuer`: who dispatched it (`Caller.id`, and the `iss` that vouched);
    * `source`, `attempt`, `pool`, `trust_tier`, `isolation`, `backend`;
    * `runner_image_digest` (`sha256:<hex>`) of a pool whose image is pinned by digest, else empty;
    * `environment`, `artifact_digest`: what it asks to deploy and where, which policy has judged at this exchange.
    """
    spec, caller, key = record.offer.spec, record.offer.caller, record.offer.key
    pinned = _DIGEST_PINNED.fullmatch(pool.base)
    told = {
        name: value
        for name, value in sorted(caller.facts.items())[:MAX_FACTS]
        if name not in RESERVED_CLAIMS and name not in OWN_FACTS and FACT_NAME.fullmatch(name)
    }
    return told | {
        "source": key.source,
        "attempt": str(key.attempt),
        "pool": pool.name,
        "trust_tier": pool.trust_tier.value,
        "isolation": pool.isolation,
        "backend": pool.backend,
        "runner_image_digest": pinned[1] if pinned else "",
        "caller": caller.id,
        "caller_issuer": caller.issuer,
        "environment": spec.deployment_environment,
        "artifact_digest": spec.artifact_digest,
    }
