"""The documented shape of what the API shows of the trust map; answers are plain mappings made in `trust`."""

from __future__ import annotations

from typing import Any, Literal

from orchestrator.server.shapes import View


class ConditionView(View):
    """One condition against the job. `found` is empty for a claim that is missing; `implied` are nobody's own words."""

    claim: str
    wanted: str
    found: str
    ok: bool
    implied: bool


class CandidateView(View):
    """A grant of the job's environment for the audience. `pinned`: it is written for this job's identity."""

    rule: str
    target: str
    roles: list[str]
    role_ok: bool
    pinned: bool
    matched: bool
    conditions: list[ConditionView]


class ExplanationView(View):
    """What the trust map in force says now. `candidates`, nearest first, are for operators; empty for anybody else."""

    environment: str
    audience: str
    role: str
    trust_digest: str
    answer: dict[str, Any]
    """`granted` true with what is granted, or false with `code`, `rule`, `claim`, `wanted`, `found`, `message` and
    `fix`."""
    candidates: list[CandidateView]
    left_out: int


class RecordedView(View):
    """One fact about the audience; which further words there are depends on `what`."""

    at: str
    what: Literal["decided", "issued", "refused", "revoked"]
    by: str = ""
    reason: str = ""
    detail: str = ""
    decision_id: str = ""
    role: str = ""
    rule: str = ""
    jti: str = ""
    kind: str = ""
    trust_digest: str = ""
    expires_at: int = 0


class TrustView(View):
    """Why a job gets a token for an audience, or none. `explanation` is null when there is nothing to ask; `note` says
    why. `listed` is whether the settings list the audience at all."""

    job_id: str
    audience: str
    role: str
    listed: bool | None
    explanation: ExplanationView | None
    note: str
    recorded: list[RecordedView]


class GrantView(View):
    """One grant: who (each of `identities`, under `conditions`) may get what. `latest_seconds` counts from a token's
    issue to the latest end of a session made from it."""

    rule: str
    environment: str
    issuer: str
    identities: list[str]
    conditions: dict[str, str]
    target: str
    kind: str
    audience: str
    roles: list[str]
    token_seconds: int
    latest_seconds: int
    session_tags: dict[str, str]
    transitive: list[str]
    permissions: dict[str, str]
    repository_id: str


class InventoryView(View):
    """Every grant, and the rules by identity and by target."""

    configured: bool
    trust_digest: str
    grants: list[GrantView]
    by_identity: dict[str, list[str]]
    by_target: dict[str, list[str]]
