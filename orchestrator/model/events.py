"""Past-tense facts. What happened to a job is the sequence of these; everything else is read from it.

An event says *what*; a `Fact` adds whose, when and in which order. Events are only ever added to: an
older journal must stay readable, so a new field needs a default and a removed event keeps its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.model.credential_events import CredentialRevoked as CredentialRevoked
from orchestrator.model.credential_events import ExchangeDecided as ExchangeDecided
from orchestrator.model.credential_events import TokenIssued as TokenIssued
from orchestrator.model.credential_events import TokenRefused as TokenRefused
from orchestrator.model.decision import Decision
from orchestrator.model.egress import EgressProof
from orchestrator.model.evidence_events import ArtifactAttested as ArtifactAttested
from orchestrator.model.evidence_events import ArtifactNamed as ArtifactNamed
from orchestrator.model.evidence_events import AttestationSigned as AttestationSigned
from orchestrator.model.evidence_events import ExceptionUsed as ExceptionUsed
from orchestrator.model.evidence_events import SecretDelivered as SecretDelivered
from orchestrator.model.evidence_events import SummarySigned as SummarySigned
from orchestrator.model.job import JobId, JobOffer
from orchestrator.model.outcome import Outcome
from orchestrator.model.platform import PlatformJob, PlatformResult
from orchestrator.model.runner import RunnerName
from orchestrator.model.runner_events import ProvisionStarted as ProvisionStarted
from orchestrator.model.runner_events import RunnerCreated as RunnerCreated
from orchestrator.model.runner_events import RunnerDeleted as RunnerDeleted
from orchestrator.model.runner_events import RunnerExited as RunnerExited
from orchestrator.model.runner_events import RunnerObserved as RunnerObserved
from orchestrator.model.runner_events import RunnerVanished as RunnerVanished


class WaitReason(StrEnum):
    """Why an admitted job has no runner yet, or one that cannot start. *runner_starting* ends the waiting."""

    POOL_FULL = "pool_full"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    RUNNER_VANISHED = "runner_vanished"
    QUOTA_EXHAUSTED = "quota_exhausted"
    GUARD_MISSING = "guard_missing"
    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL = "image_pull"
    START_FAILING = "start_failing"
    RUNNER_STARTING = "runner_starting"


@dataclass(frozen=True, slots=True)
class JobOffered:
    offer: JobOffer


@dataclass(frozen=True, slots=True)
class JobAdmitted:
    decision: Decision


@dataclass(frozen=True, slots=True)
class JobRefused:
    """Policy did not allow the job. At admission a JobEnded follows in the same commit; a job that its platform named
    is given time to show the reason in its own log."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class JobWaited:
    """Recorded when the reason for waiting changes, not at every look."""

    reason: WaitReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RunnerBound:
    """The binding: at most one in a job's life. User code may run from here on."""

    runner: RunnerName
    uid: str
    proof: EgressProof


@dataclass(frozen=True, slots=True)
class PlatformJobNamed:
    """Which job the platform gave to this runner, and what policy says to it. At most one in a record's life."""

    job: PlatformJob
    decision: Decision


@dataclass(frozen=True, slots=True)
class PlatformJobCompleted:
    """The platform's word on how its job ended. Only the first one counts."""

    result: PlatformResult


@dataclass(frozen=True, slots=True)
class JobCancelRequested:
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The end is recorded: every credential of the job is refused from here on."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class JobFinished:
    """Verified: no object, no registration, no live credential is left. `leftovers` is empty by promise.

    `revoked_at_ns` (Unix time) is when revoking was over, where that was after the runner's deletion; else 0.
    """

    leftovers: tuple[str, ...] = ()
    revoked_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class EgressDecided:
    """The gateway's verdict on one connection, at its end for an allowed one. Byte counts are the payload's.

    `canary` marks the agent's own proof that a forbidden host is refused. `connections` is how many this stands
    for: more than one when the gateway summed up a flood of equal verdicts, whose numbers are then added up.
    """

    host: str
    port: int
    protocol: str
    allowed: bool
    rule: str
    reason: str = ""
    address: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    duration_ns: int = 0
    canary: bool = False
    connections: int = 1


@dataclass(frozen=True, slots=True)
class ArtifactReported:
    """The job's claim, made with its identity, that it built this. `digest` is `sha256:<hex>`."""

    name: str
    digest: str
    media_type: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ProvenanceSigned:
    """The control plane's DSSE envelope (JSON text) over the job's artifacts."""

    envelope: str
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReceiptSigned:
    """What the control plane swears the job had, and how each of it ended. `packed` is the signed statement as the
    journal keeps it, `digest` (`sha256:<hex>`) that of the statement itself."""

    packed: str
    digest: str


@dataclass(frozen=True, slots=True)
class LogClosed:
    """`drained_at_ns` (Unix time) is when the last of the output had been read, where that was before; 0 else."""

    bytes_kept: int
    bytes_dropped: int
    secrets_masked: int
    drained_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class SpansRelayed:
    """Spans the job itself sent for its trace; untrusted data, counted here."""

    accepted: int
    refused: int


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """Something that must not happen did: a second claim, leftovers after the bound, a name clash."""

    alarm: str
    detail: str


@dataclass(frozen=True, slots=True)
class DaemonRestarted:
    """A new daemon took the unfinished job over; the gap is not the job's time."""

    instance: str
    last_fact_at_ns: int


@dataclass(frozen=True, slots=True)
class JobCompacted:
    """All that retention keeps of an old finished job."""

    name: str
    pool: str
    outcome: Outcome
    offered_at_ns: int
    finished_at_ns: int
    fingerprint: str = ""
    pipeline: str = ""
    caller_id: str = ""
    platform_key: str = ""


Event = (
    JobOffered
    | JobAdmitted
    | JobRefused
    | JobWaited
    | ProvisionStarted
    | RunnerCreated
    | RunnerVanished
    | RunnerObserved
    | RunnerBound
    | PlatformJobNamed
    | PlatformJobCompleted
    | RunnerExited
    | JobCancelRequested
    | JobEnded
    | RunnerDeleted
    | JobFinished
    | ExchangeDecided
    | TokenIssued
    | TokenRefused
    | CredentialRevoked
    | EgressDecided
    | ArtifactReported
    | ArtifactAttested
    | ArtifactNamed
    | AttestationSigned
    | ProvenanceSigned
    | SummarySigned
    | ExceptionUsed
    | SecretDelivered
    | ReceiptSigned
    | LogClosed
    | SpansRelayed
    | AlarmRaised
    | DaemonRestarted
    | JobCompacted
)


@dataclass(frozen=True, slots=True)
class Fact:
    """An event in the journal. `seq` grows over all jobs and is 0 until stored; `at_ns` is Unix time."""

    job_id: JobId
    at_ns: int
    event: Event
    seq: int = 0


Facts = Sequence[Fact]
