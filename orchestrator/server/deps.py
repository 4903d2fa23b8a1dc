"""What the server needs from the rest of the program: small protocols and callables, declared by their consumer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from orchestrator.journal.port import JournalReader
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.lifecycle.why import Around, Surroundings
from orchestrator.model.decision import Decision
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import Event, Fact, RunnerObserved, SpansRelayed
from orchestrator.model.job import Caller, JobId, JobOffer
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName
from orchestrator.model.source import SourceState
from orchestrator.server.accounts.desks import Books, SecretDesk
from orchestrator.server.approvals.port import ApprovalDesk
from orchestrator.server.keys.port import KeyDesk
from orchestrator.server.notifications.port import NotificationDesk
from orchestrator.server.operating.port import OperatingDesk
from orchestrator.server.page.door import Door

Authenticate = Callable[[str, str | None], Awaitable[Caller]]
"""The caller behind a bearer token, or GiveUpError with a reason `token_*`. The second argument is the
idempotency key on dispatch (single-use tokens are bound to it) and None everywhere else."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The answer to a token request, of RFC 8693 section 2.2.1 or, for an error, of RFC 6749 section 5.2."""

    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


Exchange = Callable[[RunnerIdentity, list[tuple[str, str]]], Awaitable[TokenAnswer]]
"""RFC 8693 for a verified runner; the form's fields come in order, duplicates included. See `server.runner.token`."""


@dataclass(frozen=True, slots=True)
class HookReport:
    """What a runner's hook says of the job that its platform gave it: a hint by which it can be found, and `token`,
    the platform's own OIDC token for this job and us, empty where the job gets none."""

    run_id: str
    run_attempt: str
    repository: str
    token: str = field(default="", repr=False)


Namer = Callable[[RunnerIdentity, HookReport], Awaitable[Record | None]]
"""A bound runner and its hook's report to its record, named, allowed, and with its egress in force; None when nobody
can say yet which job the runner has. It may wait for that, and is cancelled after `naming.HOLD_SECONDS`.

GiveUpError `policy_denied`, `policy_undefined`, `policy_error`, or another reason why the job may not go on here."""

WorkFiles = Callable[[Record], Awaitable[Mapping[str, str]]]
"""More of the work of a runner that has just been bound: file name to content, secrets that never touch the journal.
Called until it succeeds, for `work_files.WORK_SECONDS` at most: also after a failure that was none."""

Introspect = Callable[[str], Awaitable[Mapping[str, Any]]]
"""RFC 7662: a token to its introspection answer; `{"active": False}` for anything that is not good."""

SpanRelay = Callable[[JobId, bytes, str], Awaitable[SpansRelayed]]
"""One OTLP trace request of a running job, with its Content-Encoding; GiveUpError `spans_*` when it is no good."""

Metrics = Callable[[str], tuple[bytes, str]]
"""A scrape's Accept header to body and content type. Must not block."""

Served = Callable[[str, str, int, float], None]
"""Method, path of the operation, status and seconds of a request."""

Readiness = Callable[[], Mapping[str, str]]
"""Each check by name to `ok` or to what is wrong; all must be `ok`. Must not block."""


@dataclass(frozen=True, slots=True)
class PolicyQuestion:
    """A deployment that somebody has in mind: where, what (`sha256:<hex>`), by which ticket, in which pool and with
    which registered secrets. All but `environment` may be empty."""

    environment: str
    artifact_digest: str = ""
    ticket: str = ""
    pool: str = ""
    secrets: tuple[str, ...] = ()


CheckPolicy = Callable[[Caller, PolicyQuestion], Awaitable[Decision]]
"""What policy says of it, asked by this caller; nothing is granted, counted or used up. GiveUpError `pool_unknown`."""


class JobEngine(Protocol):
    """What the server asks of the engine; `lifecycle.engine.Engine` is the real one."""

    def record(self, job_id: JobId) -> Record | None: ...

    def record_of_runner(self, name: RunnerName) -> Record | None: ...

    def bound_record(self, identity: RunnerIdentity) -> Record | None: ...

    def under_way(self, record: Record) -> RunnerObserved | None: ...

    def live_ids(self) -> Sequence[JobId]: ...

    async def offer(self, offer: JobOffer) -> tuple[Record, bool]: ...

    async def cancel(self, job_id: JobId, by: str, reason: str = "") -> Record | None: ...

    async def claim(self, identity: RunnerIdentity, proof: EgressProof) -> Record: ...

    async def abandon(self, job_id: JobId, message: str) -> None: ...

    async def note(self, job_id: JobId, *notes: Event) -> None: ...


class WebhookReceiver(Protocol):
    """A source that is told of jobs by its platform's webhooks."""

    max_body_bytes: int

    async def receive(self, headers: Mapping[str, str], body: bytes) -> str:
        """`accepted`, `known` or `ignored`; it is durable when this returns. `headers` ignores case.

        GiveUpError `webhook_*` when the sender is not believed, or not understood.
        """
        ...


