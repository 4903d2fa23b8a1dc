"""What an allow is tied to: policy can narrow what the pool allows, never widen it. Pure."""

from __future__ import annotations

from orchestrator.model.decision import Obligations, Stage
from orchestrator.model.egress import EgressRule, narrow
from orchestrator.model.pool import Pool
from orchestrator.policy.document import ObligationsDocument


def bind_obligations(document: ObligationsDocument, pool: Pool, stage: Stage) -> Obligations:
    """The document's obligations within the pool's limits.

    Egress is decided at admission only, before the runner is made; an exchange cannot change it.
    """
    egress: tuple[EgressRule, ...] = ()
    if stage is Stage.ADMISSION:
        if document.egress is None:
            egress = pool.egress
        else:
            wanted = [EgressRule(rule.host, rule.port, rule.protocol) for rule in document.egress]
            egress = narrow(pool.egress, wanted)
    limit = document.max_duration_seconds
    return Obligations(
        egress=egress,
        max_duration_seconds=None if limit is None else min(limit, pool.max_job_seconds),
        token_ttl_seconds=document.token_ttl_seconds,
        session_tags=dict(document.session_tags),
    )
