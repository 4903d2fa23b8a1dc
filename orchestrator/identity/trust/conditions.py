"""One condition of a grant: a claim, and what it has to be. A claim that is missing or empty fulfils none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestrator.errors import GiveUpError
from orchestrator.identity.claims import session_tags
from orchestrator.identity.trust.glob_sets import covers, overlap
from orchestrator.identity.trust.globs import Glob

MAX_VALUE_CHARS: Final = 512
MAX_ONE_OF: Final = 100
_SHOWN_VALUES: Final = 5

_PLAIN_TAG: Final = re.compile(r"[A-Za-z0-9 _.:/=+\-@]{1,256}")


class Comparison(StrEnum):
    """How a condition looks at its claim. `TAGGABLE` is never written: it comes with a session tag."""

    EQUALS = "equals"
    ONE_OF = "one_of"
    MATCHES = "matches"
    TAGGABLE = "taggable"


@dataclass(frozen=True, slots=True)
class Condition:
    """`claim` has one of the `values`, or is matched by `glob`, or can be a session tag.

    `implied` marks what nobody wrote and holds for every grant of its kind.
    """

    claim: str
    test: Comparison
    values: frozenset[str] = frozenset()
    glob: Glob | None = None
    implied: bool = False

    def holds(self, facts: Mapping[str, str]) -> bool:
        """Whether the job's facts fulfil it."""
        found = facts.get(self.claim)
        return self.allows(found) if found else False

    def allows(self, found: str) -> bool:
        """Whether a claim that is there may have this value."""
        if self.glob is not None:
            return self.glob.matches(found)
        return found in self.values if self.test is not Comparison.TAGGABLE else _is_taggable(found)

    def within(self, other: Condition) -> bool:
        """Whether every value that this one allows is surely allowed by the other."""
        if self.test is Comparison.TAGGABLE or other.test is Comparison.TAGGABLE:
            return self.test is other.test or (self.exact and all(other.allows(value) for value in self.values))
        if self.glob is None:
            return all(other.allows(value) for value in self.values)
        return other.glob is not None and covers(other.glob, self.glob)

    def meets(self, other: Condition) -> bool:
        """Whether some value may be allowed by both."""
        if self.exact:
            return any(other.allows(value) for value in self.values)
        if other.exact:
            return other.meets(self)
        return self.glob is None or other.glob is None or overlap(self.glob, other.glob)

    @property
    def exact(self) -> bool:
        """Whether the values are listed one by one."""
        return self.test in (Comparison.EQUALS, Comparison.ONE_OF)

    def wanted(self) -> str:
        """For people: `equal to "42"`; of a long list only the first values."""
        if self.glob is not None:
            return f'matching "{self.glob.pattern}"'
        if self.test is Comparison.TAGGABLE:
            return "there, and fit for a session tag"
        values = [f'"{value}"' for value in sorted(self.values)]
        if len(values) == 1:
            return f"equal to {values[0]}"
        more = f" or {len(values) - _SHOWN_VALUES} more" if len(values) > _SHOWN_VALUES else ""
        return f"one of {', '.join(values[:_SHOWN_VALUES])}{more}"

    def as_json(self) -> dict[str, object]:
        """The condition as a document has it, lists sorted."""
        if self.glob is not None:
            return {self.test.value: self.glob.pattern}
        if self.test is Comparison.EQUALS:
            return {self.test.value: next(iter(self.values))}
        return {self.test.value: sorted(self.values) if self.test is Comparison.ONE_OF else True}


def _is_taggable(value: str) -> bool:
    if _PLAIN_TAG.fullmatch(value):
        return True
    try:
        session_tags({"tag": value})
    except GiveUpError:
        return False
    return True
