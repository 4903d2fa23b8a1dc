"""Approvals and exceptions in the daemon: what policy is told of them, and each use durable before its decision."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.promotion.approval_desk import ApprovalDesk
from orchestrator.daemon.promotion.approval_views import asked_of_job, asked_of_workload
from orchestrator.daemon.promotion.room import Promotion
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.errors import OrchestratorError
from orchestrator.evidence.approvals.book import Book
from orchestrator.evidence.approvals.judging import Asked, Limits
from orchestrator.evidence.approvals.people import People
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import SECOND, RuleException
from orchestrator.evidence.approvals.store import Use
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.verify import CallerIssuerConfig, CallerVerifier
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.excepted import facts_of
from orchestrator.lifecycle.ports import Clock, Policy
from orchestrator.model.decision import Decision, Obligations, Reason, Stage, Verdict, Waiver
from orchestrator.model.job import JobId
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.policy.decide import decision_id
from orchestrator.policy.enquiry import NOBODY, Enquiry
from orchestrator.policy.lookups import Consent, Question
from orchestrator.settings import Settings
from orchestrator.settings.approvals import ApprovalsSettings
from orchestrator.telemetry.metrics import Metrics

_log = logging.getLogger("orchestrator")

_FILE: Final = "approvals.db"
_ANYBODY: Final = {"sub": "(?s:.+)"}
"""Who may approve is for the approvers' file to say; the issuer only has to say who it is."""

Note = Callable[..., Awaitable[None]]
"""`Engine.note`: a job's id, then the facts to add to it."""


@dataclass(frozen=True)
class Approvals:
    """`consent` is policy's lookup; `desk` takes what people give in, and shows it."""

    book: Book
    desk: ApprovalDesk
    clock: Clock
    engine: Callable[[], Engine]

    async def consent(self, question: Question) -> Consent:
        """What people have signed that bears on the question."""
        asked = _asked(question)
        approvals, exceptions = self.book.ledger.rows(asked, question.now_ns)
        return Consent(approvals, exceptions)

    def guard(self, policy: Policy) -> Policy:
        """`policy`, whose decisions are given out once what they stand on is counted."""
        return CountedPolicy(policy, self)

    async def spend(self, enquiry: Enquiry, decision: Decision) -> Decision:
        """For a cluster's question: the decision, its exceptions counted; an image counts once in an environment."""
        asked = asked_of_workload(enquiry.environment, enquiry.artifact_digest, enquiry.caller or NOBODY)
        decision = await self.counted(asked, decision, "")
        for waiver in decision.waivers:  # a job's journal has an alarm of it; a cluster has no job
            extra = {"exception": waiver.exception, "environment": enquiry.environment, "use": waiver.number}
            _log.error("an exception to the rules let a workload start", extra=extra)
        return decision

    async def counted(self, asked: Asked, decision: Decision, audience: str) -> Decision:
        """The decision with each use's number; a refusal where one cannot be used any more. Never raises."""
        if not decision.allowed or not decision.waivers:
            return decision
        waived: dict[str, tuple[str, ...]] = {}
        for waiver in decision.waivers:
            waived[waiver.exception] = (*waived.get(waiver.exception, ()), *waiver.codes)
        try:
            uses = await self.book.use(asked, decision.stage.value, audience, decision.id, waived, self.clock.now_ns())
            decision = replace(decision, waivers=tuple(self._told(use, waived[use.exception]) for use in uses))
            if decision.stage is Stage.EXCHANGE:
                await self._note(JobId(asked.job), decision, uses)
        except ApprovalRefusedError as refused:
            return self._refused(decision, Verdict.DENY, refused)
        except OrchestratorError as error:
            return self._refused(decision, Verdict.ERROR, error)
        return decision

    def _refused(self, decision: Decision, verdict: Verdict, error: OrchestratorError) -> Decision:
        """An answer of its own, by another id: what policy said stays what the log of decisions has of it."""
        why = f"the exception that this would stand on cannot be used: {error}; {error.fix}"
        return replace(
            decision,
            id=decision_id(self.clock.now_ns()),
            verdict=verdict,
            reasons=(Reason(error.reason, why),),
            obligations=Obligations(),
            waivers=(),
        )

    def _told(self, use: Use, codes: tuple[str, ...]) -> Waiver:
        """`codes` are those of this decision: a use that was counted before may have been for fewer."""
        predicate = self.book.ledger.objects[use.exception].predicate
        assert isinstance(predicate, RuleException), "only exceptions are used"
        approvers = self.book.ledger.signers(self.book.ledger.objects[use.exception]) - {predicate.requested_by}
        return Waiver(use.exception, codes, predicate.kind, tuple(sorted(approvers)), use.number)

    async def _note(self, job_id: JobId, decision: Decision, uses: list[Use]) -> None:
        """The facts of an admission are stored with it; those of an exchange are stored here, once for each use, and
        again when it sets aside more than it did."""
        untold = self.book.untold(uses)
        names = {use.exception for use in untold}
        known = {use.exception: use.waived for use in uses}
        waivers = [
            waiver
            for waiver in decision.waivers
            if waiver.exception in names or not set(waiver.codes) <= set(known[waiver.exception])
        ]
        if waivers:
            await self.engine().note(job_id, *facts_of(decision.id, waivers))
        if untold:
            await self.book.tell(untold)

    async def close(self) -> None:
        await self.desk.close()
        self.book.close()


