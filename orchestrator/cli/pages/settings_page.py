"""The settings reference: every field of the tree with its type, default, variable and docstring."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.settings import Settings
from orchestrator.settings.gateway import CONFIG_VARIABLE, PREFIX, GatewaySettings

_HEAD = """\
# Settings

Generated from `orchestrator/settings/tree.py` by `make docs`; a test keeps it current.

Settings come from the environment, a YAML file (`orchestrator run --config FILE`) and defaults, the environment
strongest. Unknown keys and unknown `ORCHESTRATOR_` variables are errors. `orchestrator check-config` prints the
effective settings and warns of insecure choices. Lists and mappings in the environment are JSON, as in
`ORCHESTRATOR_POOLS='[{"name": "default", "capacity": 8}]'`; fields inside them have no variable of their own.
"""

_GATEWAY_HEAD = f"""
# Settings of a cluster's egress gateway

`orchestrator gateway` is a program of its own and reads none of the above: its settings come from options,
`{PREFIX}` variables, a YAML file (`--config FILE`, `{CONFIG_VARIABLE}`) and defaults, the first of these strongest.

| key | type | default | meaning |
| --- | --- | --- | --- |
"""


def settings_page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for path, model in _groups(Settings, ""):
        title = f"`{path}`" if path else "Top level"
        parts.append(f"\n## {title}\n")
        if path and model.__doc__:
            parts.append(f"\n{_one_line(model.__doc__)}\n")
        parts.append("\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n")
        parts += [_row(path, name, field) for name, field in model.model_fields.items() if not _group_of(field)]
    parts.append(_GATEWAY_HEAD)
    parts += [_row("", name, field, PREFIX) for name, field in GatewaySettings.model_fields.items()]
    return "".join(parts)


def undocumented() -> list[str]:
    """Paths of fields without a docstring; groups speak through their fields."""
    return [
        f"{path}.{name}".lstrip(".")
        for path, model in [*_groups(Settings, ""), *_groups(GatewaySettings, "")]
        for name, field in model.model_fields.items()
        if not field.description and not _group_of(field)
    ]


_SUFFIXES: Mapping[Any, str] = {tuple: "[]", dict: ".NAME"}


def _groups(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The model, then each group below it, with dotted paths; `[]` is a list's item, `.NAME` a mapping's value."""
    yield path, model
    for name, field in model.model_fields.items():
        below = _group_of(field) or _item_of(field)
        if below:
            suffix = _SUFFIXES.get(typing.get_origin(field.annotation), "")
            yield from _groups(below, f"{path}.{name}{suffix}".lstrip("."))


def _group_of(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _item_of(field: FieldInfo) -> type[BaseModel] | None:
    for argument in typing.get_args(field.annotation):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return None


def _row(path: str, name: str, field: FieldInfo, prefix: str = "ORCHESTRATOR_") -> str:
    full = f"{path}.{name}".lstrip(".")
    in_list = "[]" in full or "NAME" in full
    variable = "" if in_list else f"<br>`{prefix}{full.upper().replace('.', '__')}`"
    cells = [f"`{name}`{variable}", _type(field.annotation, field.metadata), _default(field)]
    return "| " + " | ".join([*cells, _one_line(field.description or "").replace("|", "\\|")]) + " |\n"


def _type(annotation: Any, metadata: typing.Sequence[Any] = ()) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0], _flat(arguments[1:]))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "group"
    names: Mapping[Any, str] = {str: "text", int: "whole number", float: "number", bool: "yes or no", Path: "path"}
    return names.get(annotation, str(annotation)) + _bounds(metadata)


def _flat(metadata: typing.Sequence[Any]) -> list[Any]:
    """Constraints, also those inside a Field."""
    return [item for entry in metadata for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]


def _bounds(metadata: typing.Sequence[Any]) -> str:
    texts = []
    for attribute, words in (("ge", "from"), ("gt", "over"), ("le", "to"), ("lt", "under")):
        texts += [f"{words} {getattr(item, attribute):,}" for item in metadata if hasattr(item, attribute)]
    texts += ["of a set form" for item in metadata if getattr(item, "pattern", None)]
    return ", " + " ".join(texts) if texts else ""


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        doc = getattr(field.default_factory, "__doc__", None)
        own = getattr(field.default_factory, "__module__", "").startswith("orchestrator")
        return _one_line(doc).rstrip(".") if own and doc else f"`{json.dumps(field.default_factory())}`"  # type: ignore[call-arg]
    if field.is_required():
        return "**required**"
    value = field.default
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return f"`{json.dumps([item.model_dump(mode='json', exclude_defaults=True) for item in value])}`"
    if value is None or value in ("", ()):
        return "none" if value is None else "empty"
    return f"`{json.dumps(value.value if isinstance(value, Enum) else value, default=str)}`"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
