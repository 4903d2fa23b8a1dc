"""Which key was probably meant, where one was given that no setting has."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel


def similar_key(tree: type[BaseModel], location: Sequence[int | str]) -> str:
    """The key of `tree` that the last part of `location` looks like; empty when none does.

    `location` is pydantic's: keys, places in lists, and names of entries in mappings. What the keys before mean is
    followed as far as they are settings; the others are names and places, which stay within the same setting.
    """
    groups: list[type[BaseModel]] = [tree]
    for part in location[:-1]:
        inner = [group.model_fields[part] for group in groups if part in group.model_fields]
        groups = [found for field in inner for found in _groups(field.annotation)] or groups
    known = {name for group in groups for name in group.model_fields}
    near = difflib.get_close_matches(str(location[-1]), known, n=1) if location else []
    return near[0] if near else ""


def _groups(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _groups(argument)
