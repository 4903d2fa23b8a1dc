"""A question to policy that is about no job: a pull request's, or a cluster's. It never grants anything."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from orchestrator.model.decision import Stage
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.policy.lookups import Facts

NOBODY = Caller("", "")
"""Who asks where nobody does."""


@dataclass(frozen=True, slots=True)
class Enquiry:
    """Would this be allowed (stage `check`), or may a cluster start this workload (stage `deployment`).

    `caller` is who asks, as verified by us; `pool` the one that a job would run in. Either is None where there is none.
    `workload` describes what a cluster is to start, as the API server tells: `docs/reference/policy-input.md`.

    Raises:
        ValueError: another stage; those are asked with a job.
    """

    stage: Stage
    environment: str
    artifact_digest: str = ""
    caller: Caller | None = None
    pool: Pool | None = None
    ticket: str = ""
    secrets: tuple[str, ...] = ()
    workload: Facts | None = None

    def __post_init__(self) -> None:
        if self.stage not in (Stage.CHECK, Stage.DEPLOYMENT):
            raise ValueError(f"stage {self.stage.value} is asked with a job")

    def record(self, now_ns: int) -> Record:
        """The stand-in for a job by which lookups are asked; its id is of this question alone."""
        spec = JobSpec(
            name=self.stage.value,
            pool=self.pool.name if self.pool else PoolName(""),
            script="",
            deployment_environment=self.environment,
            artifact_digest=self.artifact_digest,
            ticket=self.ticket,
            secrets=self.secrets,
        )
        key = JobKey(self.stage.value, uuid.uuid4().hex)
        return Record(JobOffer(key, spec, self.caller or NOBODY), now_ns)
