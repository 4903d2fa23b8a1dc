"""What goes in and out where policy is asked without a job."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orchestrator.model.decision import Verdict
from orchestrator.server.operation import Answer, Operation
from orchestrator.server.schemas import MAX_SECRETS, Request
from orchestrator.server.shapes import View

_LABEL = r"^[A-Za-z0-9][A-Za-z0-9 ._:/@()+,=#-]{0,127}$"
_POOL = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"
_TICKET = r"^([A-Za-z0-9][A-Za-z0-9._/#-]{0,127})?$"
_REGISTERED = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class CheckRequest(Request):
    """A deployment that somebody has in mind. Who asks is known by the token, as for a job."""

    environment: Annotated[str, Field(pattern=_LABEL)]
    """Where it would be deployed to, such as `prod`."""
    artifact_digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    """What would be deployed; evidence about it is looked up by us."""
    ticket: Annotated[str, Field(pattern=_TICKET)] = ""
    """The release ticket, looked up in the tracker by us."""
    pool: Annotated[str, Field(pattern=_POOL)] = ""
    """The pool that the deploying job would run in; empty leaves out what policy wants of pools."""
    secrets: Annotated[list[Annotated[str, Field(pattern=_REGISTERED)]], Field(max_length=MAX_SECRETS)] = Field(
        default_factory=list
    )
    """Registered secrets that the job would ask for."""


class CheckReasonView(View):
    code: str
    message: str


class CheckWaiverView(View):
    """A signed exception that a job would use, and what it would set aside."""

    exception: str
    codes: list[str]


class CheckView(View):
    """What policy says now. It grants nothing, uses nothing up, and binds nobody: the job is judged again."""

    allowed: bool
    verdict: Verdict
    environment: str
    artifact_digest: str
    reasons: list[CheckReasonView]
    """Each rule that is not met, with what to do about it."""
    observed: list[CheckReasonView]
    """Rules that are only watched for now: these would refuse too."""
    waivers: list[CheckWaiverView]
    decision_id: str
    input_digest: str
    bundle_digest: str
    engine: str


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "check_policy",
        "POST",
        "/v1/policy/check",
        "Ask whether a deployment would be allowed; nothing is granted",
        {200: Answer("The answer, whatever it is", CheckView)},
        body=CheckRequest,
        problems=(404, 422, 503),
    ),
)
