"""Cuts one request body out of a byte stream, so that nothing can follow it to the destination. Pure.

RFC 9112 section 7.1. Chunks are decoded and encoded again: extensions and trailers do not pass.
"""

from __future__ import annotations

import re

from orchestrator.egress.http_head import Framing

MAX_LINE = 1024
"""Longest chunk-size or trailer line, in bytes."""
MAX_TRAILER = 8192
"""Longest trailer section, in bytes."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\x20-\x7e\t]*)?")


class BodyError(ValueError):
    """The chunked body is malformed."""


class BodyFramer:
    """`feed` what arrives; it gives back what may be forwarded. Once `done`, everything further is dropped."""

    def __init__(self, framing: Framing) -> None:
        self._chunked = framing.chunked
        self._left = framing.length
        self._line = bytearray()
        self._state = "size"  # size, data, data_end, trailer
        self._trailer = 0
        self.done = not framing.chunked and framing.length == 0

    def feed(self, data: bytes) -> bytes:
        """The part of `data` that belongs to the body, as it goes to the destination.

        Raises:
            BodyError: nothing of this body may go on.
        """
        if self.done:
            return b""
        if not self._chunked:
            piece = data[: self._left]
            self._left -= len(piece)
            self.done = self._left == 0
            return piece
        out = bytearray()
        at = 0
        while at < len(data) and not self.done:
            if self._state == "data":
                piece = data[at : at + self._left]
                out += b"%x\r\n" % len(piece) + piece + b"\r\n"
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = "data_end"
            else:
                at = self._take_line(data, at, out)
        return bytes(out)

    def _take_line(self, data: bytes, at: int, out: bytearray) -> int:
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > MAX_LINE:
            raise BodyError("line too long")
        if end >= 0:
            if not self._line.endswith(b"\r\n"):
                raise BodyError("bare line feed")
            line = bytes(self._line[:-2])
            self._line.clear()
            self._line_done(line, out)
        return stop

    def _line_done(self, line: bytes, out: bytearray) -> None:
        if self._state == "data_end":
            if line:
                raise BodyError("chunk longer than its size")
            self._state = "size"
        elif self._state == "size":
            match = _SIZE.fullmatch(line)
            if match is None:
                raise BodyError("bad chunk size")
            self._left = int(match[1], 16)
            self._state = "data" if self._left else "trailer"
        elif line:
            self._trailer += len(line)
            if self._trailer > MAX_TRAILER:
                raise BodyError("trailers too long")
        else:
            out += b"0\r\n\r\n"
            self.done = True
