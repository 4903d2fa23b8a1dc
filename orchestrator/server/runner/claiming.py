"""From a runner's claim to its proof, with times by our own clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.model.egress import EgressProof
from orchestrator.server.schemas import ClaimRequest


def proof_of(claim: ClaimRequest, now_ns: Callable[[], int] = time.time_ns) -> EgressProof:
    """What the agent saw, and when: it says how long ago that was, so that its clock need not be ours."""
    denied, reached = tuple(claim.proof.denied), tuple(claim.proof.reached)
    if claim.ago is None:
        return EgressProof(denied, reached)
    now, ago = now_ns(), claim.ago
    began, proving, proven = (
        0 if one is None else now - int(one * 1e9) for one in (ago.began, ago.proving, ago.proven)
    )
    return EgressProof(denied, reached, began, proving, proven)
