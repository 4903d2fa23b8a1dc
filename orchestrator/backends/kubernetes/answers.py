"""What the API server's answers mean, by status and by the `reason` of its Status object. Pure.

meta/v1 Status: `reason` is a word for machines, `details.retryAfterSeconds` a wish. Only a quota that is used
up has no word of its own: it is a 403 like any refusal and known by the form of its message alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError

MAX_MESSAGE = 500
_LONGEST_WAIT = 300.0


class NotFoundError(GiveUpError):
    """404: there is no such object."""

    reason = "api_not_found"


class ConflictError(GiveUpError):
    """409: `word` is the server's, `AlreadyExists` or `Conflict`. The caller knows what to do about it."""

    reason = "api_conflict"

    def __init__(self, message: str, word: str = "") -> None:
        super().__init__(message)
        self.word = word


class GoneError(TryAgainError):
    """410: what was asked for lies before the server's history; list again."""

    reason = "api_gone"


class UnauthorizedError(TryAgainError):
    """401: our own credentials are refused."""

    reason = "api_unauthorized"
    fix = "look at the credentials of the kubeconfig or the daemon's ServiceAccount"


class _Details(msgspec.Struct):
    retryAfterSeconds: int = 0  # noqa: N815 -- the API's name


class Status(msgspec.Struct):
    """meta/v1 Status, as much as matters."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_QUOTA = re.compile(r'pods "[^"]{0,253}" is forbidden: (exceeded quota|status unknown for quota): ')
"""The second is a quota so new that its use was not counted yet."""


def error_of(
    method: str, status: int, body: bytes | msgspec.Raw, headers: Mapping[str, str] | None = None
) -> OrchestratorError:
    """The error that an answer other than 2xx stands for. A POST that is refused for good is `create_refused`."""
    said = _status(body)
    text = (said.message or f"the API server answered {status}")[:MAX_MESSAGE]
    create = method == "POST"
    wait = _retry_after(said, headers or {})
    match status:
        case 401:
            return UnauthorizedError(text)
        case 404 if not create:
            return NotFoundError(text)
        case 409:
            return ConflictError(text, said.reason)
        case 410:
            return GoneError(text)
        case 429:
            return TryAgainError(text, reason="api_busy", retry_after_seconds=wait)
        case 403 if create and said.reason == "Forbidden" and _QUOTA.match(said.message):
            return TryAgainError(text, reason="quota_exhausted", fix="raise the namespace's ResourceQuota")
        case 403 if not create:
            return GiveUpError(text, reason="api_forbidden", fix="apply the rendered manifests: a right is missing")
        case _:
            pass
    if 400 <= status < 500 and status != 408:
        return GiveUpError(text, reason="create_refused" if create else "api_refused")
    return TryAgainError(text, reason="api_unavailable", retry_after_seconds=wait)


def _status(body: bytes | msgspec.Raw) -> Status:
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:
        return Status()


def _retry_after(said: Status, headers: Mapping[str, str]) -> float | None:
    """Seconds, bounded; a date is not used by the API server and counts as no wish."""
    value = headers.get("Retry-After", "")
    asked = (
        float(value)
        if value.isascii() and value.isdigit()
        else float(said.details.retryAfterSeconds if said.details else 0)
    )
    return min(asked, _LONGEST_WAIT) if asked > 0 else None
