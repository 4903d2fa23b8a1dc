"""Questions about approvals in the words of their room, and its objects in those of the API. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from orchestrator.evidence.approvals.judging import Asked
from orchestrator.evidence.approvals.ledger import Held, Ledger
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import (
    Approval,
    Endorsement,
    Lasting,
    Predicate,
    Review,
    Revocation,
    RuleException,
)
from orchestrator.evidence.approvals.store import Use
from orchestrator.model.decision import Stage
from orchestrator.model.job import Caller
from orchestrator.model.record import Record
from orchestrator.policy.lookups import Facts
from orchestrator.server.views import timestamp

COUNTS = "counts"
"""The state of what counts now, for whom it is about; every other state is the reason why it does not."""


def asked_of_job(record: Record, artifact: Facts | None) -> Asked:
    """A job's question. `artifact` is what was verified about the artifact it asks for."""
    spec = record.offer.spec
    return Asked(record.id, record.offer.caller, spec.deployment_environment, spec.artifact_digest, built_of(artifact))


def asked_of_workload(environment: str, digest: str, caller: Caller, artifact: Facts | None = None) -> Asked:
    """A cluster's question. All that it starts of one image in one environment counts as one job: replicas come and
    go."""
    name = hashlib.sha256(f"{environment}\0{digest}".encode()).hexdigest()[:32]
    return Asked(f"{Stage.DEPLOYMENT.value}.{name}.1", caller, environment, digest, built_of(artifact))


def built_of(artifact: Facts | None) -> Mapping[str, str]:
    """The provenance that we proved; empty where there is none."""
    built = (artifact or {}).get("built")
    return built if isinstance(built, Mapping) else {}


def type_of(predicate: Predicate) -> str:
    match predicate:
        case Approval():
            return "approval"
        case RuleException():
            return "exception"
        case Revocation():
            return "revocation"
        case Review():
            return "review"
        case Endorsement():
            raise AssertionError("endorsements are shown with what they endorse")


def environment_of(ledger: Ledger, one: Held) -> str:
    """Where it counts; for a revocation or review where its object does."""
    predicate = one.predicate
    if isinstance(predicate, Revocation | Review):
        target = ledger.objects.get(predicate.object)
        return environment_of(ledger, target) if target is not None else ""
    return predicate.environment if isinstance(predicate, Lasting) else ""


def line(ledger: Ledger, one: Held, now_ns: int) -> dict[str, Any]:
    """What a list shows of an object: `server.approvals.shapes.ApprovalLineView`."""
    predicate = one.predicate
    lacking = ledger.lacking(one, now_ns)
    lasting = predicate if isinstance(predicate, Lasting) else None
    return {
        "id": one.id,
        "type": type_of(predicate),
        "kind": lasting.kind if lasting else "",
        "environment": environment_of(ledger, one),
        "state": lacking.reason if lacking else COUNTS,
        "signers": sorted(ledger.signers(one)),
        "starts_at": lasting.starts_at if lasting else "",
        "expires_at": lasting.expires_at if lasting else "",
        "uses": len(ledger.jobs_of(one.id)),
        "reviewed": one.id in ledger.reviews,
    }


def whole(ledger: Ledger, one: Held, now_ns: int) -> dict[str, Any]:
    """All that is known of an object: `server.approvals.shapes.ApprovalView`."""
    lacking = ledger.lacking(one, now_ns)
    revocation = ledger.revoked.get(one.id)
    return {
        **line(ledger, one, now_ns),
        "detail": str(lacking) if lacking else "",
        "fix": lacking.fix if lacking else "",
        "content": msgspec.to_builtins(one.predicate),
        "added_at": timestamp(one.stored.added_ns),
        "origin": one.stored.origin,
        "used": [_use(use) for use in ledger.uses_of(one.id)],
        "reviews": [_closing(ledger, review) for review in ledger.reviews.get(one.id, ())],
        "revoked": _closing(ledger, revocation) if revocation else None,
        "envelope": one.envelope.text(),
        "endorsements": list(one.stored.endorsements.values()),
        "for_job": None,
    }


def for_job(ledger: Ledger, one: Held, asked: Asked, now_ns: int) -> dict[str, Any]:
    """Whether it counts for one job now: `server.approvals.shapes.ForJobView`."""
    told = {"job_id": asked.job, "counts": True, "reason": "", "detail": "", "fix": "", "own": False}
    try:
        rows = ledger.judged(one, asked, now_ns)
    except ApprovalRefusedError as refused:
        return told | {"counts": False, "reason": refused.reason, "detail": str(refused), "fix": refused.fix}
    if all(row["own"] for row in rows):
        own = ApprovalRefusedError("approval_own", "it is a job or a build of whoever signed it")
        told |= {"counts": False, "reason": own.reason, "detail": str(own), "fix": own.fix, "own": True}
    return told


def _use(use: Use) -> dict[str, Any]:
    return {
        "job_id": use.job,
        "stage": use.stage,
        "audience": use.audience,
        "number": use.number,
        "at": timestamp(use.at_ns),
        "decision_id": use.decision,
        "waived": list(use.waived),
    }


def _closing(ledger: Ledger, one: Held) -> dict[str, Any]:
    assert isinstance(one.predicate, Revocation | Review), "nothing else is said of an object"
    verdict = one.predicate.verdict if isinstance(one.predicate, Review) else ""
    by = sorted(ledger.signers(one))
    return {"id": one.id, "by": by, "verdict": verdict, "reason": one.predicate.reason, "at": one.predicate.at}
