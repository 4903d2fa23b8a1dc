"""The head of a proxy request: one strict grammar in, one canonical request out. Pure.

RFC 9112 sections 2 to 6, RFC 9110 sections 7.6 and 9.3.6. Whatever two readers could understand differently is
refused, never repaired: a request smuggled past us would reach a virtual host that no rule allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD = 64 << 10
"""Longest request head, in bytes."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
_AUTHORITY = re.compile(r"(\[[^\]@/?#]*\]|[^\[\]@/?#:]*)(?::([0-9]{1,5}))?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONNECTION_FIELDS = frozenset(  # about this connection only, or about us
    {"connection", "keep-alive", "te", "upgrade", "host", "via", "transfer-encoding", "content-length", "trailer"}
)


class HeadError(ValueError):
    """No request we answer: `reason` is `bad_request`, `head_too_large` or `not_a_proxy_request`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's first lines. Field names are in lower case, in their order. `minor` is the 1 of HTTP/1.1."""

    method: str
    target: str
    minor: int
    fields: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name]


@dataclass(frozen=True, slots=True)
class Destination:
    """Host as it stood in the target, port, and for plain HTTP the origin-form of the target."""

    host: str
    port: int
    path: str = ""


@dataclass(frozen=True, slots=True)
class Framing:
    """How long the body is: `length` bytes, or chunked."""

    length: int = 0
    chunked: bool = False


def find_head(buffer: bytes | bytearray) -> int:
    """Length of the head in `buffer` including its empty line, 0 while it is not complete.

    Raises:
        HeadError: `head_too_large`, or `bad_request` as soon as the first bytes cannot be a method.
    """
    if buffer and not re.match(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]", buffer[:1]):
        raise HeadError("bad_request", "this is no HTTP request")
    end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end >= 0:
        return end + 4
    if len(buffer) >= MAX_HEAD:
        raise HeadError("head_too_large", f"the request head is longer than {MAX_HEAD} bytes")
    return 0


def parse_head(head: bytes) -> RequestHead:
    """Raises HeadError, reason `bad_request`."""
    request_line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(request_line)
    if match is None:
        raise HeadError("bad_request", "the request line is malformed")
    fields: list[tuple[str, str]] = []
    for line in lines:
        field = _FIELD.fullmatch(line)  # no folding, no space before the colon, no bare CR or LF, no NUL
        if field is None:
            raise HeadError("bad_request", "a header line is malformed")
        fields.append((field[1].decode("ascii").lower(), field[2].decode("latin-1").strip(" \t")))
    return RequestHead(match[1].decode("ascii"), match[2].decode("ascii"), int(match[3]), tuple(fields))


def connect_destination(head: RequestHead) -> Destination:
    """Where a CONNECT wants to go: authority-form with a port (RFC 9112 section 3.2.3)."""
    host, port = _authority(head.target)
    if port is None:
        raise HeadError("bad_request", "CONNECT needs host:port")
    return Destination(host, port)


def http_destination(head: RequestHead) -> Destination:
    """Where a plain request wants to go: absolute-form with the scheme http (RFC 9112 section 3.2.2)."""
    scheme, separator, rest = head.target.partition("://")
    if not separator or scheme.lower() != "http":
        raise HeadError("not_a_proxy_request", "this is a proxy: send CONNECT host:port, or http://host/path")
    cut = next((i for i, c in enumerate(rest) if c in "/?#"), len(rest))
    authority, path = rest[:cut], rest[cut:]
    if "#" in path:
        raise HeadError("bad_request", "a request target has no fragment")
    if not path.startswith("/"):
        path = "*" if head.method == "OPTIONS" and not path else f"/{path}"
    host, port = _authority(authority)
    return Destination(host, 80 if port is None else port, path)


def framing(head: RequestHead) -> Framing:
    """The body's length by RFC 9112 section 6.3, with every ambiguity of section 11.2 refused."""
    lengths, codings = head.values("content-length"), head.values("transfer-encoding")
    if codings:
        if lengths or head.minor == 0 or [coding.lower() for coding in codings] != ["chunked"]:
            raise HeadError("bad_request", "the body's length is ambiguous")
        return Framing(chunked=True)
    if not lengths:
        return Framing()
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise HeadError("bad_request", "the body's length is ambiguous")
    return Framing(length=int(lengths[0]))


def forwarded_head(head: RequestHead, host: str, port: int, path: str, body: Framing) -> bytes:
    """The request for the destination itself: origin-form, our Host, one request per connection.

    `Host` is replaced by what the rules were asked about (RFC 9112 section 3.2.2); everything about the connection
    to us is dropped, with it any upgrade to a protocol that we could not frame.
    """
    named = {name.strip().lower() for value in head.values("connection") for name in value.split(",")}
    dropped = _CONNECTION_FIELDS | named
    lines = [f"{head.method} {path} HTTP/1.{head.minor}", f"Host: {host}" if port == 80 else f"Host: {host}:{port}"]
    lines += [f"{n}: {v}" for n, v in head.fields if n not in dropped and not n.startswith("proxy-")]
    if body.chunked:
        lines.append("Transfer-Encoding: chunked")
    elif head.values("content-length"):
        lines.append(f"Content-Length: {body.length}")
    lines += [f"Via: 1.{head.minor} egress", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _authority(text: str) -> tuple[str, int | None]:
    match = _AUTHORITY.fullmatch(text)
    if match is None or not match[1]:
        raise HeadError("bad_request", "the request target names no host")
    if match[2] is None:
        return match[1], None
    port = int(match[2])
    if not 1 <= port <= 65535:
        raise HeadError("bad_request", "the port is not between 1 and 65535")
    return match[1], port
