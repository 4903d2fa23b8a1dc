"""What the control plane swears to about a job's artifacts: an in-toto statement with SLSA provenance. Pure.

Every field comes from the journal's facts and the pool; only names and digests of subjects are the job's
word, as SLSA Build L3 permits. The script and environment appear as digests, never as text.

What is summed up of the network is what the gateway saw; caches are listed, and there are none: a runner is new.

Sources: in-toto Statement v1, SLSA Provenance v1, RFC 8785 is not needed since the bytes themselves are signed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from orchestrator.model import events
from orchestrator.model.decision import Decision
from orchestrator.model.events import Fact
from orchestrator.model.job import JobOffer
from orchestrator.model.outcome import Outcome, Result
from orchestrator.model.platform import named_offer
from orchestrator.model.pool import Pool

IN_TOTO: Final = "application/vnd.in-toto+json"
"""Payload type of an envelope that holds a statement."""

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
_MOST_RULES: Final = 64
_REST: Final = "(further)"
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SOURCE_FACTS: Final = (
    "repository",
    "repository_id",
    "repository_owner_id",
    "ref",
    "sha",
    "workflow_ref",
    "event_name",
)


@dataclass(frozen=True, slots=True)
class Builder:
    """`base_url` is the issuer's URL, `version` the program's."""

    base_url: str
    version: str

    def id_for(self, pool: Pool, *, waived: bool = False) -> str:
        """Each way of building is a builder of its own: backend, isolation and trust tier are part of the id.

        `waived`: an exception stood in for a rule. Nobody who trusts the plain builder has thereby trusted this one.
        """
        mode = "/waived" if waived else ""
        return f"{self.base_url}/builders/{pool.backend}/{pool.isolation}/{pool.trust_tier.value}{mode}/v1"

    @property
    def build_type(self) -> str:
        return f"{self.base_url}/build-types/dispatched-job/v1"


@dataclass(frozen=True, slots=True)
class KeptLog:
    """The job's output as it was kept, secrets masked: `sha256` in hex, and its size."""

    sha256: str
    size_bytes: int


@dataclass(slots=True)
class _Egress:
    """Connections by rule of those that were let out, by reason of those that were not; the agent's proofs apart."""

    allowed: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    probes: int = 0

    def hear(self, event: events.EgressDecided) -> None:
        if event.canary:
            self.probes += event.connections
            return
        counts, word = (self.allowed, event.rule) if event.allowed else (self.refused, event.reason)
        if word not in counts and len(counts) >= _MOST_RULES:
            word = _REST
        counts[word] = counts.get(word, 0) + event.connections

    def told(self) -> dict[str, Any]:
        return {"allowed": self.allowed, "refused": self.refused, "probes_refused": self.probes}


@dataclass(slots=True)
class _Story:
    """The facts of a job that provenance tells of."""

    offer: JobOffer | None = None
    admitted: Decision | None = None
    runner: str = ""
    runner_uid: str = ""
    bound_at_ns: int = 0
    ended_at_ns: int = 0
    outcome: Outcome | None = None
    artifacts: list[events.ArtifactReported] = field(default_factory=list)
    audiences: list[str] = field(default_factory=list)
    waivers: dict[str, set[str]] = field(default_factory=dict)
    egress: _Egress = field(default_factory=_Egress)

    def decided(self, decision: Decision) -> None:
        if decision.allowed:
            for waiver in decision.waivers:
                self.waivers.setdefault(waiver.exception, set()).update(waiver.codes)


def _read(facts: Sequence[Fact]) -> _Story:
    story = _Story()
    for fact in facts:
        match fact.event:
            case events.JobOffered(offer):
                story.offer = offer
            case events.JobAdmitted(decision):
                story.admitted = decision
                story.decided(decision)
            case events.PlatformJobNamed(job, decision) if story.offer is not None:
                story.offer, story.admitted = named_offer(story.offer, job), decision
                story.decided(decision)
            case events.ArtifactNamed(digest) if story.offer is not None:
                story.offer = story.offer.deploying(digest)
            case events.ExchangeDecided(decision=decision):
                story.decided(decision)
            case events.EgressDecided():
                story.egress.hear(fact.event)
            case events.RunnerBound(runner=runner, uid=uid):
                story.runner, story.runner_uid, story.bound_at_ns = runner, uid, fact.at_ns
            case events.ArtifactReported() if fact.event not in story.artifacts:
                story.artifacts.append(fact.event)
            case events.TokenIssued(audience=audience) if audience not in story.audiences:
                story.audiences.append(audience)
            case events.JobEnded(outcome):
                story.outcome, story.ended_at_ns = outcome, fact.at_ns
            case _:
                pass
    return story


