"""Masking of a job's output as it comes, whatever the sizes of its pieces.

The unit is the line (ended by LF or CR): no secret form and no pattern crosses one, so a line is masked as a
whole and equal bytes give equal output however they were cut. Very long lines are worked off in windows
that overlap by more than the longest form; private key blocks are swallowed to their end line.
"""

from __future__ import annotations

import re

from orchestrator.journal.redact import BEGIN_KEY, END_KEY, MASK, MAX_PIECE, Masker, masks, merged, replaced
from orchestrator.model.job import JobId

WINDOW = 64 << 10
"""Longest line that is masked in one go, and the most a stream holds back."""
OVERLAP = 8 * MAX_PIECE
"""More than any form of a piece can have: JSON makes up to six characters of a byte."""
MAX_KEY_BLOCK = 64 << 10
"""Bytes after a private key's first line that are swallowed when its last line never comes."""

_LINE_END = re.compile(rb"[\r\n]")


class StreamMasker:
    """One job's output. `feed` gives back what is safe to show; `close` the rest."""

    def __init__(self, masker: Masker, job_id: JobId | str) -> None:
        self._masker = masker
        self._job_id = job_id
        self._held = b""
        self._swallowing = False
        self._in_key = 0
        self.masked = 0

    @property
    def whole(self) -> bool:
        """Everything that came was given back, masked: a new stream could go on from here."""
        return not self._held and not self._swallowing and not self._in_key

    def feed(self, data: bytes) -> bytes:
        """The masked text up to the last whole line of what has come so far."""
        self._held += data
        out: list[bytes] = []
        while True:
            if self._swallowing:
                self._swallow()
            block_end = self._block_end()
            if block_end:
                out += self._lines(self._held[:block_end])
                self._held = self._held[block_end:]
            elif len(self._held) >= WINDOW:
                out.append(self._window())
            else:
                return b"".join(out)

    def close(self) -> bytes:
        """The masked rest. The stream is of no use after it."""
        rest = self.feed(b"")
        held, self._held = self._held, b""
        return rest + b"".join(self._lines(held)) if held else rest

    def _block_end(self) -> int:
        """Where the last whole line ends, if every line up to there fits the window; else the end before it."""
        held = self._held
        first = _LINE_END.search(held)
        if first is None or first.start() >= WINDOW:
            return 0
        end, start = first.end(), first.end()
        if len(held) <= WINDOW:
            return max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
        for match in _LINE_END.finditer(held, start):
            if match.start() - start >= WINDOW:
                break
            end = start = match.end()
        return end

    def _lines(self, block: bytes) -> list[bytes]:
        """Whole lines, masked; key blocks need each line looked at, everything else goes in one."""
        if not self._in_key and b"PRIVATE KEY-----" not in block:
            return [self._masked(block)]
        out: list[bytes] = []
        for line in re.split(rb"(?<=[\r\n])", block):
            if self._in_key:
                self._in_key = 0 if END_KEY.search(line) else max(0, self._in_key - len(line))
                continue
            out.append(self._masked(line))
            begin = BEGIN_KEY.search(line)
            if begin and not END_KEY.search(line, begin.end()):
                self._in_key = MAX_KEY_BLOCK
        return out

    def _window(self) -> bytes:
        """The safe part of a line too long to hold: up to a place that no match crosses."""
        block = self._held[:WINDOW]
        if self._in_key:
            self._in_key = max(0, self._in_key - WINDOW)
            self._held = self._held[WINDOW:]
            return b""
        found = self._masker.find(self._job_id, block)
        cut = WINDOW - OVERLAP
        # From the last match on: backing off before one may land in the middle of another.
        for start, end in reversed(merged((context, end) for context, _, end in found)):
            if start <= cut < end:
                cut = start or (end if end < WINDOW else 0)
        if cut == 0:
            # Secrets without a gap fill the window. Where the last one ends is not known: the rest of the line goes.
            self._held = self._held[WINDOW:]
            self._swallowing = True
            self.masked += 1
            return MASK.encode()
        self._held = self._held[cut:]
        inside = [span for span in masks(found) if span[1] <= cut]
        self.masked += len(inside)
        return replaced(block[:cut], inside)

    def _swallow(self) -> None:
        end = _LINE_END.search(self._held)
        self._held = self._held[end.start() :] if end else b""
        self._swallowing = end is None

    def _masked(self, block: bytes) -> bytes:
        spans = masks(self._masker.find(self._job_id, block))
        self.masked += len(spans)
        return replaced(block, spans) if spans else block
