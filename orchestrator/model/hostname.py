"""One spelling of a host name, used for policy and for the resolver alike. Pure.

A filter that reads one spelling while the resolver reads another is the classic hole in such proxies: a NUL
between the two made `evil.example\\0.allowed.example` pass a suffix check. So a name is normalised exactly once,
by a grammar much narrower than DNS, and whatever does not fit is refused rather than repaired.
"""

from __future__ import annotations

import re

MAX_HOST = 253
"""Longest name in presentation form without its final dot (RFC 1035 section 2.3.4)."""

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class BadHostError(ValueError):
    """The text is no host name we accept; `reason` is `address_literal` or `bad_host`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalise_host(raw: str) -> str:
    """The one spelling of `raw`: lower case, without its final dot, at least two letter-digit-hyphen labels.

    Every form of an address literal is refused, also those only `inet_aton` knows (`0x7f.1`, `2130706433`):
    no name whose last label is a number can be a host name (WHATWG URL, "ends in a number"; RFC 1123
    section 2.1). International names must come as A-labels (`xn--...`, RFC 5890), as resolvers want them.

    Raises:
        BadHostError: reason `address_literal` or `bad_host`.
    """
    if not raw or len(raw) > MAX_HOST + 1 or not raw.isascii():
        raise BadHostError("bad_host")
    if ":" in raw or raw[0] == "[":
        raise BadHostError("address_literal")
    host = raw.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        raise BadHostError("address_literal")
    if len(host) > MAX_HOST or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadHostError("bad_host")
    return host


def is_host(text: str) -> bool:
    """Whether `text` is a host name, in its one spelling."""
    try:
        return normalise_host(text) == text
    except BadHostError:
        return False


def printable(raw: str) -> str:
    """`raw` made safe and short enough to be kept as a fact: for hosts that were refused unread."""
    return "".join(c if "!" <= c <= "~" else "?" for c in raw[: MAX_HOST + 1])