def provenance(
    facts: Sequence[Fact], pool: Pool, builder: Builder, log: KeptLog | None = None
) -> dict[str, Any] | None:
    """The statement about all artifacts of one job, from its facts in order; `log` is what was kept of its output.

    None when there is nothing to swear to: the job did not succeed, or reported no artifact.
    """
    story = _read(facts)
    offer, outcome = story.offer, story.outcome
    if offer is None or outcome is None or outcome.result is not Result.SUCCESS or not story.bound_at_ns:
        return None
    subjects = subjects_of(story.artifacts)
    if not subjects:
        return None
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": builder.build_type,
                "externalParameters": _external(offer),
                "internalParameters": _internal(story, pool),
                "resolvedDependencies": _dependencies(offer, pool),
            },
            "runDetails": {
                "builder": {
                    "id": builder.id_for(pool, waived=bool(story.waivers)),
                    "version": {"orchestrator": builder.version},
                },
                "metadata": {
                    "invocationId": offer.key.id,
                    "startedOn": timestamp(story.bound_at_ns),
                    "finishedOn": timestamp(story.ended_at_ns),
                },
                **_byproducts(log),
            },
        },
    }


def statement_bytes(statement: dict[str, Any]) -> bytes:
    """The bytes to sign: one line of JSON with sorted keys."""
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def timestamp(at_ns: int) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def subjects_of(artifacts: Sequence[events.ArtifactReported]) -> list[dict[str, Any]]:
    """Resource descriptors of those that have a digest; the same report twice is one."""
    return [subject for artifact in dict.fromkeys(artifacts) if (subject := _subject(artifact)) is not None]


def _subject(artifact: events.ArtifactReported) -> dict[str, Any] | None:
    digest = _DIGEST.fullmatch(artifact.digest)
    if digest is None:
        return None
    subject: dict[str, Any] = {"name": artifact.name, "digest": {"sha256": digest[1]}}
    if artifact.media_type:
        subject["mediaType"] = artifact.media_type
    return subject


def _digest_of(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def _external(offer: JobOffer) -> dict[str, Any]:
    """Everything that whoever dispatched the job could choose; there is no other way into the build."""
    spec, caller = offer.spec, offer.caller
    return {
        "source": {name: caller.facts[name] for name in _SOURCE_FACTS if name in caller.facts},
        "caller": {"id": caller.id, "issuer": caller.issuer},
        "job": spec.name,
        "attempt": offer.key.attempt,
        "pool": spec.pool,
        "pipeline": spec.pipeline,
        "script": _digest_of(spec.script),
        "environment": _digest_of(dict(spec.environment)),
        "claimed": _digest_of(dict(spec.claimed)),
        "timeout_seconds": spec.timeout_seconds,
        "deployment_environment": spec.deployment_environment,
        "artifact_digest": spec.artifact_digest,
        "ticket": spec.ticket,
        "secrets": sorted(spec.secrets),
    }


def _internal(story: _Story, pool: Pool) -> dict[str, Any]:
    admitted = story.admitted
    policy = (
        {"bundle": admitted.bundle_digest, "input": admitted.input_digest, "decision": admitted.id}
        if admitted is not None
        else {}
    )
    return {
        "pool": {
            "name": pool.name,
            "backend": pool.backend,
            "isolation": pool.isolation,
            "trust_tier": pool.trust_tier.value,
            "base": pool.base,
            "egress_proof_required": pool.require_egress_proof,
        },
        "runner": {"name": story.runner, "uid": story.runner_uid},
        "policy": policy,
        "waivers": [{"exception": one, "codes": sorted(codes)} for one, codes in sorted(story.waivers.items())],
        "egress": story.egress.told(),
        # Nothing outlives a runner and comes into another: there is no cache that anybody could have poisoned.
        "caches": [],
        "token_audiences": sorted(story.audiences),
    }


def _byproducts(log: KeptLog | None) -> dict[str, Any]:
    if log is None:
        return {}
    entry = {"name": "log", "digest": {"sha256": log.sha256}, "annotations": {"bytes": log.size_bytes}}
    return {"byproducts": [entry]}


def _dependencies(offer: JobOffer, pool: Pool) -> list[dict[str, Any]]:
    """Best effort, as SLSA permits: the source commit when the caller's issuer names one, and the base."""
    facts = offer.caller.facts
    found: list[dict[str, Any]] = []
    commit = facts.get("sha", "")
    if _COMMIT.fullmatch(commit):
        entry: dict[str, Any] = {"name": "source", "digest": {"gitCommit": commit}}
        if facts.get("repository"):
            entry["annotations"] = {"repository": facts["repository"]}
        found.append(entry)
    _, at, digest = pool.base.rpartition("@")
    matched = _DIGEST.fullmatch(digest) if at else None
    if matched is not None:
        found.append({"name": "runner-base", "uri": pool.base, "digest": {"sha256": matched[1]}})
    return found
