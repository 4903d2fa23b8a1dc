"""A pool: a configured class of runners, as the engine and policy see it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.model.egress import EgressRule
from orchestrator.model.job import PoolName


class TrustTier(StrEnum):
    """What a pool's jobs may ever be granted, from least to most."""

    UNTRUSTED = "untrusted"
    STANDARD = "standard"
    PROTECTED = "protected"


@dataclass(frozen=True, slots=True)
class Pool:
    """`egress` is the most any job of the pool may reach: policy can narrow it, never widen it.

    `base` names what runners are made of (an image reference, or `host-toolchain` for the local
    sandbox); `isolation` is the backend's word for its boundary; both are facts for policy.
    """

    name: PoolName
    backend: str
    trust_tier: TrustTier
    capacity: int
    base: str
    isolation: str
    egress: tuple[EgressRule, ...] = ()
    require_egress_proof: bool = True
    max_job_seconds: int = 3600
