"""What goes in and out where people sign: approvals, exceptions, and what ends or reviews them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.server.operation import Answer, Operation
from orchestrator.server.page.roles import Role
from orchestrator.server.schemas import JOB_ID_PATTERN, Request
from orchestrator.server.shapes import View

_LABEL = r"^[A-Za-z0-9][A-Za-z0-9 ._:/@()+,=#-]{0,127}$"
_WORD = r"^[a-z][a-z0-9_]{0,63}$"
_BASE64 = r"^[A-Za-z0-9+/]*={0,2}$"
_LINE = r"^[^\x00-\x1f\x7f]+$"


class SignatureRequest(Request):
    keyid: Annotated[str, Field(min_length=1, max_length=256)]
    """`sha256:` and the SHA-256 of the public key in DER, in hexadecimal."""
    sig: Annotated[str, Field(pattern=_BASE64, min_length=1, max_length=1024)]


class EnvelopeRequest(Request):
    """A DSSE envelope with a statement as the command line makes it (`approvals request`). Signatures may be left out
    where a person shows a token: then the person signs it."""

    payload: Annotated[str, Field(pattern=_BASE64, min_length=1, max_length=65536)]
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815 -- the name that DSSE gives it
    signatures: Annotated[list[SignatureRequest], Field(max_length=16)] = Field(default_factory=list)


class ApprovalListQuery(Request):
    """Filters; those left out match everything."""

    type: Literal["approval", "exception", "revocation", "review"] | None = None
    kind: Annotated[str, Field(pattern=_WORD)] | None = None
    """Such as `security`, `break_glass` or `override`."""
    environment: Annotated[str, Field(pattern=_LABEL)] | None = None
    state: Annotated[str, Field(pattern=_WORD)] | None = None
    """`counts`, or the reason why it does not, such as `approval_expired`."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class ApprovalQuery(Request):
    job: Annotated[str, Field(pattern=JOB_ID_PATTERN)] | None = None
    """Say also whether it counts for this job."""


class RevocationRequest(Request):
    reason: Annotated[str, Field(pattern=_LINE, min_length=1, max_length=1000)]
    """Why, for people; one line."""


class ApprovalLineView(View):
    """`state` is `counts` while it counts for whom it is about; else the reason why it does not. `signers` are names of
    the approvers' file; `uses` counts jobs. What has no end has empty times."""

    id: str
    type: Literal["approval", "exception", "revocation", "review"]
    kind: str
    environment: str
    state: str
    signers: list[str]
    starts_at: str
    expires_at: str
    uses: int
    reviewed: bool


class ApprovalListView(View):
    """Newest first."""

    approvals: list[ApprovalLineView]


class ExceptionUseView(View):
    """A decision that stood on an exception. `number` counts the jobs; `audience` is empty at admission."""

    job_id: str
    stage: str
    audience: str
    number: int
    at: str
    decision_id: str
    waived: list[str]


class ClosingView(View):
    """A revocation or review. `by` is empty where the daemon's operators revoked it; `verdict` is a review's."""

    id: str
    by: list[str]
    verdict: Literal["", "justified", "unjustified"]
    reason: str
    at: str


class ForJobView(View):
    """Whether it counts for one job now. `own`: only because the job or build is of whoever signed it."""

    job_id: str
    counts: bool
    reason: str
    detail: str
    fix: str
    own: bool


class ApprovalView(ApprovalLineView):
    """`content` is the statement's predicate; `envelope` the DSSE envelope with its signatures as JSON text, and
    `endorsements` those by which the control plane gave its word on people's tokens."""

    detail: str
    fix: str
    content: dict[str, Any]
    added_at: str
    origin: str
    """`api`, `folder`, or `operator`."""
    used: list[ExceptionUseView]
    reviews: list[ClosingView]
    revoked: ClosingView | None
    envelope: str
    endorsements: list[str]
    for_job: ForJobView | None


_OBJECT = Answer("The object as it stands", ApprovalView)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "submit_approval",
        "POST",
        "/v1/approvals",
        "Give in a signed approval, exception, revocation or review, or more signatures of one",
        {201: Answer("Taken; durable", ApprovalView), 200: Answer("Nothing in it is new", ApprovalView)},
        body=EnvelopeRequest,
        problems=(403, 404, 409, 422, 503),
        people=True,
    ),
    Operation(
        "list_approvals",
        "GET",
        "/v1/approvals",
        "List what people signed; for operators and approvers",
        {200: Answer("The newest that fit", ApprovalListView)},
        query=ApprovalListQuery,
        problems=(403, 404),
        people=True,
        page=Role.VIEWER,
        private=True,
    ),
    Operation(
        "read_approval",
        "GET",
        "/v1/approvals/{approval_id}",
        "Read one, with its uses and reviews",
        {200: _OBJECT},
        query=ApprovalQuery,
        problems=(404,),
        people=True,
        page=Role.VIEWER,
        private=True,
    ),
    Operation(
        "revoke_approval",
        "POST",
        "/v1/approvals/{approval_id}/revoke",
        "Revoke one for ever; again without effect; for operators",
        {200: _OBJECT},
        body=RevocationRequest,
        problems=(403, 404, 422, 503),
    ),
)
