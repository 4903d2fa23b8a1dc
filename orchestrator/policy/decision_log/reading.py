"""Reads the log back, beside the daemon that writes it or from a copy, and tells what is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestrator.policy.decision_log.entry import Entry, EntryDamagedError, read_entry
from orchestrator.policy.decision_log.segments import (
    MAX_SEGMENT_BYTES,
    Piece,
    Segment,
    State,
    pieces_of,
    segments_of,
)
from orchestrator.policy.input import rfc3339

MAX_FINDINGS = 200
"""Most findings that are told of one file; it then says that there are more."""
_SLACK_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """`where` names the file and the place in it, `what` says what is wrong; without `damage` a kill has done it."""

    where: str
    what: str
    damage: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Window:
    """From `since_ns` up to and without `until_ns`, Unix nanoseconds."""

    since_ns: int
    until_ns: int

    @cached_property
    def _texts(self) -> tuple[str, str]:
        return rfc3339(self.since_ns), rfc3339(self.until_ns)

    def holds(self, entry: Entry) -> bool:
        """Whether it was taken then. Times of entries all have one form, in which text sorts like time."""
        since, until = self._texts
        return since <= entry.timestamp < until


@dataclass(frozen=True, slots=True)
class Span:
    """The numbers of one run that a file holds; `first` and `last` are 0 when it holds none."""

    run: str
    first: int
    last: int


class SegmentReader:
    """Reads one file once: iterate `entries`, then look at `findings` and `span`."""

    def __init__(self, segment: Segment) -> None:
        self.findings: list[Finding] = []
        self._segment = segment
        self._first = 0
        self._last = 0

    @property
    def span(self) -> Span:
        return Span(self._segment.run, self._first, self._last)

    def entries(self) -> Iterator[Entry]:
        """Each entry that holds, in the order they were written. Nothing is raised: what is wrong becomes a finding."""
        content = self._content()
        for piece in pieces_of(content):
            where = f"byte {piece.at}"
            if piece.fault and not (piece.cut and self._segment.state is State.OPEN):
                by_kill = piece.cut and self._segment.state is State.CUT
                self._find(where, f"{piece.size} bytes cannot be read: {piece.fault}", damage=not by_kill)
            yield from self._entries(piece, where)
        if self._segment.state is State.CUT:
            killed = "its daemon was killed; what it decided in its last second may be missing"
            self._find("its end", killed, damage=False)

    def _entries(self, piece: Piece, where: str) -> Iterator[Entry]:
        for at, line in enumerate(piece.lines, 1):
            try:
                entry = read_entry(line)
            except EntryDamagedError as error:
                self._find(f"{where}, line {at}", str(error))
                continue
            self._follow(entry.custom.number, f"{where}, line {at}")
            yield entry

    def _follow(self, number: int, where: str) -> None:
        if self._last and number != self._last + 1:
            self._find(where, _missing(self._segment.run, self._last, number))
        self._first = self._first or number
        self._last = number

    def _content(self) -> bytes:
        # Its daemon may have completed it since it was listed, or been killed and followed by another.
        for path in (self._segment.path, *(self._segment.named(state) for state in State)):
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_SEGMENT_BYTES + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._find("all of it", f"it cannot be read: {error.strerror}")
                return b""
            if len(content) > MAX_SEGMENT_BYTES:
                self._find("its end", f"it is larger than {MAX_SEGMENT_BYTES} bytes; the rest is not read")
            return content[:MAX_SEGMENT_BYTES]
        self._find("all of it", "it was deleted meanwhile")
        return b""

    def _find(self, where: str, what: str, *, damage: bool = True) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(f"{self._segment.path.name}, {where}", what, damage))
        elif len(self.findings) == MAX_FINDINGS:
            self.findings.append(Finding(self._segment.path.name, "there is more that is wrong with it"))


def chosen(folder: Path, window: Window) -> Sequence[Segment]:
    """The files that may hold decisions of that time, oldest first.

    Raises:
        OSError: the folder cannot be read.
    """
    segments = segments_of(folder)
    ends = [following.first_ns for following in segments[1:]] + [window.until_ns]
    return [
        segment
        for segment, end in zip(segments, ends, strict=False)
        # Some slack, for a machine's clock may have been set.
        if segment.first_ns - _SLACK_NS < window.until_ns and (end + _SLACK_NS > window.since_ns)
    ]


def missing_between(spans: Iterable[Span]) -> Sequence[Finding]:
    """What is missing between files that follow each other in one run of the daemon."""
    found: list[Finding] = []
    last: dict[str, int] = {}
    for span in sorted((span for span in spans if span.first), key=lambda one: (one.run, one.first)):
        before = last.get(span.run, 0)
        if before and span.first != before + 1:
            found.append(Finding(f"run {span.run}", _missing(span.run, before, span.first)))
        last[span.run] = max(before, span.last)
    return found[:MAX_FINDINGS]


def _missing(run: str, before: int, number: int) -> str:
    if number <= before:
        return f"number {number} of run {run} comes after {before}; lines were moved or doubled"
    which = f"number {before + 1}" if number == before + 2 else f"numbers {before + 1} to {number - 1}"
    return f"{which} of run {run} missing: the daemon could not keep them, or they were taken away"
