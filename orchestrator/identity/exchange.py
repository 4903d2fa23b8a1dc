"""A runner's own token for one of ours (RFC 8693): checked, decided, recorded, checked again, then signed.

The order is the point: live record, listed audience, policy, trust map; both must allow. The answers and the token's
facts are durable before the token exists, and between the last look at the job's record and the signature nothing
awaits: no token can be signed for a job whose end is recorded. Whatever goes wrong on the way, no token comes out.

Where a third party makes the credential (`brokered`), its making takes the signature's place, and the last look comes
after it: what a job may not have any more by then is ended instead of handed over.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.identity import exchange_refusals as refusals
from orchestrator.identity.brokered import Broker, BrokeredDraft, CredentialNotMadeError
from orchestrator.identity.grammar import ACCESS_TOKEN_TYPE, ExchangeRefusedError, ExchangeRequest
from orchestrator.identity.issuer import TokenDraft, Trusted
from orchestrator.identity.issuers import MAIN, IssuerSet
from orchestrator.identity.rate import RateLimit
from orchestrator.identity.trust.answers import Refusal
from orchestrator.identity.trust.facts import trust_facts
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.lifecycle.ports import Policy, RunnerIdentity
from orchestrator.model.decision import Decision
from orchestrator.model.events import Event, ExchangeDecided, SummarySigned, TokenRefused
from orchestrator.model.job import JobId
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

TIMEOUT_SECONDS: Final = 15.0


class Note(Protocol):
    """Appends facts to a job, all or none; they are durable when it returns."""

    def __call__(self, job_id: JobId, *events: Event) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Summary:
    """What the gate swears to about an artifact that it lets through. `digest` (`sha256:<hex>`) goes into the token;
    `signed` is the fact to record before that, None where it is on record already."""

    digest: str
    signed: SummarySigned | None = None


Summarize = Callable[[Record, Decision], Awaitable[Summary | None]]
"""The summary that an allowed deploy job's identity is bound to; None for a job that deploys nothing. May raise."""


def _no_trust_map() -> TrustMap | None:
    return None


async def _no_summary(_record: Record, _decision: Decision) -> Summary | None:
    return None


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What an exchange asks of the rest of the daemon.

    `record_of` is the record that the runner is bound to, or None; `pool_of` its pool; `on_secret` is told
    each token before it leaves, so that the job's log masks it. `trust` gives the trust map in force, None where none
    is configured; `broker` is for audiences of third parties, which only a trust map can grant. `summarize` is asked
    once both have allowed a token, and what it signs is recorded before the token is.
    """

    policy: Policy
    record_of: Callable[[RunnerIdentity], Record | None]
    pool_of: Callable[[Record], Pool | None]
    note: Note
    on_secret: Callable[[JobId, str], object]
    trust: Callable[[], TrustMap | None] = _no_trust_map
    broker: Broker | None = None
    summarize: Summarize = _no_summary


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request of a live job, on its way; `reference` names its refusal, if it comes to one."""

    record: Record
    pool: Pool
    request: ExchangeRequest
    reference: str

    @property
    def audience(self) -> str:
        return self.request.audience


