"""What the engine is offered for a runner whose job GitHub will choose. Pure."""

from __future__ import annotations

from typing import Final

from orchestrator.intake.github.source_config import ScaleSetConfig, SourceConfig
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec

SCALE_SET: Final = "scale_set"
"""Name in `JobSpec.claimed` of the set that demanded a runner; it stays when the job is named."""


def runner_offer(source: SourceConfig, config: ScaleSetConfig, key: JobKey) -> JobOffer:
    """The caller stands for the operator's configuration: of the job to come nothing is known, so nothing is said."""
    spec = JobSpec(
        name=f"runner of scale set {config.name}",
        pool=config.pool,
        script=config.script,
        claimed={SCALE_SET: config.key},
        awaits_platform_job=True,
        platform_egress=source.platform_egress,
    )
    return JobOffer(key, spec, Caller(source.issuer, f"scale-set:{config.key}"))
