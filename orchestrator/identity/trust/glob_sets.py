"""Globs as sets of texts: whether two have a text in common, whether one holds every text of another.

Exact up to a bound on the work; beyond it the answer is the careful one, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestrator.identity.trust.globs import Glob

MAX_STATES: Final = 2000
_OTHER: Final = "\0"
"""Stands for every character that neither pattern names; no pattern can hold it."""


class TooSimilarError(Exception):
    """More states than `MAX_STATES` would have to be looked at."""


def overlap(one: Glob, other: Glob) -> bool:
    """Whether some text may match both; true also when that would take too long to rule out."""
    if _ends_differ(one, other):
        return False
    try:
        return any(one.accepts(mine) and other.accepts(its) for mine, its in _reachable(one, other))
    except TooSimilarError:
        return True


def covers(outer: Glob, inner: Glob) -> bool:
    """Whether every text of `inner` surely matches `outer`."""
    try:
        return all(outer.accepts(its) or not inner.accepts(mine) for mine, its in _reachable(inner, outer))
    except TooSimilarError:
        return False


def _ends_differ(one: Glob, other: Glob) -> bool:
    """Whether what the two begin or end with already tells them apart."""
    mine, its = one.pattern.partition("*")[0], other.pattern.partition("*")[0]
    if not (mine.startswith(its) or its.startswith(mine)):
        return True
    mine, its = one.pattern.rpartition("*")[2], other.pattern.rpartition("*")[2]
    return not (mine.endswith(its) or its.endswith(mine))


def _reachable(first: Glob, second: Glob) -> Iterator[tuple[int, int]]:
    """Each pair of states that some text leads to, without those in which `first` is lost."""
    alphabet = sorted({*first.literals(), *second.literals(), "/", _OTHER})
    start = (first.start, second.start)
    seen, waiting = {start}, [start]
    while waiting:
        pair = waiting.pop()
        yield pair
        for character in alphabet:
            after = (first.step(pair[0], character), second.step(pair[1], character))
            if after[0] and after not in seen:
                if len(seen) >= MAX_STATES:
                    raise TooSimilarError
                seen.add(after)
                waiting.append(after)
