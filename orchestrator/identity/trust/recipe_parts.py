"""What recipes are made of, and what all of them say about a grant: its subjects and the claims that a token shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from orchestrator.errors import ConfigurationError
from orchestrator.identity.trust.conditions import Comparison, Condition
from orchestrator.identity.trust.document import GrantRule
from orchestrator.identity.trust.recipe_subjects import Subjects, subjects_of

NOT_CLAIMS: Final = frozenset({"backend"})
"""Facts that the trust map judges by and that no token shows."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file or command. `language` is for whoever highlights it: `json`, `yaml`, `sh`."""

    title: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """In the order in which it is carried out; `notes` say what the other side cannot check, and what else to mind."""

    rule: str
    kind: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "kind": self.kind,
            "parts": [{"title": one.title, "language": one.language, "text": one.text} for one in self.parts],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Asked:
    """The grant, who issues its tokens, and the exact subject if it was given."""

    grant: GrantRule
    issuer: str
    subject: str = ""

    @property
    def audience(self) -> str:
        return self.grant.target.audience

    @cached_property
    def subjects(self) -> Subjects:
        """Every form that the `sub` of a job with this grant can have, or the given one, once it fits one of them.

        Raises:
            ConfigurationError: `recipe_impossible`, the given one fits none.
        """
        found = subjects_of(self.grant)
        if not self.subject:
            return found
        if not found.fit(self.subject):
            raise impossible(
                f"{self.grant.rule} is for no job with the subject {self.subject!r}; its subjects look like "
                f"{' or '.join(found.patterns)}",
                "copy `sub` from a token of a job that has this grant",
            )
        return Subjects((self.subject,), exact=True)

    def claims(self) -> list[Condition]:
        """Conditions on claims that a token shows, those of the grant first, then the grant itself and its document."""
        shown = [one for one in self.grant.conditions if _is_shown(one)]
        own = {"trust_rule": self.grant.rule}
        if self.grant.environment:
            own["environment"] = self.grant.environment
        for claim, value in own.items():
            if not any(one.claim == claim for one in shown):
                shown.append(Condition(claim, Comparison.EQUALS, frozenset({value})))
        return shown

    def hidden(self) -> list[str]:
        """Conditions that the other side cannot repeat, since no token shows their claims."""
        return sorted({one.claim for one in self.grant.conditions if one.claim in NOT_CLAIMS})


def _is_shown(condition: Condition) -> bool:
    return condition.test is not Comparison.TAGGABLE and condition.claim not in NOT_CLAIMS


def impossible(message: str, fix: str) -> ConfigurationError:
    return ConfigurationError(message, reason="recipe_impossible", fix=fix)


def at_most(limit: int, value: str, what: str, fix: str) -> str:
    """`value`, once it has no more than `limit` characters.

    Raises:
        ConfigurationError: `recipe_impossible`.
    """
    if len(value) > limit:
        raise impossible(f"{what} would have {len(value)} characters, and {limit} is the most there", fix)
    return value


def json_part(title: str, document: Any) -> Part:
    return Part(title, "json", json.dumps(document, indent=2, ensure_ascii=False))


def shell_part(title: str, *words: str) -> Part:
    """A command with an option on each line."""
    return Part(title, "sh", " \\\n    ".join(words))


def word(value: str) -> str:
    """One word to a POSIX shell."""
    if value and all(character.isalnum() or character in "-_./:@=,+%" for character in value) and value.isascii():
        return value
    return "'" + value.replace("'", "'\\''") + "'"
