"""What an answer other than 2xx means: by status, by the type name of its error, by rate-limit headers. Pure.

Never by the words of a message. Messages are shown to people, cut, and with everything that looks like a token
taken out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from orchestrator.errors import TryAgainError
from orchestrator.intake.github.errors import (
    BusyError,
    FailedCall,
    ForbiddenError,
    GitHubError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    RunnerExistsError,
    ScaleSetGoneError,
    SessionConflictError,
    SessionGoneError,
    UnauthorizedError,
    UnavailableError,
    UnreadableAnswerError,
)
from orchestrator.intake.github.fields import Fields, read_object
from orchestrator.intake.github.rest.objects import RateLimit
from orchestrator.intake.github.scale_sets.protocol import Request

MAX_MESSAGE: Final = 300
LONGEST_WAIT: Final = 3600.0
"""Seconds; a limit of GitHub's never lasts longer."""

_BY_TYPE: Final[tuple[tuple[str, type[GitHubError]], ...]] = (
    ("AgentExistsException", RunnerExistsError),
    ("AgentNotFoundException", NotFoundError),
    ("JobStillRunningException", BusyError),
    ("RunnerScaleSetSessionConflictException", SessionConflictError),
    ("RunnerScaleSetSessionExpiredException", SessionGoneError),
    ("RunnerScaleSetNotFoundException", ScaleSetGoneError),
)
"""By substring: the name is namespaced, and an assembly's name may follow."""
_SECRET: Final = re.compile(
    r"eyJ[\w-]{8,}(?:\.[\w-]*)*|gh[a-z]_\w{10,}|github_pat_\w{10,}|(?i:bearer|remoteauth|token|basic)\s+[\w.~+/=-]{16,}"
)
_ID: Final = re.compile(r"[^\w.:;/=+-]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are as `Mapping` of the HTTP library finds them, whatever their case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def error_of(request: Request, answer: Answer, now: float, token: str = "") -> GitHubError:
    """The error of an answer that is not of 2xx. `now` is Unix seconds; `token` was sent and is not repeated."""
    said = _said(answer.body)
    call = FailedCall(request.method, request.endpoint, answer.status, request_id(answer.headers))
    shown = said.shown("message") if said else ""
    message = clean(shown.replace(token, "(hidden)") if token else shown)
    text = f"{call}: {message}" if message else str(call)
    kind = _kind(request, answer, said)
    if issubclass(kind, RateLimitedError):
        error: GitHubError = kind(text, retry_after_seconds=_limit_wait(answer.headers, now))
    elif issubclass(kind, TryAgainError):
        error = kind(text, retry_after_seconds=_retry_after(answer.headers, now))
    else:
        error = kind(text, fix=request.fix or None)
    error.call = call
    return error


def request_id(headers: Mapping[str, str]) -> str:
    """GitHub's own id of the request: `ActivityId` of the Actions service, `X-GitHub-Request-Id` of REST."""
    found = headers.get("ActivityId") or headers.get("X-GitHub-Request-Id") or ""
    return _ID.sub("", found[:128])


def rate_limit_of(headers: Mapping[str, str]) -> RateLimit | None:
    """The bucket that an answer tells, if it tells one."""
    values = [headers.get(f"X-RateLimit-{name}", "") for name in ("Limit", "Remaining", "Reset")]
    if not all(value.isascii() and value.isdigit() and len(value) <= 12 for value in values):
        return None
    limit, remaining, reset = map(int, values)
    return RateLimit(_ID.sub("", headers.get("X-RateLimit-Resource", "")[:64]) or "core", limit, remaining, reset)


def clean(text: str) -> str:
    """One line for people, without anything that looks like a token."""
    hidden = _SECRET.sub("(hidden)", text[: 4 * MAX_MESSAGE])[:MAX_MESSAGE]
    return "".join(one if one.isprintable() else " " for one in hidden).strip()


def seconds_to(reset: float, now: float) -> float:
    """How long until a limit is reset, bounded."""
    return min(max(reset - now, 1.0), LONGEST_WAIT)


def _said(body: bytes) -> Fields | None:
    try:
        return read_object(body)
    except UnreadableAnswerError:
        return None  # text/plain, a proxy's page, or nothing: the status must do


def _kind(request: Request, answer: Answer, said: Fields | None) -> type[GitHubError]:
    status = answer.status
    if status == 429 or (status == 403 and _limited(answer.headers, said)):
        return RateLimitedError
    name = said.shown("typeName") if said and status < 500 else ""
    for part, kind in _BY_TYPE:
        if part in name:
            return kind
    if status in request.meanings:
        return request.meanings[status]
    match status:
        case 401:
            return UnauthorizedError
        case 403:
            return ForbiddenError
        case 404:
            return NotFoundError
        case _:
            passes = status == 408 or (status >= 500 and status != 501)
            return UnavailableError if passes else RefusedError


def _limited(headers: Mapping[str, str], said: Fields | None) -> bool:
    """Whether a 403 is a limit: it names a wait, the bucket is empty, or it points to the page about limits."""
    if headers.get("Retry-After") or headers.get("X-RateLimit-Remaining") == "0":
        return True
    return "rate-limit" in (said.shown("documentation_url") if said else "")


def _limit_wait(headers: Mapping[str, str], now: float) -> float | None:
    asked = _retry_after(headers, now)
    if asked is not None:
        return asked
    bucket = rate_limit_of(headers)
    if bucket is not None and bucket.remaining == 0:
        return seconds_to(bucket.resets_at, now)
    return None


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds, or a date (RFC 9110 section 10.2.3), bounded."""
    value = headers.get("Retry-After", "").strip()[:64]
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max((when - datetime.fromtimestamp(now, UTC)).total_seconds(), 0.0), LONGEST_WAIT)
