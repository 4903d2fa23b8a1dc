"""What a token says about its job: from the live record, its pool and policy's decision, never from the job. Pure.

Two claims are the job's own word and are there because policy judged exactly them at this exchange:
`environment` and `artifact_digest`. `job_name` is a label. Everything else was verified by us.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from orchestrator.errors import GiveUpError
from orchestrator.lifecycle.provision import run_limit_seconds
from orchestrator.model.decision import Decision
from orchestrator.model.job import Caller
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

MAX_SUBJECT_BYTES: Final = 127
"""Google's limit for a mapped subject, the tightest of the clouds."""

AWS_TAGS_CLAIM: Final = "https://aws.amazon.com/tags"
_MAX_TAGS, _MAX_TAG_KEY, _MAX_TAG_VALUE = 50, 128, 256
_TAG_PUNCTUATION: Final = frozenset(" _.:/=+-@")
_TRANSITIVE_TAGS: Final = frozenset({"repository", "repository_id", "environment"})

FACT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_FACTS: Final = 64
"""Facts of a caller that are looked at, by name."""
_DIGEST_PINNED: Final = re.compile(r"[^@\s]+@(sha256:[0-9a-f]{64})")

RESERVED_CLAIMS: Final = frozenset(
    {
        *("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "azp", "cnf", "act", "scope", "client_id", "nonce", "amr"),
        *("active", "username", "token_type"),
        *(
            "auth_time",
            "at_hash",
            "c_hash",
            "acr",
            "sid",
            "events",
            "typ",
            "email",
            "email_verified",
            "groups",
            "roles",
        ),
        *("job_id", "job_name", "attempt", "source", "pool", "trust_tier", "isolation", "runner", "runner_uid"),
        "backend",
        *("environment", "artifact_digest", "caller", "caller_issuer", "decision_id"),
        *("runner_image_digest", "role", "trust_rule"),
        "verification_summary",
    }
)
"""Names that a caller's fact can never take in our tokens, and by which the trust map looks at none: ours, and those
that mean something to others. `azp` among them: some verifiers let it override `aud`; RFC 7662 has `username`."""


def _escape(value: str) -> str:
    """Percent-encode all but unreserved characters (RFC 3986 section 2.3) and `/`: no value can hold a `:` or `@`."""
    return quote(value, safe="/")


def _repository(facts: Mapping[str, str]) -> str:
    """`<owner>@<owner id>/<name>@<repository id>`; an id that the caller's issuer does not give is left out."""
    owner, slash, name = facts["repository"].rpartition("/")
    owner_id, own_id = facts.get("repository_owner_id", ""), facts.get("repository_id", "")
    left = _escape(owner) + (f"@{_id(owner_id)}" if owner_id and slash else "")
    return left + slash + _escape(name) + (f"@{_id(own_id)}" if own_id else "")


def _id(value: str) -> str:
    return quote(value, safe="")


def issuer_tag(issuer: str) -> str:
    """Keeps equal names of two issuers of callers apart in subjects."""
    return hashlib.sha256(issuer.encode()).hexdigest()[:10]


def subject(caller: Caller, pool: str, environment: str) -> str:
    """The `sub`: who, then for what; at most 127 bytes of ASCII, no personal data, stable over commits and jobs.

    * `from:<issuer tag>:repo:<owner>@<id>/<name>@<id>:…` when the caller's facts name a repository; the tag
      keeps equal repository names of two caller issuers apart;
    * `caller:<caller id>:…` otherwise;
    * then `environment:<name>`, else `ref:<ref>`, else `pool:<pool>`;
    * what is too long becomes `from:<issuer tag>:repo-id:<id>:…`, and if that is, `sha256:<hex of the long form>`.
    """
    facts = caller.facts
    if environment:
        purpose = f"environment:{_escape(environment)}"
    elif facts.get("ref"):
        purpose = f"ref:{_escape(facts['ref'])}"
    else:
        purpose = f"pool:{_escape(pool)}"
    if not facts.get("repository"):
        full = f"caller:{caller.id}:{purpose}"
        return full if len(full) <= MAX_SUBJECT_BYTES else _hashed(full)
    tag = issuer_tag(caller.issuer)
    full = f"from:{tag}:repo:{_repository(facts)}:{purpose}"
    if len(full) <= MAX_SUBJECT_BYTES:
        return full
    own_id = facts.get("repository_id", "")
    short = f"from:{tag}:repo-id:{_id(own_id)}:{purpose}"
    return short if own_id and len(short) <= MAX_SUBJECT_BYTES else _hashed(full)


def _hashed(full: str) -> str:
    return f"sha256:{hashlib.sha256(full.encode()).hexdigest()}"


def session_tags(tags: Mapping[str, str], transitive: Iterable[str] = ()) -> dict[str, Any]:
    """Session tags in the form AWS STS reads. Those named `transitive`, and repository and environment, are passed on
    to the roles that a session assumes.

    Raises:
        GiveUpError: `session_tags_invalid`; AWS would refuse the token, and says so less clearly.
    """
    if len(tags) > _MAX_TAGS:
        raise _bad_tags(f"more than {_MAX_TAGS} tags")
    seen: set[str] = set()
    for key, value in tags.items():
        if not 0 < len(key) <= _MAX_TAG_KEY or len(value) > _MAX_TAG_VALUE:
            limits = f"a key has 1 to {_MAX_TAG_KEY} characters, a value at most {_MAX_TAG_VALUE}"
            raise _bad_tags(f"{key[:_MAX_TAG_KEY]!r}: {limits}")
        if not all(_tag_character(character) for character in key + value):
            raise _bad_tags(f"{key!r}: letters, digits, spaces and _.:/=+-@ are allowed")
        if key.casefold().startswith("aws:"):
            raise _bad_tags("keys that begin with aws: are reserved")
        if key.casefold() in seen:
            raise _bad_tags("two keys differ in case only")
        seen.add(key.casefold())
    passed_on = _TRANSITIVE_TAGS | {key.casefold() for key in transitive}
    return {
        "principal_tags": {key: [value] for key, value in tags.items()},
        "transitive_tag_keys": sorted(key for key in tags if key.casefold() in passed_on),
    }


def merged_tags(policys: Mapping[str, str], granted: Mapping[str, str]) -> dict[str, str]:
    """Policy's session tags and those of the trust map's grant as one table. Neither may overrule the other.

    Raises:
        GiveUpError: `session_tags_conflict`, one key with two values.
    """
    said = {key.casefold(): (key, value) for key, value in granted.items()}
    for key, value in policys.items():
        if said.get(key.casefold(), (key, value)) != (key, value):
            raise GiveUpError(
                f"policy and the trust map give the session tag {key!r} different values",
                reason="session_tags_conflict",
                fix="set the tag in one of the two only, or to the same value",
            )
    return {**policys, **granted}


def _tag_character(character: str) -> bool:
    return character in _TAG_PUNCTUATION or unicodedata.category(character)[0] in "LN"


def _bad_tags(detail: str) -> GiveUpError:
    return GiveUpError(
        f"the session tags are not what AWS accepts: {detail}",
        reason="session_tags_invalid",
        fix="correct session_tags in the policy bundle or the trust map",
    )


def verified_facts(caller: Caller) -> dict[str, str]:
    """The caller's facts by their own names, without those that could pass for ours."""
    return {
        name: value
        for name, value in sorted(caller.facts.items())[:MAX_FACTS]
        if name not in RESERVED_CLAIMS and FACT_NAME.fullmatch(name)
    }


def image_digest(pool: Pool) -> str:
    """`sha256:<hex>` of a pool whose image is pinned by digest; else empty."""
    pinned = _DIGEST_PINNED.fullmatch(pool.base)
    return pinned[1] if pinned else ""


def job_claims(record: Record, pool: Pool, *, decision_id: str, summary: str = "") -> dict[str, Any]:
    """The claims that name the job; without times, audience, `jti` and tags, which the issuer adds.

    `summary` is the digest of the verification summary by which `artifact_digest` was let through, if there is one.
    """
    spec, caller, key = record.offer.spec, record.offer.caller, record.offer.key
    claims: dict[str, Any] = {**verified_facts(caller)}
    claims |= {
        "sub": subject(caller, spec.pool, spec.deployment_environment),
        "job_id": key.id,
        "job_name": spec.name,
        "attempt": key.attempt,
        "source": key.source,
        "pool": pool.name,
        "trust_tier": pool.trust_tier.value,
        "isolation": pool.isolation,
        "runner": record.runner,
        "runner_uid": record.bound_uid,
        "caller": caller.id,
        "caller_issuer": caller.issuer,
        "decision_id": decision_id,
    }
    if spec.deployment_environment:
        claims["environment"] = spec.deployment_environment
    if spec.artifact_digest:
        claims["artifact_digest"] = spec.artifact_digest
    if summary:
        claims["verification_summary"] = summary
    if digest := image_digest(pool):
        claims["runner_image_digest"] = digest
    return claims


def lifetime_seconds(record: Record, pool: Pool, decision: Decision, caps: Iterable[int], now: int) -> int:
    """How long a credential may live from `now` on (Unix seconds): the shortest of `caps`, policy's limits at admission
    and at this exchange, and what is left until the job's deadline.

    Raises:
        GiveUpError: `ttl_invalid`, `job_deadline_passed`.
    """
    limits = list(caps)
    wishes = (decision.obligations.token_ttl_seconds, record.obligations.token_ttl_seconds)
    limits += [wish for wish in wishes if wish is not None]
    if min(limits) <= 0:
        raise GiveUpError("policy set a token life of 0 s", reason="ttl_invalid", fix="correct token_ttl_seconds")
    left = deadline_seconds(record, pool) - now
    if left <= 0:
        raise GiveUpError("the job's time is over", reason="job_deadline_passed", fix="raise its timeout_seconds")
    return min(*limits, left)


def deadline_seconds(record: Record, pool: Pool) -> int:
    """Unix time by which the job is over at the latest: its begin plus the shortest of all limits, rounded down."""
    return record.began_at_ns // 1_000_000_000 + run_limit_seconds(record, pool)
