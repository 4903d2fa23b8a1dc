"""Reads the server name out of a TLS ClientHello as its bytes arrive. Pure and incremental.

RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3 (server_name), RFC 9849 (encrypted ClientHello).
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_HELLO = 64 << 10
"""Longest first flight we read before giving up, in bytes. Real ones are below 4 KiB, also with hybrid keys."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_MAX_FRAGMENT = 1 << 14
_SERVER_NAME = 0x0000
_ENCRYPTED = frozenset({0xFE0D, 0xFFCE})  # encrypted_client_hello, and the older draft's encrypted_server_name


class HelloError(ValueError):
    """The first flight cannot be let through.

    `reason`: `not_tls`, `bad_client_hello`, `client_hello_too_large`, `no_server_name`, `encrypted_client_hello`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClientHello:
    """`server_name` is what the client sent, in lower case but otherwise as it stood."""

    server_name: str


class ClientHelloReader:
    """Feed it what arrives until it returns the hello. It copies; the caller keeps the bytes to forward."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._message = bytearray()
        self._seen = 0

    def feed(self, data: bytes) -> ClientHello | None:
        """The hello once complete, None while more is needed.

        Raises:
            HelloError: the bytes are no ClientHello, or one that hides or lacks its server name.
        """
        self._seen += len(data)
        self._records += data
        while not self._whole() and self._unwrap():
            pass
        if self._whole():
            return _parse(bytes(self._message[4 : 4 + self._length()]))
        if self._seen > MAX_HELLO:
            raise HelloError("client_hello_too_large")
        return None

    def _length(self) -> int:
        return int.from_bytes(self._message[1:4], "big")

    def _whole(self) -> bool:
        """Whether the message is there. What comes behind it, such as early data, is the server's business."""
        if self._message and self._message[0] != _CLIENT_HELLO:
            raise HelloError("not_tls")
        if len(self._message) < 4:
            return False
        if self._length() > MAX_HELLO:
            raise HelloError("client_hello_too_large")
        return len(self._message) >= 4 + self._length()

    def _unwrap(self) -> bool:
        """Move one record's fragment to the message, if it is there; judge its header as soon as that is."""
        if not self._records:
            return False
        if self._records[0] != _HANDSHAKE or (len(self._records) > 1 and self._records[1] != 3):
            raise HelloError("not_tls")
        if len(self._records) < 5:
            return False
        length = int.from_bytes(self._records[3:5], "big")
        if not 1 <= length <= _MAX_FRAGMENT:  # RFC 8446 5.1: no empty handshake fragments
            raise HelloError("not_tls")
        if len(self._records) < 5 + length:
            return False
        self._message += self._records[5 : 5 + length]
        del self._records[: 5 + length]
        return True


class HelloGate:
    """Holds a tunnel's first bytes back until they are a ClientHello to one `host`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._reader = ClientHelloReader()
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """Everything held, once it may pass; None while more is needed.

        Raises:
            HelloError: as `ClientHelloReader.feed`, and `server_name_mismatch`.
        """
        self._held += data
        hello = self._reader.feed(data)
        if hello is None:
            return None
        if hello.server_name != self._host:
            raise HelloError("server_name_mismatch")
        return bytes(self._held)


class _Cursor:
    """Length-prefixed vectors, read strictly: running over the end is an error."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise HelloError("bad_client_hello")
        self._at += count
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, prefix: int) -> bytes:
        return self.take(self.number(prefix))

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def _parse(body: bytes) -> ClientHello:
    hello = _Cursor(body)
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    if not hello.left:
        raise HelloError("no_server_name")
    extensions = _Cursor(hello.vector(2))
    if hello.left:
        raise HelloError("bad_client_hello")
    name: str | None = None
    encrypted = False
    while extensions.left:
        kind, content = extensions.number(2), extensions.vector(2)
        encrypted = encrypted or kind in _ENCRYPTED
        if kind == _SERVER_NAME:
            if name is not None:  # two names, and no telling which the server takes
                raise HelloError("bad_client_hello")
            name = _server_name(content)
    if encrypted:
        raise HelloError("encrypted_client_hello")
    if name is None:
        raise HelloError("no_server_name")
    return ClientHello(name)


def _server_name(content: bytes) -> str:
    outer = _Cursor(content)
    names = _Cursor(outer.vector(2))
    kind, name = names.number(1), names.vector(2)
    if outer.left or names.left or kind != 0 or not name:
        raise HelloError("bad_client_hello")
    try:
        return name.decode("ascii").lower()
    except UnicodeDecodeError:
        raise HelloError("bad_client_hello") from None
