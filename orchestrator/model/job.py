"""A job: one attempt of one unit of CI work, who asked for it, and what it is to do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NewType

from orchestrator.model.egress import EgressRule

JobId = NewType("JobId", str)
"""`source.platform_id.attempt`, e.g. `dispatch.3f2a….1`; unique for ever, safe in a URL path segment."""

PoolName = NewType("PoolName", str)

_COMPONENT = re.compile(r"[A-Za-z0-9_-]{1,96}")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,6}")
"""One way to write each number: an id that is not the key's own would be a second name of the same job."""


@dataclass(frozen=True, slots=True)
class JobKey:
    """What makes a job the same job: its source, the platform's id and the attempt (from 1)."""

    source: str
    platform_id: str
    attempt: int = 1

    def __post_init__(self) -> None:
        for name, value in (("source", self.source), ("platform_id", self.platform_id)):
            if not _COMPONENT.fullmatch(value):
                raise ValueError(f"{name} must match {_COMPONENT.pattern}")
        if not 1 <= self.attempt <= 1_000_000:
            raise ValueError("attempt must be from 1 to 1000000")

    @classmethod
    def parse(cls, job_id: str) -> JobKey:
        """The key behind an id. Raises ValueError when it is none."""
        parts = job_id.split(".")
        if len(parts) != 3 or not _ATTEMPT.fullmatch(parts[2]):
            raise ValueError("a job id is source.platform_id.attempt")
        return cls(parts[0], parts[1], int(parts[2]))

    @property
    def id(self) -> JobId:
        return JobId(f"{self.source}.{self.platform_id}.{self.attempt}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who dispatched a job, as verified by us.

    `facts` are the caller's claims after the issuer's mapping table (`repository`, `ref`, …): the only
    description of a job's origin that policy may trust.
    """

    issuer: str
    subject: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Short stable id of issuer and subject; scopes idempotency keys."""
        return hashlib.sha256(f"{self.issuer}\0{self.subject}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job is to do. All of it is the job's own word except that the pool must exist.

    `environment` are variables for the script; they are stored in the journal, so they are no place for
    secrets (a job gets its credentials by exchanging its identity). `timeout_seconds` of 0 means the pool's
    limit. `claimed` is passed to policy under `input.claimed`. `artifact_digest` (`sha256:<hex>`) names
    what a deploy job deploys, and where it is empty the running job may name it; evidence is looked up by us.
    `parent_traceparent` is the W3C trace context the caller sent; it is linked, never adopted.
    `ticket` is the id of a release ticket, looked up in the tracker by us; `secrets` are names of registered secrets
    that the job wants to have, for policy to decide.

    With `awaits_platform_job` this is a runner that a platform has asked for, and which job it gets is named later
    (see `model.platform`); `platform_egress` is what the runner must reach to get and to report any job at all.
    """

    name: str
    pool: PoolName
    script: str
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: int = 0
    deployment_environment: str = ""
    artifact_digest: str = ""
    pipeline: str = ""
    claimed: Mapping[str, str] = field(default_factory=dict)
    parent_traceparent: str = ""
    awaits_platform_job: bool = False
    platform_egress: tuple[EgressRule, ...] = ()
    ticket: str = ""
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobOffer:
    """A job as intake hands it on. Two offers with one key are the same job; the first one stands.

    `fingerprint` is the SHA-256 of the request's canonical form: the same key with another fingerprint is
    a caller's mistake and is refused by intake.
    """

    key: JobKey
    spec: JobSpec
    caller: Caller
    fingerprint: str = ""

    def deploying(self, digest: str) -> JobOffer:
        """The offer with what the running job says it deploys; what was named before stands."""
        if self.spec.artifact_digest:
            return self
        return replace(self, spec=replace(self.spec, artifact_digest=digest))
