"""What the trust map answers: a grant or a refusal, and the explanation of either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.identity.trust.document import Target

LINK: Final = "docs/reference/reasons.md"


@dataclass(frozen=True, slots=True)
class Grant:
    """The one grant that a job has for an audience and a role.

    `rule` is `environment/name`; `issuer` names the issuer that signs, empty for the main one; `role` is empty where
    the grant lists none. `max_ttl_seconds` bounds the token, `session_tags` are final values, `transitive` the keys
    among them that are passed on to further sessions. `permissions` and `repository_id` are set for targets of kind
    `github` only: what an installation token may do, and in which one repository. `own_repository` says that this is
    the job's own, whose number counts only if GitHub itself vouched for it.
    """

    rule: str
    environment: str
    issuer: str
    target: Target
    role: str
    max_ttl_seconds: int
    session_tags: Mapping[str, str] = field(default_factory=dict)
    transitive: tuple[str, ...] = ()
    permissions: Mapping[str, str] = field(default_factory=dict)
    repository_id: str = ""
    own_repository: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "granted": True,
            "rule": self.rule,
            "environment": self.environment,
            "issuer": self.issuer,
            "target": self.target.name,
            "kind": self.target.kind,
            "audience": self.target.audience,
            "role": self.role,
            "max_ttl_seconds": self.max_ttl_seconds,
            "session_seconds": self.target.session_seconds,
            "slack_seconds": self.target.slack_seconds,
            "session_tags": dict(self.session_tags),
            "transitive": list(self.transitive),
            "permissions": dict(self.permissions),
            "repository_id": self.repository_id,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no grant: which rule, which claim, what it had to be, and the way out (`fix`, with its `link`).

    `code` is `trust_no_grant`, `trust_claim_mismatch`, `trust_ambiguous`, `role_not_mapped` or `role_required`. `rule`
    is the nearest grant (`environment/name`; of two that both match, the first), or the document (`environment/`) where
    no grant is the job's at all. `found` is the job's own value of `claim`, cut to a bound. `message` and `fix` are for
    the job's author: they say nothing about grants of others.
    """

    code: str
    rule: str
    message: str
    fix: str
    claim: str = ""
    wanted: str = ""
    found: str = ""

    @property
    def link(self) -> str:
        """Where the code is explained."""
        return f"{LINK}#{self.code}"

    def as_json(self) -> dict[str, Any]:
        return {
            "granted": False,
            "code": self.code,
            "rule": self.rule,
            "claim": self.claim,
            "wanted": self.wanted,
            "found": self.found,
            "message": self.message,
            "fix": self.fix,
            "link": self.link,
        }


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """One condition against the job's facts; `found` is empty for a claim that is missing."""

    claim: str
    wanted: str
    found: str
    ok: bool
    implied: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A grant of the job's environment for the audience. `role_ok`: it can answer a request for this role."""

    rule: str
    target: str
    roles: tuple[str, ...]
    role_ok: bool
    pinned: bool
    matched: bool
    conditions: tuple[ConditionResult, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything the answer rests on, nearest grant first, at most `MAX_CANDIDATES`; `left_out` counts the others.

    It shows grants of others, so it is for operators; the job's author gets the `Refusal`.
    """

    environment: str
    audience: str
    role: str
    answer: Grant | Refusal
    candidates: tuple[Candidate, ...] = ()
    left_out: int = 0
    digest: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "environment": self.environment,
            "audience": self.audience,
            "role": self.role,
            "trust_digest": self.digest,
            "answer": self.answer.as_json(),
            "candidates": [_candidate_json(one) for one in self.candidates],
            "left_out": self.left_out,
        }


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "rule": candidate.rule,
        "target": candidate.target,
        "roles": list(candidate.roles),
        "role_ok": candidate.role_ok,
        "pinned": candidate.pinned,
        "matched": candidate.matched,
        "conditions": [
            {"claim": one.claim, "wanted": one.wanted, "found": one.found, "ok": one.ok, "implied": one.implied}
            for one in candidate.conditions
        ],
    }
