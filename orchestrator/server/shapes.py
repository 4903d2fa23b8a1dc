"""The documented shape of what goes out. Answers are plain mappings from `views`; tests hold them against these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.phase import Phase


class View(BaseModel):
    """Base of what goes out."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class StandView(View):
    """What an unfinished job waits for or does, in a word and a sentence."""

    reason: str
    """As in `GET /v1/jobs/{id}/why`."""
    sentence: str
    """Without the job's place in the line and without how long it has been so: `why` has both."""


class JobSummaryView(View):
    id: str
    name: str
    pool: str
    pipeline: str
    phase: Phase
    result: Result | None
    reason: EndReason | None
    why: StandView | None
    """Null for a finished job."""
    offered_at: str
    finished_at: str | None


class JobListView(View):
    jobs: list[JobSummaryView]
    next: str | None
    """Pass as `after` for the next page; null on the last one."""


class WaitView(View):
    reason: str
    detail: str


class CancelView(View):
    by: str
    reason: str


class CallerView(View):
    issuer: str
    subject: str
    facts: dict[str, str]


class RunnerView(View):
    name: str
    uid: str


class PlatformJobView(View):
    """The job of a runner that its platform has asked for, before it said for which."""

    state: Literal["expected", "awaited", "named", "refused", "completed"]
    """*expected*: the runner is not there yet; *awaited*: it waits for the platform to give it a job and name it."""
    key: str
    """The platform's name of the job, unique for ever; empty before it is named."""
    proof: str
    """What the name rests on: `oidc`, the platform's token for the job, or `api`, its message and its API."""
    named_at: str | None
    result: str
    """How the job ended, in the platform's own word; empty until then."""
    told_by: str
    completed_at: str | None


class LogView(View):
    bytes_kept: int
    bytes_dropped: int
    secrets_masked: int


class SignatureView(View):
    keyid: str
    sig: str


class EnvelopeView(View):
    """A DSSE envelope. `payload` is base64 of the signed bytes."""

    payload: str
    payloadType: str  # noqa: N815 -- DSSE's name
    signatures: list[SignatureView]


class JobView(View):
    """A job as its facts tell it. Times are RFC 3339 in UTC, null for *not yet*.

    `compacted` says that retention has kept only one line of the job; what is not known any more is empty.
    """

    id: str
    name: str
    pool: str
    pipeline: str
    source: str
    attempt: int
    phase: Phase
    wait: WaitView | None
    result: Result | None
    reason: EndReason | None
    message: str
    exit_code: int | None
    offered_at: str
    bound_at: str | None
    ended_at: str | None
    finished_at: str | None
    cancel: CancelView | None
    caller: CallerView
    deployment_environment: str
    artifact_digest: str
    ticket: str
    """Id of the release ticket, as the job named it."""
    secrets: list[str]
    """Names of the registered secrets that it asked for."""
    runner: RunnerView | None
    platform_job: PlatformJobView | None
    """Null for a job that was known from the start."""
    trace_id: str
    decisions: list[dict[str, Any]]
    tokens: list[dict[str, Any]]
    """As issued. A third party's has `revoked_at` once it was ended there, `not_made` when there never was one."""
    token_refusals: list[dict[str, Any]]
    egress: list[dict[str, Any]]
    egress_omitted: int
    artifacts: list[dict[str, Any]]
    provenance: list[dict[str, Any]]
    documents: list[dict[str, Any]]
    """What the job reported about artifacts."""
    attestations: list[dict[str, Any]]
    """What was signed of that at its end, by id."""
    summaries: list[dict[str, Any]]
    """Verification summaries that its identity was bound to, by digest; the newest is at `/summary`."""
    receipt_digest: str | None
    """Of the signed statement, once there is one; the receipt itself is at `/receipt`."""
    alarms: list[dict[str, Any]]
    leftovers: list[str]
    log: LogView | None
    compacted: bool


class WhyPoolView(View):
    """A waiting job's pool now; what is not known, or is of no matter to this job, is null."""

    name: str
    capacity: int | None
    in_use: int | None
    before: int | None
    """Jobs that get a place earlier, as the line is now."""


class WhyView(View):
    """What a job waits for, or why it ended."""

    id: str
    name: str
    phase: Phase
    result: Result | None
    reason: str
    """An end's reason, a reason to wait, or what an unfinished job does that does not wait; `journal_unavailable` or
    `audit_unavailable` while nothing of an unfinished job can be recorded."""
    sentence: str
    """For people, with how long it has been so and when it is given up."""
    next_step: str
    since: str | None
    """When that began; null when it is not known."""
    gives_up_at: str | None
    """The earliest moment at which the job is ended for it; null when that is not known or never happens."""
    pool: WhyPoolView
    hints: list[str]
    """What else went wrong in the job and may explain its end: refused connections and tokens, alarms."""


class PoolView(View):
    name: str
    backend: str
    trust_tier: str
    capacity: int
    in_use: int
    waiting: int
    base: str
    isolation: str
    egress: list[str]
    require_egress_proof: bool
    max_job_seconds: int
    guards_missing: list[str]
    """What the pool should have for its protection and has not; a protected pool takes no job meanwhile."""


class PoolListView(View):
    pools: list[PoolView]


class SpanEventView(View):
    name: str
    at_ns: int
    attributes: dict[str, Any]


class SpanView(View):
    name: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int | None
    status: str
    attributes: dict[str, Any]
    events: list[SpanEventView]


class TraceView(View):
    trace_id: str
    spans: list[SpanView]


class ReceiptView(View):
    receipt: Literal["accepted", "known", "ignored"]


class HealthView(View):
    status: Literal["ok"]


class ReadyView(View):
    ready: bool
    checks: dict[str, str]
    """Each check's name and `ok`, or what is wrong."""


class FaultView(View):
    pointer: str
    detail: str


class ReasonView(View):
    code: str
    message: str


class ProblemView(View):
    """RFC 9457. `reason` is the word to program against; `errors` point into the request body; `reasons` are policy's,
    where it does not allow a job."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    instance: str = ""
    fix: str = ""
    trace_id: str = ""
    reference: str = ""
    errors: list[FaultView] = Field(default_factory=list)
    reasons: list[ReasonView] = Field(default_factory=list)