class Exchange:
    """One per daemon. `monotonic` of `rate` gives seconds, for each (runner uid, listed audience)."""

    def __init__(
        self,
        issuers: IssuerSet,
        collaborators: Collaborators,
        rate: RateLimit,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._issuers = issuers
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
            raise refusals.unavailable(reference, reason) from error
        except GiveUpError as error:
            over = error.reason == "job_finished"
            raise (refusals.ended if over else refusals.failed)(reference) from error
        except Exception as error:  # whatever a collaborator raises must end in a refusal
            raise refusals.failed(reference) from error

    async def _exchange(self, runner: RunnerIdentity, request: ExchangeRequest, reference: str) -> dict[str, Any]:
        record = self._live_record(runner, reference)
        pool = self._with.pool_of(record)
        if pool is None:
            raise refusals.failed(reference)
        asked = _Asked(record, pool, request, reference)
        await self._check_target(runner, asked)
        decision = await self._with.policy.exchange(record, pool, request.audience)
        draft = await self._decide(asked, decision)
        # From here to the signature nothing may await.
        record = self._live_record(runner, reference, same=record)
        if isinstance(draft, BrokeredDraft):
            return await self._brokered(runner, asked, draft)
        token = self._issuers.by_url(draft.claims["iss"]).sign(draft)
        self._with.on_secret(record.id, token)
        return _answer(token, request.issued_token_type, "N_A", draft.lifetime_seconds, draft.issued.role)

    async def _check_target(self, runner: RunnerIdentity, asked: _Asked) -> None:
        """Whether anybody could have a token for this audience and scope, and whether it is not asked for too often."""
        listed = self._issuers.lists(asked.audience) or self._is_brokered(asked.audience)
        # Audiences that are not listed share one bucket: the job chooses their names.
        wait = self._rate.take((runner.uid, asked.audience if listed else ""))
        if wait > 0:
            raise refusals.too_many(asked.reference, wait)
        refusal = None
        if not listed:
            refusal = refusals.unlisted(asked.audience, asked.reference)
        elif asked.request.role and self._with.trust() is None:
            refusal = refusals.no_roles_here(asked.reference)
        if refusal is not None:
            await self._with.note(asked.record.id, TokenRefused(asked.audience, refusal.reason, asked.request.role))
            raise refusal

    def _is_brokered(self, audience: str) -> bool:
        return self._with.broker is not None and self._with.broker.serves(audience)

    async def _decide(self, asked: _Asked, decision: Decision) -> TokenDraft | BrokeredDraft:
        """Record the decision and what follows from it, in one write; the draft if a token follows."""
        audience, role = asked.audience, asked.request.role
        decided = ExchangeDecided(audience, decision)
        if not decision.allowed:
            refusal = refusals.by_policy(audience, decision, asked.reference)
            await self._with.note(asked.record.id, decided, TokenRefused(audience, refusal.reason, role))
            raise refusal
        trusted = self._trusted(asked)
        if isinstance(trusted, Refusal):
            told = TokenRefused(audience, trusted.code, role, trusted.rule, trusted.message)
            await self._with.note(asked.record.id, decided, told)
            raise refusals.by_trust_map(audience, trusted, asked.reference)
        try:
            summary = await self._with.summarize(asked.record, decision)
            draft = self._draft(asked, decision, trusted, summary.digest if summary else "")
        except TryAgainError:
            raise  # nothing was decided for good, and nothing is on record
        except OrchestratorError as error:
            rule = trusted.grant.rule if trusted else ""
            detail = str(error) if trusted else ""
            await self._with.note(asked.record.id, decided, TokenRefused(audience, error.reason, role, rule, detail))
            raise refusals.unfit(audience, error, asked.reference) from error
        sworn = [summary.signed] if summary and summary.signed else []
        await self._with.note(asked.record.id, decided, *sworn, draft.issued)
        return draft

    def _trusted(self, asked: _Asked) -> Trusted | Refusal | None:
        """What the trust map says; None where there is none, and policy's word is enough."""
        trust = self._with.trust()
        if trust is None:
            return None
        answer = trust.grant(trust_facts(asked.record, asked.pool), asked.audience, asked.request.role)
        return answer if isinstance(answer, Refusal) else Trusted(answer, trust.digest)

    def _draft(
        self, asked: _Asked, decision: Decision, trusted: Trusted | None, summary: str
    ) -> TokenDraft | BrokeredDraft:
        record, pool, audience = asked.record, asked.pool, asked.audience
        if self._with.broker is not None and self._with.broker.serves(audience):
            if trusted is None:
                raise GiveUpError(
                    "credentials of third parties need a grant, and there is no trust map",
                    reason="trust_no_grant",
                    fix="ask the operator for a trust map (identity.trust_maps)",
                )
            return self._with.broker.draft(record, pool, audience, decision, trusted)
        issuer = self._issuers.of(trusted.grant.issuer if trusted else MAIN)
        return issuer.draft(record, pool, audience, decision, trusted, summary)

    async def _brokered(self, runner: RunnerIdentity, asked: _Asked, draft: BrokeredDraft) -> dict[str, Any]:
        """Have the credential made that is recorded already, and hand it over if the job is still there to have it."""
        broker, issued = self._with.broker, draft.issued
        assert broker is not None, "only a broker drafts one"
        try:
            made = await broker.make(asked.record.id, draft)
        except CredentialNotMadeError as error:
            never = issued.jti if error.certain else ""
            told = TokenRefused(asked.audience, error.reason, issued.role, issued.rule, str(error), never)
            await self._with.note(asked.record.id, told)
            raise refusals.not_made(asked.audience, error, asked.reference) from error
        try:
            # From here on nothing may await.
            self._live_record(runner, asked.reference, same=asked.record)
            self._with.on_secret(asked.record.id, made.secret)
        except BaseException:
            broker.abandon(issued.jti)
            raise
        life = min(draft.lifetime_seconds, made.expires_at - issued.issued_at)
        return _answer(made.secret, ACCESS_TOKEN_TYPE, "Bearer", life, issued.role)

    def _live_record(self, runner: RunnerIdentity, reference: str, same: Record | None = None) -> Record:
        record = self._with.record_of(runner)
        if record is None or not record.bound:
            raise refusals.ended(reference)
        if not runner.uid or record.bound_uid != runner.uid or record.runner != runner.name:
            raise refusals.another_runner(reference)
        if record.cancel is not None or (same is not None and record.id != same.id):
            raise refusals.ended(reference)
        if not record.live:
            raise refusals.without_identity(record, reference)
        return record


def _answer(token: str, issued_type: str, token_type: str, life: int, role: str) -> dict[str, Any]:
    """RFC 8693 section 2.2.1; `scope` is there when the token is for a role, whether it was asked for or chosen."""
    scope = {"scope": role} if role else {}
    answer = {"access_token": token, "issued_token_type": issued_type, "token_type": token_type, "expires_in": life}
    return answer | scope
