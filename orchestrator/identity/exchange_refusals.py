"""The refusals of an exchange, in the words of OAuth and of the job's author."""

from __future__ import annotations

from orchestrator.errors import OrchestratorError
from orchestrator.identity.brokered import CredentialNotMadeError
from orchestrator.identity.grammar import ExchangeRefusedError
from orchestrator.identity.trust.answers import Refusal
from orchestrator.model.decision import Decision
from orchestrator.model.record import Record

_ROLE_CODES = frozenset({"role_not_mapped", "role_required"})


def unlisted(audience: str, reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "invalid_target",
        f"audience {audience!r} is not one that jobs of this installation can ask for",
        reason="audience_unlisted",
        reference=reference,
        fix="ask the operator to list it under identity.audiences",
    )


def no_roles_here(reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "invalid_scope",
        "there is no trust map here that could map a role",
        reason="scope_unsupported",
        reference=reference,
        fix="ask without scope",
    )


def by_policy(audience: str, decision: Decision, reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "invalid_target",
        f"no token for {audience!r}: {decision.explain()}",
        reason=f"policy_{decision.verdict.value}",
        reference=reference,
        fix="meet the rule named above, or ask the owners of the policy",
    )


def by_trust_map(audience: str, refusal: Refusal, reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "invalid_scope" if refusal.code in _ROLE_CODES else "invalid_target",
        f"no token for {audience!r}: {refusal.message} [{refusal.rule}]",
        reason=refusal.code,
        reference=reference,
        fix=refusal.fix,
    )


def unfit(audience: str, error: OrchestratorError, reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "invalid_target",
        f"no token for {audience!r}: {error}",
        reason=error.reason,
        reference=reference,
        fix=error.fix,
    )


def not_made(audience: str, error: CredentialNotMadeError, reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "temporarily_unavailable" if error.again else "invalid_target",
        f"no token for {audience!r}: {error}",
        reason=error.reason,
        status=503 if error.again else 400,
        reference=reference,
        retry_after_seconds=5 if error.again else 0,
        fix=error.fix,
    )


def another_runner(reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "invalid_request",
        "this runner is not the one that the job is bound to",
        reason="runner_not_bound",
        reference=reference,
        status=401,
    )


def ended(reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "invalid_request", "the job has ended or is being cancelled", reason="job_ended", reference=reference
    )


def without_identity(record: Record, reference: str) -> ExchangeRefusedError:
    """The runner is there, and the job that its platform gave it is not known yet, is refused, or has ended with it."""
    if record.refused is not None:
        return ExchangeRefusedError(
            "invalid_request",
            f"policy refused this job: {record.refused.explain()}",
            reason="job_refused",
            reference=reference,
            fix="meet the rule named above, or ask the owners of the policy",
        )
    if record.named_at_ns:
        return ended(reference)
    return ExchangeRefusedError(
        "invalid_request",
        "the platform has not named the job of this runner yet, so it has no identity",
        reason="job_not_named",
        reference=reference,
        fix="ask again when the job-started hook has ended",
    )


def failed(reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "server_error",
        "the exchange failed on our side",
        reason="exchange_failed",
        status=500,
        reference=reference,
        fix="tell the operator the reference",
    )


def unavailable(reference: str, reason: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "temporarily_unavailable",
        "the exchange cannot be recorded or decided now",
        reason=reason,
        status=503,
        reference=reference,
        retry_after_seconds=1,
        fix="try again",
    )


def too_many(reference: str, wait: float) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "slow_down",
        "too many token requests for this audience",
        reason="rate_limited",
        status=429,
        reference=reference,
        retry_after_seconds=max(1, round(wait + 0.5)),
        fix="keep a token until it expires instead of asking for each use",
    )
