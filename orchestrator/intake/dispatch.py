"""The dispatch API's language turned into offers: idempotency keys, fingerprints, job keys. Pure.

Source: draft-ietf-httpapi-idempotency-key-header-07 for the header and its behaviour (an expired draft; we
are compatible with it), RFC 8785 in spirit for the canonical form (sorted names, no spaces, UTF-8; our
documents hold only strings and integers, for which `json` gives exactly that form).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.errors import GiveUpError
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName

SOURCE = "dispatch"
MAX_KEY_CHARS = 255

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z:/=@-]+")
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')


@dataclass(frozen=True, slots=True)
class DispatchRequest:
    """A validated request body. `stated` holds only what the caller wrote that differs from the defaults."""

    name: str
    pool: str
    script: str
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: int = 0
    deployment_environment: str = ""
    artifact_digest: str = ""
    ticket: str = ""
    pipeline: str = ""
    claimed: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[str] = ()
    stated: Mapping[str, object] = field(default_factory=dict)


def idempotency_key(header: str | None) -> str:
    """The key of an `Idempotency-Key` header: a structured-field string (RFC 9651, 3.3.3) or a bare token.

    Raises:
        GiveUpError: `idempotency_key_missing`, or `idempotency_key_invalid` for anything else than one key of
            1 to 255 visible characters.
    """
    if header is None:
        raise GiveUpError(
            "The Idempotency-Key header is missing.",
            reason="idempotency_key_missing",
            fix="send a new random key for each job and the same key for each retry of it",
        )
    text = header.strip(" \t")
    quoted = _STRING.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if not 1 <= len(key) <= MAX_KEY_CHARS or not (quoted or _TOKEN.fullmatch(text)):
        raise GiveUpError(
            f"The Idempotency-Key header is not one key of 1 to {MAX_KEY_CHARS} characters.",
            reason="idempotency_key_invalid",
            fix='send a quoted string such as "8e03978e-40d5-43dd-bc93-6894a57f9324"',
        )
    return key


def job_key(caller: Caller, key: str) -> JobKey:
    """The job that this caller means by this key. Keys of two callers never meet."""
    digest = hashlib.sha256(f"{caller.id}\0{key}".encode()).hexdigest()
    return JobKey(source=SOURCE, platform_id=digest[:32], attempt=1)


def fingerprint(stated: Mapping[str, object]) -> str:
    """SHA-256 of the canonical form, in hex. Defaults are left out, so that a field added later changes nothing."""
    text = json.dumps(stated, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def offer(request: DispatchRequest, key: str, caller: Caller, *, traceparent: str = "") -> JobOffer:
    """The offer of a request. `traceparent` is the caller's own, already found valid, or empty; it is no
    part of the fingerprint, because a retry may come from another span."""
    spec = JobSpec(
        name=request.name,
        pool=PoolName(request.pool),
        script=request.script,
        environment=dict(request.environment),
        timeout_seconds=request.timeout_seconds,
        deployment_environment=request.deployment_environment,
        artifact_digest=request.artifact_digest,
        ticket=request.ticket,
        pipeline=request.pipeline,
        claimed=dict(request.claimed),
        parent_traceparent=traceparent,
        secrets=tuple(request.secrets),
    )
    return JobOffer(key=job_key(caller, key), spec=spec, caller=caller, fingerprint=fingerprint(request.stated))
