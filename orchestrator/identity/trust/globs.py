"""A glob that is matched in full and in linear time: its texts are chosen by whoever names branches.

`*` is any run of characters without `/`, `**` any run at all; everything else stands for itself. There is no other
magic and no backtracking: the states of the pattern are bits of one number, and each character of the text moves them
once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

MAX_PATTERN_CHARS: Final = 256
MAX_TEXT_CHARS: Final = 1024
"""A longer text matches no pattern: no ref, workflow or repository is named so, and the cost stays bounded."""

_TOKEN: Final = re.compile(r"\*+|[^*]")


class GlobError(ValueError):
    """No pattern of ours."""


class Glob:
    """A compiled pattern. Case-sensitive.

    Raises:
        GlobError: it is empty, too long, has three stars in a row, or none at all (then `equals` says it better).
    """

    __slots__ = ("_accept", "_loops", "_stars", "_start", "_steps", "pattern", "tokens")

    def __init__(self, pattern: str) -> None:
        if not 1 <= len(pattern) <= MAX_PATTERN_CHARS:
            raise GlobError(f"has 1 to {MAX_PATTERN_CHARS} characters")
        if "***" in pattern:
            raise GlobError("has three stars in a row; * is any run without /, ** any run")
        if "*" not in pattern:
            raise GlobError("has no *; write equals")
        self.pattern = pattern
        self.tokens: tuple[str, ...] = tuple(_TOKEN.findall(pattern))
        self._accept = 1 << len(self.tokens)
        self._stars = self._bits("*", "**")
        # Where a character leaves a state: forward over the literal that it is, and nowhere else than round a star.
        self._steps: dict[str, int] = {}
        for number, token in enumerate(self.tokens):
            if token not in ("*", "**"):
                self._steps[token] = self._steps.get(token, 0) | 1 << number
        self._loops = {True: self._bits("**"), False: self._stars}
        self._start = self._closed(1)

    def _bits(self, *tokens: str) -> int:
        return sum(1 << number for number, token in enumerate(self.tokens) if token in tokens)

    def _closed(self, states: int) -> int:
        """With the states behind stars, which match nothing, too. Two stars are never neighbours."""
        return states | (states & self._stars) << 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Glob) and other.pattern == self.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Glob({self.pattern!r})"

    @property
    def start(self) -> int:
        """The states before the first character, as bits."""
        return self._start

    def step(self, states: int, character: str) -> int:
        """The states after one more character."""
        moved = (states & self._steps.get(character, 0)) << 1 | states & self._loops[character == "/"]
        return moved | (moved & self._stars) << 1

    def accepts(self, states: int) -> bool:
        """Whether the text may end here."""
        return bool(states & self._accept)

    def literals(self) -> Iterator[str]:
        """The characters that the pattern names itself."""
        return iter(self._steps)

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` is what the pattern says. Linear in the text, which has a bound."""
        if len(text) > MAX_TEXT_CHARS:
            return False
        states, step = self._start, self.step
        for character in text:
            states = step(states, character)
            if not states:
                return False
        return bool(states & self._accept)
