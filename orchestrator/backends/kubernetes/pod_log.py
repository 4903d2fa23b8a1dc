"""A job's output by `pods/log`: every line once, in order, through cut connections and restarts of the daemon.

The kubelet stamps each line; a stream that was cut goes on at the last stamp seen, and lines that came before are
left out by stamp and by how many of that stamp came. `sinceTime` has whole seconds, so some always come again.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.manifest import JOB_CONTAINER
from orchestrator.errors import TryAgainError

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_LONGEST_STAMP = 40
CHUNK = 16384
"""Bytes of a longer line that container runtimes log at once; kubelets before 1.27 stamp each of these pieces."""
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log was read: the last line's stamp in Unix nanoseconds, and how many lines of it were seen.

    `part` is how many bytes of the last one were, when its end was not; 0 when it was whole.
    """

    at_ns: int = 0
    lines: int = 0
    part: int = 0

    def text(self) -> str:
        return f"{self.at_ns} {self.lines} {self.part}\n"

    @classmethod
    def read(cls, text: str) -> Position:
        """The beginning for what is no position."""
        words = text.split()
        if len(words) != 3 or not all(word.isascii() and word.isdecimal() for word in words):
            return cls()
        return cls(*map(int, words))


class LineFilter:
    """Takes the stream's bytes apart: gives the output without stamps, and without what was given before.

    A line is given in the pieces in which it comes: its end may be long in coming, and it may be of any length.
    One without a stamp is not the job's: kubelets write their own errors, such as that a container is gone, into
    the stream.
    """

    def __init__(self, after: Position) -> None:
        self.position = after
        self._skip = after
        self._repeated = 0
        self._held = b""
        self._inside = False
        self._giving = False
        self._drop = 0
        self._chunk = 0

    def feed(self, data: bytes) -> bytes:
        """The output in `data` that is new."""
        data = self._held + data
        self._held = b""
        given: list[bytes] = []
        start = 0
        while start < len(data):
            if not self._inside or self._chunk == CHUNK:
                stamp = _STAMP.match(data, start)
                if stamp is None and len(data) - start < _LONGEST_STAMP and b"\n" not in data[start:]:
                    self._held = data[start:]
                    break
                if stamp is not None:
                    self._begin(stamp)
                    start = stamp.end()
                elif not self._inside:
                    self._giving = False
                self._chunk = 0
            stop = min(len(data), start + CHUNK - self._chunk)
            end = data.find(b"\n", start, stop) + 1
            self._inside = not end
            self._chunk += (end or stop) - start
            if self._giving:
                given.append(self._given(data[start : end or stop]))
            start = end or stop
        return b"".join(given)

    def _given(self, piece: bytes) -> bytes:
        """The piece of a line, without what an earlier stream gave of it."""
        dropped = min(self._drop, len(piece))
        self._drop -= dropped
        seen = self.position.part + len(piece) - dropped if self._inside else 0
        self.position = replace(self.position, part=seen)
        return piece[dropped:]

    def end(self) -> bytes:
        """What was held back when the stream ended, as far as it is the job's."""
        held, self._held = self._held, b""
        return held if self._inside and self._giving else b""

    def _begin(self, stamp: re.Match[bytes]) -> None:
        """A line begins, or the next piece of one."""
        at = _nanoseconds(stamp)
        if at < self._skip.at_ns:
            self._giving = False
            return
        if at == self._skip.at_ns:
            self._repeated += 1
            if self._repeated == self._skip.lines and self._skip.part:
                self._giving, self._drop = True, self._skip.part
                return
            self._giving = self._repeated > self._skip.lines
        else:
            self._giving = True
        if self._giving:
            same = at == self.position.at_ns
            self.position = Position(at, self.position.lines + 1 if same else 1)


Write = Callable[[bytes, Position], Awaitable[None]]
"""Takes output, and how far it goes."""


async def read_log(
    client: ApiClient, namespace: str, pod: str, after: Position, write: Write, *, idle: float = 600.0
) -> bool:
    """Follow the job's output until the server ends the stream (True) or it is cut.

    `idle` seconds without output end it too: the caller comes again. A cut is no error here, for what was read
    counts; the caller knows whether the container still runs.

    Raises:
        OrchestratorError: the log could not be opened: the container has not begun, or it cannot be read now.
    """
    params = {"container": JOB_CONTAINER, "follow": "true", "timestamps": "true"}
    if after.at_ns:
        whole = datetime.fromtimestamp(after.at_ns // SECOND, UTC)
        params["sinceTime"] = whole.strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = LineFilter(after)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    opened = False
    try:
        async with client.pieces(path, params=params, idle=idle) as pieces:
            opened = True
            async for piece in pieces:
                output = lines.feed(piece)
                if output:
                    await write(output, lines.position)
            rest = lines.end()
            if rest:
                await write(rest, lines.position)
    except TryAgainError:
        if not opened:
            raise
        return False
    return True


def _nanoseconds(stamp: re.Match[bytes]) -> int:
    zone = stamp[3].decode()
    whole = datetime.fromisoformat(stamp[1].decode() + ("+00:00" if zone == "Z" else zone))
    return int(whole.timestamp()) * SECOND + int((stamp[2] or b"0").decode().ljust(9, "0"))
