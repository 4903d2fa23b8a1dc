"""A job's output on its way to a terminal: colours pass, anything that could steer the terminal does not.

A job is untrusted. Escape sequences can move the cursor over what was printed before, set the clipboard or the
window's title. Into a file or a pipe the bytes go as they are.
"""

from __future__ import annotations

import codecs
import re

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-Z\\`-~]"  # two-character and intermediate sequences
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z")
_MAX_HELD = 4096


class TerminalFilter:
    """Bytes of a stream, in any cut, to text that is safe to show."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, chunk: bytes) -> str:
        """What of the stream so far can be shown. An unfinished sequence is held back, up to a bound."""
        text = self._held + self._decoder.decode(chunk)
        start = _UNFINISHED.search(text)
        if start and len(text) - start.start() <= _MAX_HELD:
            text, self._held = text[: start.start()], text[start.start() :]
        else:
            self._held = ""
        return _safe(text)

    def close(self) -> str:
        """What was held back."""
        text, self._held = self._held + self._decoder.decode(b"", final=True), ""
        return _safe(text)


def _safe(text: str) -> str:
    kept = _SEQUENCE.sub(lambda match: match[0] if _COLOUR.fullmatch(match[0]) else "", text)
    parts = re.split(f"({_COLOUR.pattern})", kept)
    return "".join(part if index % 2 else _CONTROL.sub("", part) for index, part in enumerate(parts))
