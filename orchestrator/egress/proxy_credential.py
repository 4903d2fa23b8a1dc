"""The credential in a request to the gateway: Basic proxy authentication (RFC 9110 section 11.7.2, RFC 7617). Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib

from orchestrator.egress.http_head import RequestHead

USER = "runner"
"""The one user name; the password is the job's credential, as `http://runner:<credential>@gateway` has it."""
MAX_CREDENTIAL = 1024
"""Longest credential, in characters."""


def credential_digest(credential: str) -> str:
    """SHA-256 of a credential in lower-case hex: all that the gateway is ever told of it."""
    return hashlib.sha256(credential.encode("utf-8")).hexdigest()


def presented_digest(head: RequestHead) -> str | None:
    """Digest of the credential that a request carries, None where it carries none at all.

    Empty for a header that cannot be one: another scheme or user, more than one, not in base64. No digest is empty,
    so that such a header never matches.
    """
    values = head.values("proxy-authorization")
    if not values:
        return None
    scheme, _, encoded = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "basic" or len(encoded) > 2 * MAX_CREDENTIAL:
        return ""
    try:
        user, colon, password = base64.b64decode(encoded.strip(" "), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    if user != USER or not colon or not password:
        return ""
    return credential_digest(password)
