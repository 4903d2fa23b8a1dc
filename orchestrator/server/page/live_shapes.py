"""The documented shape of what the page reads, and its operations; answers are plain mappings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.phase import Phase
from orchestrator.server.operation import HTML, SSE, Answer, Operation
from orchestrator.server.page.activity import Kind
from orchestrator.server.page.roles import Role
from orchestrator.server.schemas import Flag, Request
from orchestrator.server.shapes import PoolView, View, WaitView
from orchestrator.server.sources.shapes import SourceView


class LiveJobsQuery(Request):
    limit: Annotated[int, Field(ge=1, le=1000)] = 200
    """Rows of one page."""
    after: Annotated[str, Field(pattern=r"^[0-9]{1,20}:[A-Za-z0-9_.-]{1,200}$")] | None = None
    """`next` of the page before."""


class LiveQuery(Request):
    activity: Flag = "false"
    """Send decisions, tokens, egress verdicts, receipts and alarms too."""


class ActivityQuery(Request):
    kind: Kind | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Items of one page."""
    before: Annotated[int, Field(ge=1, le=1 << 62)] | None = None
    """`next` of the page before."""


class CallbackQuery(Request):
    """OAuth 2.0's answer; a provider may add more to it, which is left alone."""

    model_config = ConfigDict(extra="ignore")

    state: Annotated[str, Field(max_length=512)] = ""
    code: Annotated[str, Field(max_length=4096)] = ""
    iss: Annotated[str, Field(max_length=512)] | None = None
    error: Annotated[str, Field(max_length=512)] | None = None


class CodeRequest(Request):
    code: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
    """From the address to which a link of `orchestrator page`, or a provider, has sent the browser."""


class JobRow(View):
    """A job in one line. `since` is when its phase began; `why` one sentence on what it waits for or why it ended."""

    id: str
    name: str
    pool: str
    source: str
    pipeline: str
    attempt: int
    phase: Phase
    wait: WaitView | None
    why: str
    result: Result | None
    reason: EndReason | None
    offered_at: str
    since: str
    finished_at: str | None
    runner: str | None


class LiveJobsView(View):
    """Newest first: every unfinished job and the newest finished ones. `seq` is the newest fact in it."""

    rows: list[JobRow]
    next: str | None
    seq: int


class SignInView(View):
    id: str
    label: str
    url: str


class SessionView(View):
    """Who is looking. `ends_in_seconds` is 0 without a session. Requests by its cookie need the header
    `X-Orchestrator-Page` with the secret of the page that signed in."""

    signed_in: bool
    name: str
    roles: list[Literal["viewer", "operator"]]
    may_read: bool
    may_read_logs: bool
    may_operate: bool
    anonymous: bool
    ends_in_seconds: int
    sign_in: list[SignInView]


class LinkView(View):
    """Append `path` to the page's address. It works once, and for `expires_in` seconds."""

    path: str
    expires_in: int


class PoolLoadView(PoolView):
    oldest_wait_since: str | None
    """When the job was offered that has waited for a runner for longest."""
    oldest_wait_seconds: float


class AlarmView(View):
    at: str
    job_id: str
    alarm: str
    detail: str


class OverviewView(View):
    """`counts` are unfinished jobs by phase; `finished_last_hour` ends by result; `alarms` the newest 20.
    `approvals_waiting` counts exceptions that lack signatures or, once used, their review; null where none are kept."""

    at: str
    version: str
    instance: str
    draining: bool
    checks: dict[str, str]
    counts: dict[str, int]
    finished_last_hour: dict[str, int]
    pools: list[PoolLoadView]
    sources: list[SourceView]
    approvals_waiting: int | None
    alarms: list[AlarmView]


class ActivityView(View):
    """Newest first. Each item has `seq`, `at`, `job_id`, `job_name` (empty when it is not known), `kind`, and the
    fields of its kind: `verdict`, `reasons`, `stage` of a decision; `fate`, `audience` of a token; `host`, `allowed` of
    egress."""

    items: list[dict[str, Any]]
    next: int | None
    """Pass as `before` for the next page, which may be empty; null where there is no more."""


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "page_index", "GET", "/", "The live page", {200: Answer("HTML", media_type=HTML)}, protected=False,
        problems=(404,),
    ),
    Operation(
        "page_file", "GET", "/page/{file}", "A file of the live page", {200: Answer("The file", media_type="*/*")},
        protected=False, problems=(404,),
    ),
    Operation(
        "read_session", "GET", "/v1/session", "Who looks at the page, what they may do, and how they may sign in",
        {200: Answer("Now", SessionView)}, protected=False, problems=(403, 404, 421),
    ),
    Operation(
        "make_link", "POST", "/v1/session/link", "Make a sign-in link to the page; for operators by their token",
        {201: Answer("The link", LinkView)}, problems=(403, 404),
    ),
    Operation(
        "redeem_code", "POST", "/v1/session/code", "Sign in by a link's code; the answer sets the session's cookie",
        {200: Answer("Signed in", SessionView)}, protected=False, body=CodeRequest, problems=(403, 404, 421, 422),
    ),
    Operation(
        "end_session", "POST", "/v1/session/end", "Sign out", {200: Answer("Signed out", SessionView)},
        protected=False, problems=(403, 404, 421),
    ),
    Operation(
        "begin_sign_in", "GET", "/signin/{provider}", "Sign in at a provider: sends the browser there",
        {303: Answer("To the provider, or back to the page with a reason", media_type="")},
        protected=False, problems=(404, 421),
    ),
    Operation(
        "finish_sign_in", "GET", "/signin/{provider}/callback", "Where a provider sends the browser back to",
        {303: Answer("To the page: signed in, or with a reason", media_type="")},
        protected=False, query=CallbackQuery, problems=(404, 421),
    ),
    Operation(
        "read_overview", "GET", "/v1/overview", "How the daemon, its pools and its sources are doing; for operators",
        {200: Answer("Now", OverviewView)}, problems=(403,), page=Role.VIEWER,
    ),
    Operation(
        "list_live_jobs", "GET", "/v1/live/jobs", "Every unfinished job and the newest finished ones; for operators",
        {200: Answer("One page", LiveJobsView)}, query=LiveJobsQuery, problems=(403,), page=Role.VIEWER,
    ),
    Operation(
        "read_live", "GET", "/v1/live", "Follow all jobs as server-sent events; for operators",
        {200: Answer(
            "`overview`; `jobs` with changed `rows` and ids that are `gone`; `activity`; `resync`: read the list again",
            media_type=SSE,
        )},
        query=LiveQuery, stream=True, problems=(403, 503), page=Role.VIEWER,
    ),
    Operation(
        "list_activity", "GET", "/v1/activity", "Decisions, tokens, egress, receipts and alarms; for operators",
        {200: Answer("One page", ActivityView)}, query=ActivityQuery, problems=(403, 503), page=Role.VIEWER,
    ),
)  # fmt: skip