class LogReader(Protocol):
    """Jobs' output as kept: masked and cut already."""

    async def read(self, job_id: JobId, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset`; empty when there are no more now, or no log at all."""
        ...

    async def more(self, job_id: JobId, offset: int) -> None:
        """Return when the log may be longer than `offset`. May wait for ever; the caller cancels it."""
        ...


class Documents(Protocol):
    """The issuer's public documents; `jwks` changes when keys rotate."""

    def discovery(self) -> Mapping[str, Any]: ...

    def jwks(self) -> Mapping[str, Any]: ...


class TrustReader(Protocol):
    """The trust map in force, for people. Answers are JSON's types. Must not block."""

    def listed(self, audience: str) -> bool:
        """Whether the settings list the audience."""
        ...

    def explain(self, record: Record, audience: str, role: str) -> Mapping[str, Any] | None:
        """See `trust_shapes.ExplanationView`; None when the job's pool is gone."""
        ...

    def inventory(self) -> Mapping[str, Any]:
        """See `trust_shapes.InventoryView`."""
        ...


class ArtifactDesk(Protocol):
    """What is known of artifacts, by digest (`sha256:<hex>`). Answers are JSON's types. All may raise TryAgainError."""

    async def listed(self, limit: int) -> Sequence[str]:
        """Digests; those first about which something was said last."""
        ...

    async def show(self, digest: str) -> Mapping[str, Any] | None:
        """See `artifact_shapes.ArtifactView`; None when nothing is known."""
        ...

    async def bundle(self, digest: str, attestation: str) -> str | None:
        """One attestation as a Sigstore bundle (JSON text), by its id (`sha256:<hex>`)."""
        ...

    async def upload(self, digest: str, text: str, caller: Caller) -> tuple[Mapping[str, Any], bool]:
        """Keep an envelope or bundle (JSON text); see `artifact_shapes.AttestationView`, and whether it was new.

        GiveUpError `digest_malformed`, `evidence_full`, or why it is neither envelope nor bundle.
        """
        ...


class AuditDocuments(Protocol):
    """What the audit log shows of itself to everybody. Must not block."""

    def checkpoint(self) -> str:
        """The newest checkpoint: a signed note (C2SP tlog-checkpoint)."""
        ...

    def vkey(self) -> str:
        """The public key that checkpoints verify with, in C2SP's text form."""
        ...


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool, how many runners and waiting jobs it has now, and each guard that it lacks."""

    pool: Pool
    in_use: int
    waiting: int
    guards_missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the public API. Sizes in bytes, times in seconds.

    `request_timeout_seconds` is for a whole request that is no stream, its body's `body_timeout_seconds` included.
    """

    max_body_bytes: int = 1 << 20
    body_timeout_seconds: float = 20
    request_timeout_seconds: float = 45
    write_timeout_seconds: float = 30
    heartbeat_seconds: float = 15
    retry_after_seconds: int = 5
    max_streams: int = 256
    stream_buffer_facts: int = 1024
    max_token_chars: int = 8192
    max_connections: int = 1024
    idle_seconds: float = 75
    jwks_max_age_seconds: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDeps:
    """Everything `build_app` needs. `local_issuer` is the `iss` whose callers are operators and see every job."""

    engine: JobEngine
    reader: JournalReader
    logs: LogReader
    authenticate: Authenticate
    documents: Documents
    introspect: Introspect
    trace: Callable[[Sequence[Fact], RunnerObserved | None], Mapping[str, Any]]
    """A job's facts, and what was seen of its runner and is no fact yet, to the document of its trace."""
    metrics: Metrics
    pools: Callable[[], Sequence[PoolState]]
    readiness: Readiness
    draining: Callable[[], bool]
    local_issuer: str
    keys: KeyDesk
    evidence_key: str
    """The public key of receipts and provenance, as PEM."""
    sources: Callable[[], Sequence[SourceState]] = tuple
    """What watches platforms for jobs. Must not block."""
    webhooks: Mapping[str, WebhookReceiver] = field(default_factory=dict)
    """By the source's name."""
    issuers: Mapping[str, Documents] = field(default_factory=dict)
    """Issuers of their own by name, besides `documents`."""
    trust: TrustReader | None = None
    """None where no trust map is configured."""
    audit: AuditDocuments | None = None
    """None where no audit log is kept."""
    approvals: ApprovalDesk | None = None
    """None where none are kept."""
    check_policy: CheckPolicy | None = None
    """None where such questions are not answered."""
    artifacts: ArtifactDesk | None = None
    """None where no evidence is kept."""
    secrets: SecretDesk | None = None
    """None where none are kept."""
    books: Books | None = None
    """None where nothing is counted."""
    around: Around = lambda *_, **__: Surroundings()
    """What is known beside a job's record of why it stands where it stands."""
    page: Door | None = None
    """How people are let in by the live page; None where there is none."""
    instance: str = ""
    """Differs at each start of the daemon."""
    operating: OperatingDesk | None = None
    """None where the daemon itself cannot be operated."""
    notifications: NotificationDesk | None = None
    """None where nobody else is told of jobs."""
    limits: Limits = field(default_factory=Limits)
    served: Served = lambda *_: None
    """Is told of every request that was answered, but for streams."""


CALLER = web.RequestKey("caller", Caller)
"""The verified caller of a request to a protected operation."""
