"""Policy asked without a job: would a deployment be allowed, and may a cluster start a workload.

The rules and the facts are those that jobs are judged by; only who asks differs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.identity.rate import RateLimit
from orchestrator.model.decision import Decision, Reason, Stage, Verdict
from orchestrator.model.job import Caller, PoolName
from orchestrator.model.pool import Pool
from orchestrator.policy.enquiry import Enquiry
from orchestrator.server.cluster.admission_review import Answer, Workload
from orchestrator.server.deps import PolicyQuestion

Enquire = Callable[[Enquiry], Awaitable[Decision]]
Spend = Callable[[Enquiry, Decision], Awaitable[Decision]]
"""Counts the exceptions that an allowed decision stands on as used, durably, before it is given out; the decision that
is left, which is a refusal where one of them cannot be used any more."""

_CHECKS_PER_SECOND = 2.0
CHECK_BURST = 20
"""Questions that a caller may ask at once."""

_AT_ONCE = 4
"""Images of one workload that are judged at a time: each holds up everybody else for a millisecond."""

_MAX_REASONS = 20
"""Reasons told in one refusal."""


class PolicyDesk:
    """`server.deps.CheckPolicy` over the rules in force.

    A caller may ask a few times a second: what is not known yet is looked up at the platform and the tracker, whose
    patience is bounded.
    """

    def __init__(
        self, enquire: Enquire, pools: Mapping[PoolName, Pool], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._enquire = enquire
        self._pools = pools
        self._rate = RateLimit(per_second=_CHECKS_PER_SECOND, burst=CHECK_BURST, monotonic=monotonic)

    async def __call__(self, caller: Caller, asked: PolicyQuestion) -> Decision:
        seconds = self._rate.take(caller.id)
        if seconds:
            raise TryAgainError(
                "Policy is asked too often.", reason="temporarily_unavailable", retry_after_seconds=seconds
            )
        enquiry = Enquiry(
            Stage.CHECK,
            asked.environment,
            asked.artifact_digest,
            caller,
            self._pool(asked.pool),
            asked.ticket,
            asked.secrets,
        )
        return await self._enquire(enquiry)

    def _pool(self, name: str) -> Pool | None:
        if not name:
            return None
        pool = self._pools.get(PoolName(name))
        if pool is None:
            raise GiveUpError(
                "There is no pool of this name.", reason="pool_unknown", fix="`GET /v1/pools` lists the pools"
            )
        return pool


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one workload: `reasons` against it, and the decision about each of its images."""

    environment: str
    reasons: tuple[Reason, ...] = ()
    decisions: Sequence[Decision] = ()

    @property
    def allowed(self) -> bool:
        return not self.reasons and bool(self.decisions) and all(one.allowed for one in self.decisions)

    def against(self) -> list[Reason]:
        """Every reason once, in order."""
        told = [*self.reasons, *(reason for one in self.decisions if not one.allowed for reason in one.reasons)]
        return list(dict.fromkeys(told))

    def observed(self) -> list[Reason]:
        return list(dict.fromkeys(reason for one in self.decisions for reason in one.observed))


