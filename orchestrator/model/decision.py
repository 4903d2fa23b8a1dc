"""What policy answered. Four outcomes; only *allow* lets anything happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.model.egress import EgressRule

CONFIGURATION = "configuration"
"""The engine of a decision that the operator's configuration had made already: policy was not asked."""


class Verdict(StrEnum):
    """`undefined` (no rule gave an answer) and `error` (the engine failed) deny as surely as `deny`."""

    ALLOW = "allow"
    DENY = "deny"
    UNDEFINED = "undefined"
    ERROR = "error"


class Stage(StrEnum):
    """When policy is asked: may the job run; may it have a token; would it be allowed (a pull request's question, which
    grants nothing); may a cluster start this workload."""

    ADMISSION = "admission"
    EXCHANGE = "exchange"
    CHECK = "check"
    DEPLOYMENT = "deployment"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a stable code of the rule, and a sentence the job's author can act on."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Obligations:
    """What an *allow* is tied to. Absent limits are None and then the pool's own limits stand alone."""

    egress: tuple[EgressRule, ...] = ()
    max_duration_seconds: int | None = None
    token_ttl_seconds: int | None = None
    session_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiver:
    """The codes of the reasons that a signed exception (`sha256:<hex>`) set aside.

    `number` counts the jobs that used the exception, from 1; until the use is durable it is 0, and `kind` and
    `approvers` (names of people) are not told either.
    """

    exception: str
    codes: tuple[str, ...]
    kind: str = ""
    approvers: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """A recorded answer. `input_digest` and `bundle_digest` are `sha256:<hex>`; `id` is unique.

    `observed` are the reasons of rules that are only watched for now: they would have refused. `waivers` name the
    signed exceptions without which the answer would have been no.
    """

    id: str
    stage: Stage
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    obligations: Obligations = field(default_factory=Obligations)
    input_digest: str = ""
    bundle_digest: str = ""
    engine: str = ""
    duration_ns: int = 0
    observed: tuple[Reason, ...] = ()
    waivers: tuple[Waiver, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.verdict is Verdict.ALLOW

    def explain(self) -> str:
        """The reasons as one sentence for people; never empty."""
        if self.reasons:
            return "; ".join(f"{r.message} [{r.code}]" for r in self.reasons)
        return f"policy answered {self.verdict.value} without a reason"
