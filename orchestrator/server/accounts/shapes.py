"""What the API shows of secrets, credentials and scores; answers are plain mappings. Never a value of any of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.server.operation import Answer, Operation
from orchestrator.server.schemas import Flag, Request
from orchestrator.server.shapes import View


class FailingView(View):
    """What did not succeed when it was last tried; `step` says what it was: a new value, the end of an old one, or the
    removal of a retired secret."""

    step: Literal["make", "finish", "remove"]
    reason: str
    tries: int
    at: str


class SecretView(View):
    """A registered secret. `source` says whether its value is that of its file or kept by the daemon; `number` counts
    the values that the daemon had made. Ages in seconds; null where there is no value."""

    name: str
    owner: str
    state: Literal["in_use", "rotating", "no_value", "retired", "removed"]
    source: Literal["file", "kept"]
    file: str
    number: int
    since: str | None
    age_seconds: int | None
    max_age_seconds: int
    rotatable: bool
    rotate_seconds: int | None
    """Age at which it is rotated by itself; null for never."""
    old_values: int
    """Values before this one that are not withdrawn yet."""
    held_by_jobs: int
    uses: int
    """Deliveries that are still counted: those of the last 90 days."""
    last_used_at: str | None
    retired_at: str | None
    removed_at: str | None
    left: str
    """What could not be destroyed when it was removed, in words."""
    failing: FailingView | None
    flags: list[str]
    repositories: list[str]
    pools: list[str]
    environments: list[str]
    pipelines: list[str]
    opens: list[str]


class SecretListView(View):
    secrets: list[SecretView]


class PipelineRetiredView(View):
    """The pipeline gets no registered secret any more; `secrets` were its own alone and are retired with it."""

    pipeline: str
    secrets: list[str]


class CredentialView(View):
    """A credential that the daemon holds or brokers. `risk` is from 0 to 100; `left_out` counts entries of `opens` and
    `jobs` that are too many to list."""

    id: str
    kind: str
    owner: str
    state: str
    where: str
    rotation: Literal["automatic", "hook", "file", "by_hand"]
    created_at: str | None
    age_seconds: int | None
    max_age_seconds: int | None
    last_used_at: str | None
    uses: int | None
    opens: list[str]
    jobs: list[str]
    left_out: int
    flags: list[str]
    risk: int


class CredentialsView(View):
    """The riskiest first. Uses are counted since `counted_since`, or for 90 days if that is longer ago."""

    at: str
    counted_since: str
    credentials: list[CredentialView]


class ChecklistPointView(View):
    number: int
    title: str
    state: Literal["met", "partly", "unmet", "unknown"]
    evidence: list[str]
    fix: str


class ScorecardView(View):
    """The four metrics, over the last `window_days` where they count, and the checklist. Their definitions are in
    `docs/reference/metrics.md`."""

    at: str
    counted_since: str
    window_days: int
    secret_age: dict[str, Any]
    permission_scope: dict[str, Any]
    artifact_traceability: dict[str, Any]
    policy_coverage: dict[str, Any]
    checklist: list[ChecklistPointView]


class RotateQuery(Request):
    at_once: Flag = "false"
    """Withdraw the old value as soon as the new one is stored, though jobs may still hold it: for one that leaked."""


class PipelineQuery(Request):
    pipeline: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/@()+,=#-]{0,127}$")]
    """The pipeline that is no more."""


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "list_secrets",
        "GET",
        "/v1/secrets",
        "List registered secrets: owner, age, use, rotation; never a value",
        {200: Answer("All of them", SecretListView)},
        problems=(403,),
    ),
    Operation(
        "rotate_secret",
        "POST",
        "/v1/secrets/{name}/rotate",
        "Have a new value made for a secret",
        {202: Answer("It has begun; read the secret to see how it ends", SecretView)},
        query=RotateQuery,
        problems=(403, 404, 409, 503),
    ),
    Operation(
        "retire_secret",
        "POST",
        "/v1/secrets/{name}/retire",
        "Give a secret to nobody any more, and have it removed; again is without effect",
        {202: Answer("It is retired; its removal has begun", SecretView)},
        problems=(403, 404, 503),
    ),
    Operation(
        "retire_pipeline",
        "POST",
        "/v1/secrets/retire",
        "Give a pipeline no secret any more, and retire those that only it used",
        {202: Answer("It is retired", PipelineRetiredView)},
        query=PipelineQuery,
        problems=(403, 404, 503),
    ),
    Operation(
        "read_inventory",
        "GET",
        "/v1/inventory",
        "List every credential that the daemon holds or brokers; never a value",
        {200: Answer("The riskiest first", CredentialsView)},
        problems=(403, 404),
    ),
    Operation(
        "read_scorecard",
        "GET",
        "/v1/scorecard",
        "Read the four metrics and the checklist",
        {200: Answer("The scorecard", ScorecardView)},
        problems=(403, 404),
    ),
)
