"""The one place where the policy's input document is built. Pure.

Everything outside of `input.claimed` and `input.request` was verified by us or is our own doing.
`input.request` is what the job asks for: it chooses the rule and is enforced once granted, but is no
evidence of anything. `input.claimed` is the job's word about itself and worthless. The document's reference is
`docs/reference/policy-input.md`; a test holds the two together.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from orchestrator.model.decision import Stage
from orchestrator.model.job import JobOffer
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BOOLEAN_EVIDENCE = ("signed", "sbom", "provenance")

MAX_CLAIMED = 100
"""Entries of `claimed` that are passed on; the rest is left out, as nothing may depend on any of it."""


class EvidenceError(ValueError):
    """Evidence that is not about the artifact asked for, or not of the documented types."""


def is_digest(text: str) -> bool:
    """Whether the text is `sha256:` and 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def rfc3339(at_ns: int) -> str:
    """Unix nanoseconds as RFC 3339 text in UTC, with nine decimals and `Z`."""
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{nanoseconds:09d}Z"


def admission_input(
    record: Record, pool: Pool, now_ns: int, artifact_evidence: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The input at admission: there is no runner yet, and no audience.

    Args:
        record: the job.
        pool: the pool it asked for, as configured.
        now_ns: the decision's time, Unix nanoseconds; policy has no other clock.
        artifact_evidence: what we verified about `artifact_digest`, None for nothing.

    Raises:
        EvidenceError: the evidence is about another digest or of the wrong types.
    """
    return _document(Stage.ADMISSION, record, pool, now_ns, artifact_evidence, audience="", runner=None)


def exchange_input(
    record: Record, pool: Pool, audience: str, now_ns: int, artifact_evidence: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The input at a token exchange: as at admission, plus the bound runner and the audience asked for.

    Raises:
        EvidenceError: as for `admission_input`.
    """
    runner = None
    if record.runner is not None and record.live:
        runner = {"name": record.runner, "uid": record.bound_uid, "bound_at": rfc3339(record.bound_at_ns)}
    return _document(Stage.EXCHANGE, record, pool, now_ns, artifact_evidence, audience=audience, runner=runner)


def _document(
    stage: Stage,
    record: Record,
    pool: Pool,
    now_ns: int,
    evidence: Mapping[str, Any] | None,
    *,
    audience: str,
    runner: Mapping[str, str] | None,
) -> dict[str, Any]:
    offer = record.offer
    spec = offer.spec
    return {
        "stage": stage.value,
        "time": rfc3339(now_ns),
        "job": {
            "id": record.id,
            "source": offer.key.source,
            "attempt": offer.key.attempt,
            "offered_at": rfc3339(record.offered_at_ns),
            "work_digest": work_digest(offer),
        },
        "caller": {
            "id": offer.caller.id,
            "issuer": offer.caller.issuer,
            "subject": offer.caller.subject,
            "facts": dict(offer.caller.facts),
        },
        "pool": _pool(pool),
        "runner": runner,
        "request": {
            "audience": audience,
            "deployment_environment": spec.deployment_environment,
            "artifact_digest": spec.artifact_digest,
            "timeout_seconds": spec.timeout_seconds,
        },
        "artifact": _artifact(spec.artifact_digest, evidence),
        # No approval is verified yet, so none exists; a job cannot bring its own.
        "approvals": [],
        # Our own doing: a runner gets an identity to exchange and no secret, whatever the job asks for.
        "credentials": {"workload_identity": True, "static_secrets": 0},
        "claimed": _claimed(offer),
    }


def _pool(pool: Pool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "backend": pool.backend,
        "trust_tier": pool.trust_tier.value,
        "base": pool.base,
        "isolation": pool.isolation,
        "egress": [{"host": rule.host, "port": rule.port, "protocol": rule.protocol.value} for rule in pool.egress],
        "egress_proof_required": pool.require_egress_proof,
        "max_job_seconds": pool.max_job_seconds,
    }


def _claimed(offer: JobOffer) -> dict[str, str]:
    claimed = dict(sorted(offer.spec.claimed.items())[:MAX_CLAIMED])
    return {**claimed, "name": offer.spec.name, "pipeline": offer.spec.pipeline}


def work_digest(offer: JobOffer) -> str:
    """`sha256:<hex>` of exactly what will run: the script and its variables, as canonical JSON."""
    work = {"environment": dict(offer.spec.environment), "script": offer.spec.script}
    return "sha256:" + hashlib.sha256(msgspec.json.encode(work, order="sorted")).hexdigest()


def _artifact(requested: str, evidence: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if evidence is None:
        return None
    artifact = {"signed": False, "sbom": False, "provenance": False, "base": "", **evidence}
    if not is_digest(requested) or artifact.setdefault("digest", requested) != requested:
        raise EvidenceError("the evidence is about another artifact")
    for name in _BOOLEAN_EVIDENCE:
        if not isinstance(artifact[name], bool):
            raise EvidenceError(f"evidence {name!r} is not a boolean")
    if not isinstance(artifact["base"], str):
        raise EvidenceError("evidence 'base' is not text")
    return artifact
