"""A runner's own token for one of ours (RFC 8693): checked, decided, recorded, checked again, then signed.

The order is the point. Policy's answer and the token's facts are durable before the token exists, and
between the last look at the job's record and the signature nothing awaits: no token can be signed for a
job whose end is recorded. Whatever goes wrong on the way, no token comes out.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.identity.grammar import ExchangeRefusedError, ExchangeRequest
from orchestrator.identity.issuer import Issuer, TokenDraft
from orchestrator.identity.rate import RateLimit
from orchestrator.lifecycle.ports import Policy, RunnerIdentity
from orchestrator.model.decision import Decision
from orchestrator.model.events import Event, ExchangeDecided, TokenRefused
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

TIMEOUT_SECONDS: Final = 15.0


class Note(Protocol):
    """Appends facts to a job, all or none; they are durable when it returns."""

    def __call__(self, job_id: JobId, *events: Event) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What an exchange asks of the rest of the daemon.

    `record_of` is the record that the runner is bound to, or None; `pool_of` a configured pool;
    `on_secret` is told each token before it leaves, so that the job's log masks it.
    """

    policy: Policy
    record_of: Callable[[RunnerIdentity], Record | None]
    pool_of: Callable[[PoolName], Pool | None]
    note: Note
    on_secret: Callable[[JobId, str], None]


class Exchange:
    """One per daemon. `monotonic` gives seconds for the rate limit, per (runner uid, listed audience)."""

    def __init__(
        self,
        issuer: Issuer,
        collaborators: Collaborators,
        rate: RateLimit,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._issuer = issuer
        self._with = collaborators
        self._rate = rate
        self._timeout_seconds = timeout_seconds

    async def exchange(self, runner: RunnerIdentity, request: ExchangeRequest) -> dict[str, Any]:
        """The answer of RFC 8693 section 2.2.1, to be sent with `Cache-Control: no-store`.

        `runner` is who the subject token proved to be, on that runner's own listener.

        Raises:
            ExchangeRefusedError: no token, and why.
        """
        reference = secrets.token_hex(8)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange(runner, request, reference)
        except ExchangeRefusedError:
            raise
        except (TryAgainError, TimeoutError) as error:
            reason = error.reason if isinstance(error, TryAgainError) else "exchange_timeout"
            raise _unavailable(reference, reason) from error
        except GiveUpError as error:
            raise _ended(reference) if error.reason == "job_finished" else _failed(reference) from error
        except Exception as error:  # whatever a collaborator raises must end in a refusal
            raise _failed(reference) from error

    async def _exchange(self, runner: RunnerIdentity, request: ExchangeRequest, reference: str) -> dict[str, Any]:
        record = self._live_record(runner, reference)
        pool = self._with.pool_of(record.offer.spec.pool)
        if pool is None:
            raise _failed(reference)
        listed = request.audience in self._issuer.config.audiences
        # Audiences that are not listed share one bucket: the job chooses their names.
        wait = self._rate.take((runner.uid, request.audience if listed else ""))
        if wait > 0:
            raise _too_many(reference, wait)
        if not listed:
            await self._with.note(record.id, TokenRefused(request.audience, "audience_unlisted"))
            raise ExchangeRefusedError(
                "invalid_target",
                f"audience {request.audience!r} is not one that jobs of this installation can ask for",
                reason="audience_unlisted",
                reference=reference,
                fix="ask the operator to list it under identity.audiences",
            )
        decision = await self._with.policy.exchange(record, pool, request.audience)
        draft = await self._decide(record, pool, request.audience, decision, reference)
        # From here to the signature nothing may await.
        record = self._live_record(runner, reference, same=record)
        token = self._issuer.sign(draft)
        self._with.on_secret(record.id, token)
        return {
            "access_token": token,
            "issued_token_type": request.issued_token_type,
            "token_type": "N_A",
            "expires_in": draft.lifetime_seconds,
        }

    async def _decide(
        self, record: Record, pool: Pool, audience: str, decision: Decision, reference: str
    ) -> TokenDraft:
        """Record the decision and what follows from it, in one write; the draft if a token follows."""
        decided = ExchangeDecided(audience, decision)
        if not decision.allowed:
            reason = f"policy_{decision.verdict.value}"
            await self._with.note(record.id, decided, TokenRefused(audience, reason))
            raise ExchangeRefusedError(
                "invalid_target",
                f"no token for {audience!r}: {decision.explain()}",
                reason=reason,
                reference=reference,
                fix="meet the rule named above, or ask the owners of the policy",
            )
        try:
            draft = self._issuer.draft(record, pool, audience, decision)
        except OrchestratorError as error:
            await self._with.note(record.id, decided, TokenRefused(audience, error.reason))
            raise ExchangeRefusedError(
                "invalid_target",
                f"no token for {audience!r}: {error}",
                reason=error.reason,
                reference=reference,
                fix=error.fix,
            ) from error
        await self._with.note(record.id, decided, draft.issued)
        return draft

    def _live_record(self, runner: RunnerIdentity, reference: str, same: Record | None = None) -> Record:
        record = self._with.record_of(runner)
        if record is None or not record.bound:
            raise _ended(reference)
        if not runner.uid or record.bound_uid != runner.uid or record.runner != runner.name:
            raise ExchangeRefusedError(
                "invalid_request",
                "this runner is not the one that the job is bound to",
                reason="runner_not_bound",
                reference=reference,
                status=401,
            )
        if record.cancel is not None or (same is not None and record.id != same.id):
            raise _ended(reference)
        if not record.live:
            raise _without_identity(record, reference)
        return record


def _ended(reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "invalid_request", "the job has ended or is being cancelled", reason="job_ended", reference=reference
    )


def _without_identity(record: Record, reference: str) -> ExchangeRefusedError:
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
        return _ended(reference)
    return ExchangeRefusedError(
        "invalid_request",
        "the platform has not named the job of this runner yet, so it has no identity",
        reason="job_not_named",
        reference=reference,
        fix="ask again when the job-started hook has ended",
    )


def _failed(reference: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "server_error",
        "the exchange failed on our side",
        reason="exchange_failed",
        status=500,
        reference=reference,
        fix="tell the operator the reference",
    )


def _unavailable(reference: str, reason: str) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "temporarily_unavailable",
        "the exchange cannot be recorded or decided now",
        reason=reason,
        status=503,
        reference=reference,
        retry_after_seconds=1,
        fix="try again",
    )


def _too_many(reference: str, wait: float) -> ExchangeRefusedError:
    return ExchangeRefusedError(
        "slow_down",
        "too many token requests for this audience",
        reason="rate_limited",
        status=429,
        reference=reference,
        retry_after_seconds=max(1, round(wait + 0.5)),
        fix="keep a token until it expires instead of asking for each use",
    )
