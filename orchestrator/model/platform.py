"""A job that its platform chooses for a runner of ours: how it is named, what became of it, what we know of both.

GitHub decides which idle runner of a set takes which job. One record is then one single-use runner that an assigned
job has demanded; which job it got is learnt later, from proof, and until then the record is worth no identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.model.decision import Decision
from orchestrator.model.job import Caller, JobOffer
from orchestrator.model.runner import RunnerView

MAX_KEY = 512
"""Longest key of a platform's job, in characters."""


@dataclass(frozen=True, slots=True)
class PlatformJob:
    """A job as its platform has proven it to us.

    `key` is unique for ever and over all platforms, such as
    `<host>/<repository id>/<run id>/<run attempt>/<check run id>`; `name` is for people. `caller` holds the
    platform's issuer, the subject and the verified facts; `deployment_environment` comes from verified claims only.
    `proof` says what it rests on: `oidc` (the platform's token for this job) or `api` (its message and its API).
    """

    key: str
    name: str
    caller: Caller
    pipeline: str = ""
    deployment_environment: str = ""
    proof: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= MAX_KEY:
            raise ValueError(f"the key of a platform's job has 1 to {MAX_KEY} characters")


@dataclass(frozen=True, slots=True)
class PlatformResult:
    """How a job ended in its platform's own word, in lower case (`succeeded`, `failed`, `canceled`, …).

    `told_by` is where we have it from, such as `message` or `api`.
    """

    result: str
    told_by: str = ""


@dataclass(frozen=True, slots=True)
class PlatformState:
    """What a record that awaits its platform's job knows of it. Times are Unix nanoseconds; 0 means *not yet*.

    `refused` is policy's answer when it did not allow the named job; `exit` the end of the runner as its backend saw
    it, kept because the platform's word on the job may come after the runner is gone.
    """

    key: str = ""
    proof: str = ""
    named_at_ns: int = 0
    refused: Decision | None = None
    refused_at_ns: int = 0
    completed: PlatformResult | None = None
    completed_at_ns: int = 0
    exit: RunnerView | None = None
    exited_at_ns: int = 0

    @property
    def live(self) -> bool:
        """The job is named and allowed, its platform has not said that it is over, and its runner is still there: an
        identity may exist."""
        return bool(self.named_at_ns) and self.refused is None and self.completed is None and self.exit is None


def named_offer(offer: JobOffer, job: PlatformJob) -> JobOffer:
    """The offer as if the job itself had come: the same key, the caller and the words that its platform vouches for."""
    spec = replace(offer.spec, name=job.name, pipeline=job.pipeline, deployment_environment=job.deployment_environment)
    return replace(offer, spec=spec, caller=job.caller)
