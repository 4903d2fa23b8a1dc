"""Problem documents (RFC 9457): the one shape of every error answer, and the closed table of reasons.

A problem says what is wrong, where in the request and what to do; it never repeats a value from the request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from aiohttp import web

from orchestrator.errors import ConfigurationError, GiveUpError, OrchestratorError, TryAgainError
from orchestrator.model.decision import Reason

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:orchestrator:problem:"
"""Problem types are names, not addresses: the daemon does not know where its documentation is published."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a reason means over HTTP: the status and the short summary that never varies."""

    status: int
    title: str


REASONS: Mapping[str, Kind] = {
    # the request itself
    "request_malformed": Kind(400, "The request is not valid HTTP"),
    "body_unexpected": Kind(400, "This takes no body"),
    "body_malformed": Kind(400, "The body cannot be read"),
    "body_too_large": Kind(413, "The body is too large"),
    "body_too_slow": Kind(408, "The body did not arrive in time"),
    "media_type_unsupported": Kind(415, "The media type is not supported"),
    "json_malformed": Kind(400, "The body is not acceptable JSON"),
    "validation_failed": Kind(422, "The request does not fit the schema"),
    "query_invalid": Kind(400, "The query string does not fit the schema"),
    "idempotency_key_missing": Kind(400, "The Idempotency-Key header is missing"),
    "idempotency_key_invalid": Kind(400, "The Idempotency-Key header is not valid"),
    "idempotency_key_reused": Kind(422, "The idempotency key was used for another request"),
    "not_found": Kind(404, "There is nothing here"),
    "method_not_allowed": Kind(405, "The method is not allowed here"),
    "expectation_failed": Kind(417, "The expectation cannot be met"),
    # who asks
    "token_missing": Kind(401, "A bearer token is needed"),
    "token_invalid": Kind(401, "The token is not valid"),
    "token_malformed": Kind(401, "The token cannot be read"),
    "token_expired": Kind(401, "The token has expired"),
    "token_not_yet_valid": Kind(401, "The token is from the future"),
    "token_too_old": Kind(401, "The token was issued too long ago"),
    "token_replayed": Kind(401, "The token was already used"),
    "issuer_unknown": Kind(401, "The token's issuer may not call here"),
    "signature_invalid": Kind(401, "The token's signature is not valid"),
    "algorithm_refused": Kind(401, "The token's algorithm is not accepted"),
    "audience_mismatch": Kind(401, "The token is meant for somebody else"),
    "claim_mismatch": Kind(401, "The token's claims are not those required"),
    "runner_unknown": Kind(401, "The runner credential is not valid here"),
    "operators_only": Kind(403, "This is for operators only"),
    # the live page
    "role_missing": Kind(403, "Your role does not include this"),
    "cross_site_refused": Kind(403, "The request comes from another site"),
    "host_unknown": Kind(421, "The request is for another host"),
    "sign_in_insecure": Kind(403, "Signing in would not be safe here"),
    "sign_in_link_invalid": Kind(403, "The sign-in link is not valid"),
    # webhooks
    "webhook_signature_missing": Kind(403, "The delivery is not signed"),
    "webhook_signature_invalid": Kind(403, "The delivery's signature is not valid"),
    "webhook_malformed": Kind(400, "The delivery cannot be read"),
    "webhook_secret_unreadable": Kind(503, "The webhook's secret cannot be read"),
    "webhook_inbox_full": Kind(503, "Too many deliveries wait"),
    "webhook_inbox_unwritable": Kind(503, "The delivery cannot be kept"),
    "webhook_overload": Kind(503, "Too much is being received"),
    # clusters
    "api_server_unknown": Kind(403, "The client certificate may not ask here"),
    "review_unfit": Kind(400, "The admission review cannot be judged"),
    # jobs
    "job_not_found": Kind(404, "There is no such job"),
    "pool_unknown": Kind(404, "There is no such pool"),
    "key_unknown": Kind(404, "There is no such signing key"),
    "key_issuer_unknown": Kind(404, "There is no such issuer here"),
    "keys_too_many": Kind(409, "Too many old signing keys are published"),
    "endpoint_unknown": Kind(404, "There is no such endpoint of notifications"),
    "secret_unknown": Kind(404, "There is no such secret"),
    "secret_retired": Kind(409, "The secret is retired"),
    "secret_not_rotatable": Kind(409, "The daemon cannot rotate the secret"),
    "secret_old_in_use": Kind(503, "Too many old values of the secret wait"),
    "receipt_pending": Kind(404, "The job has no receipt yet"),
    "receipt_missing": Kind(404, "The job has no receipt"),
    "receipt_not_kept": Kind(404, "The receipt is not kept any more"),
    "job_finished": Kind(409, "The job is over"),
    "job_not_running": Kind(409, "The job is not running"),
    "job_ended": Kind(410, "The job has ended"),
    "already_bound": Kind(409, "The job already has its runner"),
    "egress_unproven": Kind(403, "The denial of egress is not proven"),
    "work_unavailable": Kind(410, "A part of the work cannot be had"),
    "not_awaiting": Kind(409, "The runner does not wait for a job's name"),
    "second_job": Kind(409, "The runner has another job"),
    "job_already_named": Kind(409, "Another runner has the job"),
    "policy_denied": Kind(403, "Policy does not allow the job"),
    "policy_undefined": Kind(403, "No policy rule allows the job"),
    "policy_error": Kind(403, "Policy could not be evaluated"),
    "artifact_already_named": Kind(409, "The job deploys another artifact"),
    "naming_refused": Kind(403, "The job is not the one it says it is"),
    "too_many_artifacts": Kind(409, "The job has reported too many artifacts"),
    "too_many_documents": Kind(409, "The job has reported too many documents"),
    "document_too_large": Kind(413, "The document is too large"),
    "document_holds_secret": Kind(422, "The document holds a secret"),
    "predicate_type_refused": Kind(422, "Jobs cannot report this kind of document"),
    "artifact_unknown": Kind(404, "There is no such artifact"),
    "summary_missing": Kind(404, "The job has no verification summary"),
    "digest_malformed": Kind(422, "The digest is none"),
    "attestation_too_large": Kind(413, "The attestation is too large"),
    "envelope_malformed": Kind(422, "The attestation cannot be read"),
    "bundle_malformed": Kind(422, "The bundle cannot be read"),
    "bundle_version_unknown": Kind(422, "The bundle's version is not known"),
    "evidence_full": Kind(409, "No more evidence is kept of this artifact"),
    "relay_disabled": Kind(404, "Spans are not relayed"),
    "spans_invalid": Kind(400, "The spans cannot be read"),
    "spans_too_large": Kind(413, "The spans are too large"),
    # approvals and exceptions
    "approvals_not_configured": Kind(404, "No approvers are configured"),
    "approval_unknown": Kind(404, "There is no such approval or exception"),
    "approval_malformed": Kind(422, "The signed object cannot be read"),
    "approval_too_long": Kind(422, "The signed object asks for too much"),
    "approval_forged": Kind(403, "A signature does not hold"),
    "approval_signer_unknown": Kind(403, "Nobody who counts has signed it"),
    "approval_not_permitted": Kind(403, "Whoever signed it may not"),
    "approval_own_review": Kind(403, "Nobody reviews what they had a part in"),
    "approval_expired": Kind(409, "It has expired"),
    "approval_revoked": Kind(409, "It was revoked"),
    "approval_unused": Kind(409, "There is nothing to review"),
    # ours
    "queue_full": Kind(429, "The queue is full"),
    "draining": Kind(503, "The daemon takes no jobs now"),
    "daemon_stopping": Kind(409, "The daemon stops"),
    "journal_unavailable": Kind(503, "The journal cannot be written"),
    "evidence_unwritable": Kind(503, "Evidence cannot be kept"),
    "evidence_unreadable": Kind(503, "Evidence cannot be read"),
    "notifications_unwritable": Kind(503, "The outbox of notifications cannot be written"),
    "audit_unavailable": Kind(503, "The audit log cannot be written"),
    "approvals_full": Kind(503, "No more approvals can be kept"),
    "approvals_unavailable": Kind(503, "Approvals cannot be read or written"),
    "issuer_unreachable": Kind(503, "The token's issuer cannot be reached"),
    "too_many_streams": Kind(503, "Too many streams are open"),
    "table_not_ready": Kind(503, "There is no table of runners yet"),
    "too_many_gateways": Kind(503, "Too many gateways are known"),
    "temporarily_unavailable": Kind(503, "Try again later"),
    "internal_error": Kind(500, "Something is wrong on our side"),
}
"""Every reason that a problem document may carry; `docs/reference/reasons.md` explains each."""

