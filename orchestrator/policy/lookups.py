"""What policy is told besides the job itself: facts that we verified, each by a room of its own, and nothing else.

A lookup that fails makes the verdict *error*, which denies; one that is not plugged in knows nothing, and the rules
that need its facts deny.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

Facts = Mapping[str, Any]
"""A JSON object, bounded by whoever made it. Shapes: `docs/reference/policy-input.md`."""

EvidenceLookup = Callable[[str], Awaitable[Facts | None]]
"""Artifact digest (`sha256:<hex>`) to what we verified about it; None where we know nothing. `input.artifact`."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the other lookups are asked about. Times are Unix nanoseconds.

    `environment` and `artifact_digest` are what the job asks for; `artifact` is what the evidence lookup answered.
    At the stages `check` and `deployment` there is no job: `record` is then one made for the question, whose key's
    source is the stage's name, whose caller is who asks (with an empty subject for nobody) and whose spec holds no more
    than what is asked for; `pool` may be None.
    """

    record: Record
    pool: Pool | None
    now_ns: int
    environment: str
    artifact_digest: str
    artifact: Facts | None


@dataclass(frozen=True, slots=True)
class Consent:
    """What people have signed that bears on a question: `input.approvals` and `input.exceptions`."""

    approvals: Sequence[Facts] = ()
    exceptions: Sequence[Facts] = ()


ConsentLookup = Callable[[Question], Awaitable[Consent]]
SourceLookup = Callable[[Question], Awaitable[Facts | None]]
"""What the platform says of the commit that the artifact was built from: `input.source`."""
TicketLookup = Callable[[Question], Awaitable[Facts | None]]
"""What the tracker says of the release ticket: `input.ticket`."""
SecretsLookup = Callable[[Question], Awaitable[Sequence[Facts]]]
"""The registered secrets that the job asks for: `input.credentials.secrets`."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What the lookups answered about one question. The default is what nobody knows anything about."""

    artifact: Facts | None = None
    consent: Consent = Consent()
    source: Facts | None = None
    ticket: Facts | None = None
    secrets: Sequence[Facts] = ()


async def _nothing(_question: Question) -> None:
    return None


async def _no_consent(_question: Question) -> Consent:
    return Consent()


async def _no_secrets(_question: Question) -> Sequence[Facts]:
    return ()


@dataclass(frozen=True, slots=True)
class Lookups:
    """All of them. `artifact` is asked for every job with a well-formed digest; `consent`, `source` and
    `ticket` only for jobs that deploy somewhere, `secrets` only for jobs that want one."""

    artifact: EvidenceLookup
    consent: ConsentLookup = _no_consent
    source: SourceLookup = _nothing
    ticket: TicketLookup = _nothing
    secrets: SecretsLookup = _no_secrets
