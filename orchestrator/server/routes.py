"""Every operation of the public API, once: what is served and what is documented are read from this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from orchestrator.server import key_shapes, schemas, shapes, source_shapes, trust_shapes

JSON = "application/json"
TEXT = "text/plain"
PEM = "application/x-pem-file"
SSE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """A success answer: what it means, and the model or media type of its body."""

    description: str
    model: type[BaseModel] | None = None
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `problems` are the error statuses besides those every operation of its kind has."""

    id: str
    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    protected: bool = True
    body: type[BaseModel] | None = None
    form: bool = False
    query: type[BaseModel] = schemas.NoQuery
    problems: tuple[int, ...] = ()
    dispatch: bool = False
    webhook: bool = False
    stream: bool = False


_JOB = Answer("The job", shapes.JobView)
_REPLAYED = {"Idempotency-Replayed": "`true`: the job of an earlier request with this key"}
_LOCATED = {"Location": "Path of the job", "traceparent": "W3C trace context of the job's own trace"}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "dispatch_job",
        "POST",
        "/v1/jobs",
        "Dispatch a job",
        {
            202: Answer("Taken in; durable", shapes.JobView, headers=_LOCATED),
            200: Answer("This key dispatched this job before", shapes.JobView, headers=_LOCATED | _REPLAYED),
        },
        body=schemas.JobRequest,
        problems=(422, 429, 503),
        dispatch=True,
    ),
    Operation(
        "list_jobs",
        "GET",
        "/v1/jobs",
        "List jobs, newest first",
        {200: Answer("One page", shapes.JobListView)},
        query=schemas.ListQuery,
    ),
    Operation("get_job", "GET", "/v1/jobs/{job_id}", "Read a job", {200: _JOB}, problems=(404,)),
    Operation(
        "cancel_job",
        "DELETE",
        "/v1/jobs/{job_id}",
        "Cancel a job; again and after its end without effect",
        {202: Answer("The cancellation is durable, or the job was over", shapes.JobView)},
        query=schemas.CancelQuery,
        problems=(404, 503),
    ),
    Operation(
        "read_log",
        "GET",
        "/v1/jobs/{job_id}/log",
        "Read or follow a job's output",
        {200: Answer("Output, secrets masked", media_type=TEXT)},
        query=schemas.LogQuery,
        stream=True,
        problems=(404, 503),
    ),
    Operation(
        "read_events",
        "GET",
        "/v1/jobs/{job_id}/events",
        "Read or follow a job's facts as server-sent events",
        {200: Answer("`id` is the fact's sequence, `event` its kind, `data` JSON", media_type=SSE)},
        query=schemas.EventsQuery,
        stream=True,
        problems=(404, 503),
    ),
    Operation(
        "read_trace",
        "GET",
        "/v1/jobs/{job_id}/trace",
        "Read a job's trace",
        {200: Answer("Spans so far", shapes.TraceView)},
        problems=(404,),
    ),
    Operation(
        "read_receipt",
        "GET",
        "/v1/jobs/{job_id}/receipt",
        "Read a finished job's receipt: a signed DSSE envelope",
        {200: Answer("The envelope", shapes.EnvelopeView)},
        problems=(404,),
    ),
    Operation(
        "evidence_key",
        "GET",
        "/v1/evidence/key",
        "Read the public key that receipts and provenance verify with",
        {200: Answer("The key", media_type=PEM)},
        protected=False,
    ),
    Operation(
        "explain_trust",
        "GET",
        "/v1/jobs/{job_id}/trust",
        "Read why a job gets a token for an audience, or none",
        {200: Answer("What the trust map says now, and what was recorded", trust_shapes.TrustView)},
        query=schemas.TrustQuery,
        problems=(404,),
    ),
    Operation(
        "trust_inventory",
        "GET",
        "/v1/trust",
        "Read who could get what by the trust map; for operators",
        {200: Answer("Every grant", trust_shapes.InventoryView)},
        problems=(403,),
    ),
    Operation(
        "list_keys",
        "GET",
        "/v1/keys",
        "List the issuers' signing keys, without anything private; for operators",
        {200: Answer("All issuers", key_shapes.KeyListView)},
        problems=(403,),
    ),
    Operation(
        "revoke_key",
        "POST",
        "/v1/keys/{kid}/revoke",
        "Withdraw a signing key at once; again without effect; for operators",
        {200: Answer("It is withdrawn, and another signs", key_shapes.KeyRevokedView)},
        problems=(403, 404, 503),
    ),
    Operation("list_pools", "GET", "/v1/pools", "List pools", {200: Answer("All pools", shapes.PoolListView)}),
    Operation(
        "list_sources",
        "GET",
        "/v1/sources",
        "List sources and how they are doing; for operators",
        {200: Answer("All sources", source_shapes.SourceListView)},
        problems=(403,),
    ),
    Operation(
        "audit_checkpoint",
        "GET",
        "/v1/audit/checkpoint",
        "The newest signed checkpoint of the audit log (C2SP tlog-checkpoint)",
        {200: Answer("A signed note", media_type=TEXT)},
        protected=False,
        problems=(404,),
    ),
    Operation(
        "audit_key",
        "GET",
        "/v1/audit/key",
        "The key that checkpoints of the audit log verify with (C2SP signed-note)",
        {200: Answer("The key's text form, on one line", media_type=TEXT)},
        protected=False,
        problems=(404,),
    ),
    Operation(
        "introspect",
        "POST",
        "/v1/introspect",
        "Ask whether a token of ours is good now (RFC 7662)",
        {200: Answer("The answer")},
        protected=False,
        form=True,
        problems=(422,),
    ),
    Operation(
        "github_webhook",
        "POST",
        "/webhooks/github/{source}",
        "Tell of a job, as GitHub's webhooks do",
        {202: Answer("Taken in and durable, known already, or of no interest", shapes.ReceiptView)},
        protected=False,
        webhook=True,
        problems=(403, 404, 503),
    ),
    Operation(
        "discovery",
        "GET",
        "/.well-known/openid-configuration",
        "OpenID Connect discovery",
        {200: Answer("The document")},
        protected=False,
    ),
    Operation(
        "authorization_server",
        "GET",
        "/.well-known/oauth-authorization-server",
        "The same as RFC 8414 names it",
        {200: Answer("The document")},
        protected=False,
    ),
    Operation("jwks", "GET", "/jwks.json", "Public keys", {200: Answer("A JWK set")}, protected=False),
    Operation(
        "issuer_discovery",
        "GET",
        "/issuers/{issuer}/.well-known/openid-configuration",
        "OpenID Connect discovery of an issuer of its own",
        {200: Answer("The document")},
        protected=False,
        problems=(404,),
    ),
    Operation(
        "issuer_authorization_server",
        "GET",
        "/.well-known/oauth-authorization-server/issuers/{issuer}",
        "The same where RFC 8414 puts it",
        {200: Answer("The document")},
        protected=False,
        problems=(404,),
    ),
    Operation(
        "issuer_jwks",
        "GET",
        "/issuers/{issuer}/jwks.json",
        "Public keys of an issuer of its own",
        {200: Answer("A JWK set")},
        protected=False,
        problems=(404,),
    ),
    Operation(
        "health",
        "GET",
        "/healthz",
        "Is the process alive",
        {200: Answer("It is", shapes.HealthView)},
        protected=False,
    ),
    Operation(
        "readiness",
        "GET",
        "/readyz",
        "May it be given work",
        {200: Answer("Ready", shapes.ReadyView), 503: Answer("Not ready, and why", shapes.ReadyView)},
        protected=False,
    ),
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "Prometheus metrics",
        {200: Answer("Text exposition format", media_type=TEXT)},
        protected=False,
    ),
    Operation("openapi", "GET", "/openapi.json", "This document", {200: Answer("OpenAPI 3.1")}, protected=False),
)

BY_ID: Mapping[str, Operation] = {operation.id: operation for operation in OPERATIONS}