_HTTP_REASONS: Mapping[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "media_type_unsupported",
    417: "expectation_failed",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One place in the request that is wrong. `pointer` is a JSON pointer (RFC 6901) as a URI fragment."""

    pointer: str
    detail: str


class ProblemError(GiveUpError):
    """A request that cannot be served, with the places that are wrong, or policy's reasons."""

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        fix: str = "",
        faults: Iterable[Fault] = (),
        reasons: Iterable[Reason] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, fix=fix)
        self.faults = tuple(faults)
        self.reasons = tuple(reasons)
        self.headers = dict(headers or {})


def public_reason(error: OrchestratorError) -> str:
    """The documented reason an error is answered with; what is not in the table is ours to explain, not the caller's.

    An unlisted *try again* becomes `temporarily_unavailable`, anything else `internal_error`.
    """
    if error.reason in REASONS and not isinstance(error, ConfigurationError):
        return error.reason
    if isinstance(error, TryAgainError):
        return "temporarily_unavailable"
    return "internal_error"


def problem(
    reason: str,
    detail: str,
    *,
    instance: str = "",
    fix: str = "",
    trace_id: str = "",
    reference: str = "",
    faults: Iterable[Fault] = (),
    reasons: Iterable[Reason] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A problem response. `instance` is the path asked for; `reference` finds an internal error in the log."""
    kind = REASONS[reason]
    document: dict[str, object] = {
        "type": TYPE_PREFIX + reason,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "reason": reason,
    }
    optional = {"instance": instance, "fix": fix, "trace_id": trace_id, "reference": reference}
    document |= {name: value for name, value in optional.items() if value}
    errors = [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults]
    if errors:
        document["errors"] = errors
    said = [{"code": one.code, "message": one.message} for one in reasons]
    if said:
        document["reasons"] = said
    return web.Response(
        body=msgspec.json.encode(document), status=kind.status, content_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def from_error(
    error: OrchestratorError, *, instance: str = "", trace_id: str = "", reference: str = ""
) -> web.Response:
    """The answer to one of our own errors.

    Internal errors keep their message to themselves: it may describe this machine. A 401 carries the
    challenge of RFC 6750, a *try again* its Retry-After in whole seconds.
    """
    reason = public_reason(error)
    kind = REASONS[reason]
    headers: dict[str, str] = {}
    faults: tuple[Fault, ...] = ()
    reasons: tuple[Reason, ...] = ()
    if isinstance(error, ProblemError):
        headers.update(error.headers)
        faults, reasons = error.faults, error.reasons
    if isinstance(error, TryAgainError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds or 1)))
    if kind.status == 401:
        code = "" if reason == "token_missing" else f' error="invalid_token", error_description="{kind.title}"'
        headers["WWW-Authenticate"] = f"Bearer{code}"
    if reason == "internal_error":
        return internal(reference, instance=instance, trace_id=trace_id)
    return problem(
        reason, str(error), instance=instance, fix=error.fix, trace_id=trace_id, faults=faults, reasons=reasons,
        headers=headers,
    )  # fmt: skip


def from_http(error: web.HTTPException, *, instance: str = "") -> web.Response:
    """The answer to an error that aiohttp raised by itself, such as 404 or 405 (with its Allow header)."""
    reason = _HTTP_REASONS.get(error.status, "request_malformed")
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return problem(reason, f"{REASONS[reason].title}.", instance=instance, headers=headers)


def internal(reference: str, *, instance: str = "", trace_id: str = "") -> web.Response:
    """The answer to a defect of ours: nothing but a reference under which the log tells more."""
    return problem(
        "internal_error",
        "The daemon met an unexpected error; its log says more under this reference.",
        instance=instance,
        trace_id=trace_id,
        reference=reference,
    )
