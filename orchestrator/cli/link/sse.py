"""Server-sent events as the HTML standard, section 9.2.6, reads them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 8 << 20


class EventTooLargeError(Exception):
    """One event is larger than MAX_EVENT_BYTES."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: `id` is the last one seen, `kind` its `event` field (`message` when it has none)."""

    id: str
    kind: str
    data: str


class EventParser:
    """Bytes in any cut, events out. Comments and unknown fields are dropped, as is an unfinished event."""

    def __init__(self) -> None:
        self._pending = b""
        self._id = ""
        self._kind = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes.

        Raises:
            EventTooLargeError: an event has grown over the bound.
        """
        done: list[ServerEvent] = []
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            self._size += len(line)
            self._check(self._size)
            event = self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if event is not None:
                done.append(event)
        self._check(self._size + len(self._pending))
        return done

    @staticmethod
    def _check(size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"an event is larger than {MAX_EVENT_BYTES} bytes")

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            data, kind = self._data, self._kind or "message"
            self._data, self._kind, self._size = [], "", 0
            return ServerEvent(self._id, kind, "\n".join(data)) if data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._kind = value
        elif field == "id" and "\0" not in value:
            self._id = value
        return None