@dataclass(frozen=True, kw_only=True)
class DeploymentGate:
    """`server.cluster.admission.Gate`: nothing starts in a guarded namespace but what policy lets into its environment.

    `namespaces` maps each guarded one to its environment. `lacking` says why nothing may begin at all now, empty when
    all is well. Without `spend` no exception is good here.
    """

    cluster: str
    namespaces: Mapping[str, str]
    enquire: Enquire
    notes: AuditNotes
    spend: Spend | None = None
    lacking: Callable[[], str] = field(default=str)
    counts: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    """Answers that allowed, and that refused; dry runs are not counted."""

    async def __call__(self, workload: Workload) -> Answer:
        if not workload.changed and workload.namespace in self.namespaces:
            return Answer(allowed=True)
        judged = await self._judge(workload)
        if not workload.dry_run:
            judged = await self._recorded(workload, judged)
            self.counts[judged.allowed] += 1
        return _answer(workload, judged)

    async def _judge(self, workload: Workload) -> Judged:
        environment = self.namespaces.get(workload.namespace, "")
        found = tuple(self._unfit(workload, environment))
        if found:
            return Judged(environment, found)
        first: dict[str, str] = {}
        for image in workload.images:
            first.setdefault(image.digest, image.reference)
        turns = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._in_turn(turns, workload, environment, *one)) for one in first.items()]
        return Judged(environment, decisions=tuple(task.result() for task in asked))

    def _unfit(self, workload: Workload, environment: str) -> Sequence[Reason]:
        """What is wrong whatever the rules say."""
        if not environment:
            return (_NOT_GUARDED,)
        lacking = self.lacking()
        if lacking:
            return (Reason("audit_unanchored", f"{lacking}; the operator has to look at audit.anchors"),)
        if not workload.images:
            return (Reason("image_missing", "the pod names no image; expected: at least one, by digest"),)
        return tuple(
            Reason(
                "image_not_pinned",
                f"container {image.container} runs {image.reference!r}, which names no digest and may change at any "
                "time; expected: NAME@sha256:…; write the digest that was tested and signed",
            )
            for image in workload.images
            if not image.digest
        )[:_MAX_REASONS]

    async def _in_turn(
        self, turns: asyncio.Semaphore, workload: Workload, environment: str, digest: str, reference: str
    ) -> Decision:
        async with turns:
            return await self._decide(workload, environment, digest, reference)

    async def _decide(self, workload: Workload, environment: str, digest: str, reference: str) -> Decision:
        facts = workload_facts(workload, self.cluster, reference)
        enquiry = Enquiry(Stage.DEPLOYMENT, environment, digest, workload=facts)
        decision = await self.enquire(enquiry)
        if not decision.allowed or not decision.waivers or workload.dry_run:
            return decision
        return await self._spent(enquiry, decision)

    async def _spent(self, enquiry: Enquiry, decision: Decision) -> Decision:
        """The decision, once the exceptions it stands on are counted; else a refusal."""
        if self.spend is None:
            return _refusal(decision, "exception_not_counted", "signed exceptions are of no use to clusters here")
        try:
            return await self.spend(enquiry, decision)
        except OrchestratorError as error:
            return _refusal(decision, error.reason, f"the exception could not be counted: {error}")

    async def _recorded(self, workload: Workload, judged: Judged) -> Judged:
        """Nothing starts, and nothing is refused, that the audit log does not know of."""
        try:
            await self.notes.deployment_judged(_record(self.cluster, workload, judged), workload.requested_by)
        except OrchestratorError as error:
            why = Reason(error.reason, f"{error}; nothing starts that is not recorded; try again later")
            return Judged(judged.environment, (why,), judged.decisions)
        return judged


_NOT_GUARDED = Reason(
    "namespace_not_guarded",
    "the namespace belongs to no environment; expected: an entry under deployment.namespaces; add it, or leave the "
    "namespace out of the webhook's namespaceSelector",
)


def workload_facts(workload: Workload, cluster: str, reference: str) -> dict[str, Any]:
    """`input.workload`: what the API server says is to start; `image` is the one that the question is about."""
    return {
        "cluster": cluster,
        "namespace": workload.namespace,
        "kind": workload.kind,
        "name": workload.name,
        "operation": workload.operation,
        "owner": workload.owner,
        "requested_by": workload.requested_by,
        "service_account": workload.service_account,
        "image": reference,
        "images": [image.reference for image in workload.images],
        "privileged": bool(workload.privileges),
        "privileges": list(workload.privileges),
    }


def _refusal(decision: Decision, code: str, message: str) -> Decision:
    return replace(decision, verdict=Verdict.ERROR, reasons=(Reason(code, message),), waivers=())


def _record(cluster: str, workload: Workload, judged: Judged) -> dict[str, Any]:
    return {
        "outcome": "allowed" if judged.allowed else "denied",
        "cluster": cluster,
        "namespace": workload.namespace,
        "environment": judged.environment,
        "kind": workload.kind,
        "name": workload.name,
        "images": [image.reference for image in workload.images[:_MAX_REASONS]],
        "reasons": [reason.code for reason in judged.against()[:_MAX_REASONS]],
        "decisions": [
            {
                "id": one.id,
                "verdict": one.verdict.value,
                "input_digest": one.input_digest,
                "bundle_digest": one.bundle_digest,
                "waived": [waiver.exception for waiver in one.waivers],
            }
            for one in judged.decisions[:_MAX_REASONS]
        ],
    }


def _answer(workload: Workload, judged: Judged) -> Answer:
    notes = {"environment": judged.environment or "none"}
    if judged.decisions:
        notes["decisions"] = ",".join(one.id for one in judged.decisions)
    warnings = [f"{reason.code}: {reason.message}" for reason in judged.observed()]
    if judged.allowed:
        return Answer(allowed=True, warnings=warnings, notes=notes)
    where = f"{workload.kind} {workload.name} of {workload.namespace} may not start"
    if judged.environment:
        where += f": {judged.environment} takes only what its policy allows"
    told = judged.against()
    lines = [f"[{reason.code}] {reason.message}" for reason in told[:_MAX_REASONS]]
    left = [f"and {len(told) - _MAX_REASONS} more"] if len(told) > _MAX_REASONS else []
    return Answer(allowed=False, message="\n- ".join([where, *lines, *left]), warnings=warnings, notes=notes)
