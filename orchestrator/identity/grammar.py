"""The token request of RFC 8693 section 2.1, as strictly as it can be read. Pure; its input is hostile."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.errors import GiveUpError
from orchestrator.identity.signature import MAX_TOKEN_CHARS

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 -- a URN
_TYPE: Final = "urn:ietf:params:oauth:token-type:"
JWT_TYPE: Final = f"{_TYPE}jwt"
ID_TOKEN_TYPE: Final = f"{_TYPE}id_token"
SUBJECT_TYPES: Final = frozenset({JWT_TYPE, f"{_TYPE}access_token"})
ACCESS_TOKEN_TYPE: Final = f"{_TYPE}access_token"
REQUESTED_TYPES: Final = frozenset({JWT_TYPE, ID_TOKEN_TYPE})

MAX_AUDIENCE_CHARS: Final = 255
_ROLE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,512}")
"""One scope token of RFC 6749 section 3.3: printable ASCII without space, quotation mark and backslash."""
_KNOWN_FIELDS: Final = frozenset(
    {
        *("grant_type", "subject_token", "subject_token_type", "requested_token_type", "audience", "scope", "resource"),
        *("actor_token", "actor_token_type"),
    }
)
"""RFC 8693 section 2.1; names that a refusal may repeat."""
_MAX_FIELDS: Final = 16
_MAX_NAME_CHARS: Final = 64
_MAX_VALUE_CHARS: Final = 1024


class ExchangeRefusedError(GiveUpError):
    """No token. `error` is the OAuth code for the wire, `status` the HTTP status.

    The message, `reason` and `fix` are for the job's author and the log. `reference` names this refusal in
    both. `ours` marks failures on our side, of which the wire gets no more than the reference.
    """

    def __init__(
        self,
        error: str,
        message: str,
        *,
        reason: str,
        status: int = 400,
        reference: str = "",
        retry_after_seconds: int = 0,
        fix: str | None = None,
    ) -> None:
        super().__init__(message, reason=reason, fix=fix)
        self.error = error
        self.status = status
        self.reference = reference
        self.retry_after_seconds = retry_after_seconds

    @property
    def ours(self) -> bool:
        return self.status >= 500

    def wire(self) -> dict[str, Any]:
        """RFC 6749 section 5.2: one sentence for everybody, and a reference for whoever may read the log."""
        description = "the token request was refused"
        return {
            "error": self.error,
            "error_description": f"{description}; reference {self.reference}" if self.reference else description,
        }

    def answer(self) -> dict[str, Any]:
        """The wire form for the runner's own listener: with what the job's author can act on.

        Only that job's runner can speak there, and its author sees the same reasons with the job's record.
        """
        if self.ours:
            return self.wire()
        return self.wire() | {"reason": self.reason, "explanation": self.diagnostics()}


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """`role` is the one scope that was asked for, by which the trust map knows a role at the audience; often empty."""

    subject_token: str = field(repr=False)
    audience: str
    issued_token_type: str = ID_TOKEN_TYPE
    role: str = ""


def parse_request(fields: Iterable[tuple[str, str]]) -> ExchangeRequest:
    """The request these form fields make.

    A field may come once only (RFC 6749 section 3.2), an empty one counts as absent, unknown ones are
    ignored. There is no default audience and no more than one; at most one scope; nobody acts for a job.

    Raises:
        ExchangeRefusedError: `invalid_request`, `unsupported_grant_type`, `invalid_scope`, `invalid_target`.
    """
    form = _once(fields)
    grant = form.get("grant_type", "")
    if not grant:
        raise _invalid("grant_type is missing")
    if grant != TOKEN_EXCHANGE:
        raise ExchangeRefusedError(
            "unsupported_grant_type", f"grant_type must be {TOKEN_EXCHANGE}", reason="grant_type_unsupported"
        )
    for name in ("actor_token", "actor_token_type"):
        if name in form:
            raise _invalid(f"{name} is not accepted: nobody acts for a job")
    role = form.get("scope", "")
    if role and not _ROLE.fullmatch(role):
        raise ExchangeRefusedError(
            "invalid_scope",
            "scope names one role: up to 512 printable ASCII characters, without spaces",
            reason="scope_malformed",
        )
    if "resource" in form:
        raise ExchangeRefusedError(
            "invalid_target", "resource is not accepted, name an audience", reason="resource_unsupported"
        )
    if "subject_token" not in form:
        raise _invalid("subject_token is missing")
    if form.get("subject_token_type") not in SUBJECT_TYPES:
        raise _invalid("subject_token_type must be urn:ietf:params:oauth:token-type:jwt or …:access_token")
    requested = form.get("requested_token_type", ID_TOKEN_TYPE)
    if requested not in REQUESTED_TYPES:
        raise _invalid("requested_token_type must be urn:ietf:params:oauth:token-type:id_token or …:jwt")
    audience = form.get("audience", "")
    if not audience:
        raise _invalid("audience is missing: name exactly one")
    if len(audience) > MAX_AUDIENCE_CHARS or not audience.isprintable():
        raise ExchangeRefusedError(
            "invalid_target",
            f"an audience has at most {MAX_AUDIENCE_CHARS} printable characters",
            reason="audience_malformed",
        )
    return ExchangeRequest(form["subject_token"], audience, requested, role)


def _once(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    form: dict[str, str] = {}
    seen: set[str] = set()
    for count, (name, value) in enumerate(fields, 1):
        if count > _MAX_FIELDS:
            raise _invalid(f"more than {_MAX_FIELDS} fields")
        if len(name) > _MAX_NAME_CHARS:
            raise _invalid("a field's name is too long")
        if name in seen:
            raise _invalid(f"{_told(name)} is given twice")
        seen.add(name)
        if len(value) > (MAX_TOKEN_CHARS if name == "subject_token" else _MAX_VALUE_CHARS):
            raise _invalid(f"the value of {_told(name)} is too long")
        if value:
            form[name] = value
    return form


def _told(name: str) -> str:
    return name if name in _KNOWN_FIELDS else "a field"


def _invalid(message: str, *, status: int = 400) -> ExchangeRefusedError:
    return ExchangeRefusedError("invalid_request", message, reason="request_malformed", status=status)