class CountedPolicy:
    """`lifecycle.ports.Policy` that counts exceptions before it gives a decision out."""

    def __init__(self, policy: Policy, approvals: Approvals) -> None:
        self._policy = policy
        self._approvals = approvals

    async def admit(self, record: Record, pool: Pool) -> Decision:
        decision = await self._policy.admit(record, pool)
        return await self._counted(record, decision, "")

    async def exchange(self, record: Record, pool: Pool, audience: str) -> Decision:
        decision = await self._policy.exchange(record, pool, audience)
        return await self._counted(record, decision, audience)

    async def _counted(self, record: Record, decision: Decision, audience: str) -> Decision:
        if not decision.waivers:
            return decision
        return await self._approvals.counted(asked_of_job(record, None), decision, audience)


async def open_approvals(
    settings: Settings,
    promotion: Promotion,
    notes: AuditNotes,
    engine: Callable[[], Engine],
    clock: Clock,
    stack: AsyncExitStack,
) -> Approvals:
    """Read the approvers' file and all that is kept, then the folders. Closed by the stack.

    Raises:
        ConfigurationError: `approvers_invalid`.
        TryAgainError: `approvals_unavailable`.
    """
    given = settings.approvals
    key = promotion.key.private
    book = await Book.open(settings.state_dir / _FILE, People(), limits_of(given), key, clock.now_ns())
    desk = ApprovalDesk(given, book, _verifier(settings, clock), promotion.artifact, notes, clock)
    approvals = Approvals(book, desk, clock, engine)
    push_closing(stack, "approvals", approvals.close)
    await desk.load(DAEMON)
    return approvals


def limits_of(given: ApprovalsSettings) -> Limits:
    return Limits(
        max_approval_ns=int(given.max_approval_seconds * SECOND),
        max_break_glass_ns=int(given.max_break_glass_seconds * SECOND),
        max_override_ns=int(given.max_override_seconds * SECOND),
        break_glass_approvers=given.break_glass_approvers,
        max_uses=given.max_uses,
        review_ns=int(given.review_seconds * SECOND),
    )


def _verifier(settings: Settings, clock: Clock) -> CallerVerifier | None:
    """Checks tokens of people; a token signs one object."""
    if not settings.approvals.issuers:
        return None
    configs = tuple(
        CallerIssuerConfig(
            issuer=one.issuer,
            audience=one.audience,
            require=_ANYBODY,
            algorithms=one.algorithms,
            jwks_file=one.jwks_file,
            max_age_seconds=one.max_age_seconds,
        )
        for one in settings.approvals.issuers
    )
    replay = ReplayStore(settings.state_dir / "spent-approval-tokens", time.time())
    return CallerVerifier(configs, local=None, replay=replay, clock_ns=clock.now_ns, monotonic=time.monotonic)


def _asked(question: Question) -> Asked:
    if question.record.offer.key.source == Stage.DEPLOYMENT:
        caller = question.record.offer.caller
        return asked_of_workload(question.environment, question.artifact_digest, caller, question.artifact)
    return asked_of_job(question.record, question.artifact)


def watch_approvals(metrics: Metrics, approvals: Approvals) -> None:
    """Add what is known of exceptions to the rules."""
    book, now_ns = approvals.book, approvals.clock.now_ns
    ledger = book.ledger
    metrics.watch_count("exception_use", "Decisions that stood on an exception.", lambda: book.use_count)
    metrics.watch("exception_open", "Exceptions that count now.", lambda: float(len(ledger.open_exceptions(now_ns()))))
    unreviewed = "Exceptions that were used and that nobody has reviewed."
    metrics.watch("exception_unreviewed", unreviewed, lambda: float(len(ledger.unreviewed(now_ns()))))
    overdue = "Those of them that should have been reviewed by now."
    metrics.watch("exception_review_overdue", overdue, lambda: float(len(ledger.unreviewed(now_ns(), overdue=True))))
