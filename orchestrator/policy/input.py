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
from orchestrator.model.job import Caller, JobOffer
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.policy.enquiry import Enquiry
from orchestrator.policy.facts import UnfitFactError, check_facts, lean_artifact
from orchestrator.policy.lookups import Facts, Verified

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

MAX_CLAIMED = 100
"""Entries of `claimed` that are passed on; the rest is left out, as nothing may depend on any of it."""


def is_digest(text: str) -> bool:
    """Whether the text is `sha256:` and 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def rfc3339(at_ns: int) -> str:
    """Unix nanoseconds as RFC 3339 text in UTC, with nine decimals and `Z`."""
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{nanoseconds:09d}Z"


def admission_input(record: Record, pool: Pool, now_ns: int, verified: Verified) -> dict[str, Any]:
    """The input at admission: there is no runner yet, and no audience.

    Args:
        record: the job.
        pool: the pool it asked for, as configured.
        now_ns: the decision's time, Unix nanoseconds; policy has no other clock.
        verified: what the lookups answered.

    Raises:
        UnfitFactError: a fact is of another type than documented, or the evidence about another digest.
    """
    return {
        **_document(Stage.ADMISSION, record, pool, now_ns, verified),
        "job": _job(record),
        "caller": _caller(record.offer.caller),
        "claimed": _claimed(record.offer),
    }


def exchange_input(record: Record, pool: Pool, audience: str, now_ns: int, verified: Verified) -> dict[str, Any]:
    """The input at a token exchange: as at admission, plus the bound runner and the audience asked for.

    Raises:
        UnfitFactError: as for `admission_input`.
    """
    runner = None
    if record.runner is not None and record.live:
        runner = {"name": record.runner, "uid": record.bound_uid, "bound_at": rfc3339(record.bound_at_ns)}
    document = admission_input(record, pool, now_ns, verified)
    document["request"]["audience"] = audience
    return {**document, "stage": Stage.EXCHANGE.value, "runner": runner}


def enquiry_input(enquiry: Enquiry, record: Record, now_ns: int, verified: Verified) -> dict[str, Any]:
    """The input of a question without a job: `job` and `runner` are null, `caller`, `pool` and `workload` may be.

    Raises:
        UnfitFactError: as for `admission_input`.
    """
    return {
        **_document(enquiry.stage, record, enquiry.pool, now_ns, verified),
        "caller": _caller(enquiry.caller) if enquiry.caller else None,
        "workload": None if enquiry.workload is None else dict(enquiry.workload),
    }


def _document(stage: Stage, record: Record, pool: Pool | None, now_ns: int, verified: Verified) -> dict[str, Any]:
    check_facts(verified)
    spec = record.offer.spec
    return {
        "stage": stage.value,
        "time": rfc3339(now_ns),
        "job": None,
        "caller": None,
        "pool": None if pool is None else _pool(pool),
        "runner": None,
        "request": {
            "audience": "",
            "deployment_environment": spec.deployment_environment,
            "artifact_digest": spec.artifact_digest,
            "timeout_seconds": spec.timeout_seconds,
            "ticket": spec.ticket,
            "secrets": list(spec.secrets),
        },
        "artifact": _artifact(spec.artifact_digest, verified.artifact),
        "approvals": [dict(approval) for approval in verified.consent.approvals],
        "exceptions": [dict(exception) for exception in verified.consent.exceptions],
        "source": _optional(verified.source),
        "ticket": _optional(verified.ticket),
        # A runner always gets an identity to exchange. A secret that it asks for counts, whatever is known of it.
        "credentials": {
            "workload_identity": True,
            "static_secrets": len(spec.secrets),
            "secrets": [dict(secret) for secret in verified.secrets],
        },
        "workload": None,
        "claimed": {},
    }


def _optional(facts: Facts | None) -> dict[str, Any] | None:
    return None if facts is None else dict(facts)


def _job(record: Record) -> dict[str, Any]:
    key = record.offer.key
    return {
        "id": record.id,
        "source": key.source,
        "attempt": key.attempt,
        "offered_at": rfc3339(record.offered_at_ns),
        "work_digest": work_digest(record.offer),
        # Its platform chose the runner and has no word for artifacts: only the running job can say what it deploys.
        "artifact_named_later": record.platform is not None and not record.offer.spec.artifact_digest,
    }


def _caller(caller: Caller) -> dict[str, Any]:
    return {"id": caller.id, "issuer": caller.issuer, "subject": caller.subject, "facts": dict(caller.facts)}


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


_UNTOLD: Mapping[str, Any] = {
    **dict.fromkeys(("signed", "sbom", "provenance"), False),
    "base": "",
    **dict.fromkeys(("signatures", "sboms", "provenances", "scans", "summaries", "refused"), ()),
}


def _artifact(requested: str, evidence: Facts | None) -> dict[str, Any] | None:
    if evidence is None:
        return None
    artifact = lean_artifact({**_UNTOLD, "digest": requested, **evidence})
    if not is_digest(requested) or artifact["digest"] != requested:
        raise UnfitFactError("the evidence is about another artifact")
    return artifact
