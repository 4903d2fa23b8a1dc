"""Reading a document strictly: each value has the one type and form it may have, or is named with its place and fix."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import ConfigurationError
from orchestrator.identity.trust.refusals import shown

REASON = "trust_map_invalid"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file, such as `prod.yaml: grants.app-release.when.ref`."""

    file: str
    path: tuple[str, ...] = ()

    def at(self, *keys: str) -> Place:
        return Place(self.file, (*self.path, *keys))

    def __str__(self) -> str:
        return f"{self.file}: {'.'.join(map(shown, self.path))}" if self.path else self.file

    def wrong(self, problem: str, fix: str) -> ConfigurationError:
        """The error to raise: `<place> <problem>`."""
        return ConfigurationError(f"{self} {problem}", reason=REASON, fix=fix)


def mapping(
    value: object, place: Place, *, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, Any]:
    """A mapping with these keys and no other."""
    if not isinstance(value, Mapping):
        raise place.wrong(f"must be a mapping, not {_told(value)}", f"give it {', '.join((*required, *optional))}")
    known = (*required, *optional)
    for key in value:
        if key not in known:
            raise place.wrong(f"has an unknown key {_told(key)}", f"known are {', '.join(known)}")
    for key in required:
        if key not in value:
            raise place.wrong(f"lacks {key}", f"give it {key}")
    return dict(value)


def named(value: object, place: Place, names: re.Pattern[str], limit: int) -> dict[str, Any]:
    """A mapping of at most `limit` entries whose keys are names of that form."""
    if not isinstance(value, Mapping) or not value:
        raise place.wrong(f"must be a mapping with an entry, not {_told(value)}", "name at least one")
    if len(value) > limit:
        raise place.wrong(f"has {len(value)} entries", f"{limit} is the most")
    for key in value:
        text(key, place, names)
    return dict(value)


def text(value: object, place: Place, form: re.Pattern[str] | None = None, *, limit: int = 512) -> str:
    """A text of 1 to `limit` printable characters, of the form."""
    if not isinstance(value, str):
        raise place.wrong(f"must be a text, not {_told(value)}", "put it in quotes")
    if not 1 <= len(value) <= limit or not value.isprintable():
        raise place.wrong(f"is {_told(value)}", f"it has 1 to {limit} printable characters")
    if form is not None and not form.fullmatch(value):
        raise place.wrong(f"is {_told(value)}", f"it has to match {form.pattern}")
    return value


def number(value: object, place: Place, low: int, high: int) -> int:
    """A whole number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise place.wrong(f"is {_told(value)}", f"it is a whole number from {low} to {high}")
    return value


def flag(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.wrong(f"is {_told(value)}", "it is true or false")
    return value


def items(value: object, place: Place, *, low: int, high: int) -> list[Any]:
    """A list of `low` to `high` entries."""
    if not isinstance(value, list) or not low <= len(value) <= high:
        told = f"a list of {len(value)}" if isinstance(value, list) else _told(value)
        raise place.wrong(f"is {told}", f"it is a list of {low} to {high}")
    return value


def texts(
    value: object, place: Place, form: re.Pattern[str] | None = None, *, high: int, limit: int = 512
) -> tuple[str, ...]:
    """A list of 1 to `high` different texts."""
    found = tuple(text(one, place, form, limit=limit) for one in items(value, place, low=1, high=high))
    for one in found:
        if found.count(one) > 1:
            raise place.wrong(f"has {_told(one)} twice", "name each once")
    return found


def _told(value: object) -> str:
    """A value in an error: short, and a container only by its kind."""
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return shown(repr(value))
