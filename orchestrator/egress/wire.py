"""The control line between daemon and gateway: JSON messages on a Unix socket pair, listeners as SCM_RIGHTS.

A frame is four bytes of length (big endian) and one JSON object. An object with `"listener": true` comes with one
descriptor, attached to its frame; descriptors arrive in the order of their frames (unix(7)).

Daemon to gateway: the config first, then requests `{"do": "open", "number", "runner", "rules": [[host, port,
protocol]], "listener": true}`, `{"do": "change", "number", "runner", "rules"}`, `{"do": "close", "number",
"runner"}`, `{"do": "stop", "number"}`. Gateway to daemon: `{"is": "ready", "number": 0}`, answers `{"is": "opened" |
"changed" | "closed" | "stopped", "number"}` and `{"is": "refused", "number", "reason", "message"}`, and in between
`{"is": "verdict", "runner", "verdict": {..}}`.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.egress.rules import check_rules
from orchestrator.model.egress import EgressRule

MAX_FRAME = 1 << 20
"""Longest frame either side accepts, in bytes."""
MAX_UNSENT = 64 << 20
"""Bytes that may wait for a slow reader before the line is given up."""
MAX_DESCRIPTORS = 16

Message = dict[str, Any]


class LineError(Exception):
    """What came over the line does not follow its rules."""


def rules_on_line(rules: Sequence[EgressRule]) -> list[list[str | int]]:
    """Rules as the line carries them, after a look whether they can be rules at all.

    Raises:
        ConfigurationError: reason `egress_rule_invalid`.
        GiveUpError: reason `egress_rules_too_many`.
    """
    check_rules(rules)
    return [[rule.host, rule.port, rule.protocol.value] for rule in rules]


def encode(message: Message) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME:
        raise LineError("message too long")
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Cuts frames out of a byte stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now.

        Raises:
            LineError: a frame is too long or not a JSON object.
        """
        self._buffer += data
        messages: list[Message] = []
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > MAX_FRAME:
                raise LineError("frame too long")
            if len(self._buffer) < 4 + length:
                break
            try:
                message = json.loads(self._buffer[4 : 4 + length])
            except ValueError as error:
                raise LineError("frame is not JSON") from error
            if not isinstance(message, dict):
                raise LineError("frame is not an object")
            messages.append(message)
            del self._buffer[: 4 + length]
        return messages


class ControlLine:
    """One end of the line, on the running event loop. Owns the socket."""

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[Message, int | None], None],
        lost: Callable[[], None],
        *,
        takes_descriptors: bool,
    ) -> None:
        """`received` gets each message, with its descriptor (now its own) if there is one. `lost` is called once,
        when the other side is gone or breaks the rules. An end that takes no descriptors never sees any: plain
        recv(2) makes the kernel drop them.
        """
        sock.setblocking(False)
        self._sock = sock
        self._received = received
        self._lost = lost
        self._takes_descriptors = takes_descriptors
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._descriptors: deque[int] = deque()
        self._unsent: deque[tuple[bytes, int | None]] = deque()
        self._unsent_bytes = 0
        self._closed = False
        self._loop.add_reader(sock, self._readable)

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send in order, when the other side reads. `descriptor` stays the caller's; it is duplicated as needed."""
        if self._closed:
            return
        data = encode(message)
        self._unsent.append((data, None if descriptor is None else os.dup(descriptor)))
        self._unsent_bytes += len(data)
        if self._unsent_bytes > MAX_UNSENT:
            self._fail()
        elif len(self._unsent) == 1:
            self._flush()

    def drain(self) -> None:
        """Deliver what the other side sent before it went. For when it is known to be gone."""
        while not self._closed and self._readable():
            pass

    def close(self) -> None:
        """Idempotent. What is unsent is dropped; `lost` is not called."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        for descriptor in [*self._descriptors, *(d for _, d in self._unsent if d is not None)]:
            os.close(descriptor)
        self._descriptors.clear()
        self._unsent.clear()
        self._sock.close()

    def _fail(self) -> None:
        if not self._closed:
            self.close()
            self._lost()

    def _flush(self) -> None:
        while self._unsent:
            data, descriptor = self._unsent[0]
            rights = (
                [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            )
            try:
                sent = self._sock.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError:
                self._fail()
                return
            self._unsent_bytes -= sent
            if descriptor is not None:
                os.close(descriptor)
            if sent < len(data):
                self._unsent[0] = (data[sent:], None)
            else:
                self._unsent.popleft()
        self._loop.remove_writer(self._sock)

    def _readable(self) -> bool:
        """Take in one portion; False when there was none."""
        try:
            data = self._receive()
            if not data:
                raise LineError("end of file")
            for message in self._frames.feed(data):
                descriptor = None
                if self._takes_descriptors and message.get("listener") is True:
                    if not self._descriptors:
                        raise LineError("listener missing")
                    descriptor = self._descriptors.popleft()
                self._received(message, descriptor)
                if self._closed:
                    break
        except BlockingIOError:
            return False
        except (OSError, LineError):
            self._fail()
            return False
        return True

    def _receive(self) -> bytes:
        if not self._takes_descriptors:
            return self._sock.recv(1 << 16)
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        data, ancillary, flags, _ = self._sock.recvmsg(1 << 16, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if flags & socket.MSG_CTRUNC:
            raise LineError("too many descriptors")
        return data


def receive_first(sock: socket.socket, seconds: float) -> Message:
    """Wait for one message, before there is an event loop. Reads not a byte more than it.

    Raises:
        LineError: none came in time, or it breaks the rules.
    """
    sock.settimeout(seconds)
    try:
        prefix = _exactly(sock, 4)
        length = int.from_bytes(prefix, "big")
        if length > MAX_FRAME:
            raise LineError("frame too long")
        messages = FrameReader().feed(prefix + _exactly(sock, length))
    except OSError as error:
        raise LineError("no first message") from error
    return messages[0]


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise LineError("end of file")
        data += piece
    return data
