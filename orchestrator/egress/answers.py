"""What a client of the gateway reads when it is refused. Pure."""

from __future__ import annotations

import json
from http import HTTPStatus

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

TLS_ACCESS_DENIED = bytes((21, 3, 3, 0, 2, 2, 49))
"""A fatal `access_denied` alert (RFC 8446 section 6.2): inside a tunnel, the only answer a TLS client can read."""

_STATUS = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "not_a_proxy_request": HTTPStatus.BAD_REQUEST,
    "head_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "too_many_connections": HTTPStatus.SERVICE_UNAVAILABLE,
    "gateway_full": HTTPStatus.SERVICE_UNAVAILABLE,
    "runner_closed": HTTPStatus.SERVICE_UNAVAILABLE,
    "credential_missing": HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    "credential_wrong": HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    "table_stale": HTTPStatus.SERVICE_UNAVAILABLE,
    "gateway_stopping": HTTPStatus.SERVICE_UNAVAILABLE,
    "name_unresolved": HTTPStatus.BAD_GATEWAY,
    "connect_failed": HTTPStatus.BAD_GATEWAY,
    "connect_timeout": HTTPStatus.GATEWAY_TIMEOUT,
}  # all else is a refusal by rule: 403

_PROXY_ERRORS = {  # RFC 9209 section 2.3
    "name_unresolved": "dns_error",
    "resolve_timeout": "dns_timeout",
    "connect_failed": "connection_refused",
    "connect_timeout": "connection_timeout",
    "address_not_public": "destination_ip_prohibited",
    "too_many_connections": "connection_limit_reached",
    "table_stale": "proxy_internal_error",
    "credential_missing": "http_request_denied",
    "credential_wrong": "http_request_denied",
}

CHALLENGE = 'Proxy-Authenticate: Basic realm="runner", charset="UTF-8"'
"""What a 407 must carry (RFC 9110 section 11.7.1, RFC 7617): the job's own credential is a password."""


def refusal(reason: str, detail: str, hint: str = "") -> bytes:
    """A whole answer that ends the connection: problem document (RFC 9457) and `Proxy-Status` (RFC 9209).

    The reason also stands in the status line, which is all that curl and git show of an answer to CONNECT.
    """
    status = _STATUS.get(reason, HTTPStatus.FORBIDDEN)
    problem: dict[str, str | int] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "reason": reason,
    }
    if hint:
        problem["hint"] = hint
    body = json.dumps(problem, indent=1).encode() + b"\n"
    error = _PROXY_ERRORS.get(reason, "http_request_denied" if status == HTTPStatus.FORBIDDEN else "http_request_error")
    challenge = (CHALLENGE,) if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else ()
    lines = (
        f"HTTP/1.1 {int(status)} {status.phrase} ({reason})",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        f'Proxy-Status: egress; error={error}; details="{reason}"',
        *challenge,
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode("ascii") + body
