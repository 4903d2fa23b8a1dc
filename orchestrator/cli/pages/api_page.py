"""The API reference: every operation and every shape, as the OpenAPI document has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator import __version__
from orchestrator.server.openapi import document
from orchestrator.server.operation import Operation
from orchestrator.server.routes import OPERATIONS

_HEAD = """\
# API reference

Generated from the route table and the models by `make docs`; a test keeps it current. The same as
[OpenAPI 3.1](openapi.json), which a running daemon serves at `/openapi.json`. [Dispatch API](dispatch-api.md) says in
words how to hand over a job, and [reasons](reasons.md) has every error.

*Who*: `token` is a bearer token of the operator or of a caller that the settings list; a role is that of somebody
signed in on the [live page](../how-to/use-the-page.md), who needs no token; `all` is everybody who reaches the port.

| operation | who | |
| --- | --- | --- |
"""

Json = Mapping[str, Any]

_WORDS = {"integer": "whole number", "string": "text", "boolean": "true or false"}


def api_page() -> str:
    """The page as Markdown."""
    described = document(__version__)
    shapes: Json = described["components"]["schemas"]
    parts = [_HEAD]
    parts += [
        f"| [`{one.method} {one.path}`](#{_anchor(one)}) | {_who(one)} | {_cell(one.summary)} |\n" for one in OPERATIONS
    ]
    parts.append("\n## Operations\n")
    for operation in OPERATIONS:
        parts += _operation(operation, described["paths"][operation.path][operation.method.lower()])
    parts.append("\n## Shapes\n")
    for name in sorted(shapes):
        parts += _shape(name, shapes[name])
    return "".join(parts)


def _anchor(operation: Operation) -> str:
    """What renderers make of the operation's heading."""
    return re.sub(r"[^\w\- ]", "", f"{operation.method} {operation.path}".lower()).strip().replace(" ", "-")


def _who(operation: Operation) -> str:
    if not operation.protected:
        return "all"
    role = f", {operation.page.value}" if operation.page else ""
    return f"token{role}"


def _operation(operation: Operation, described: Json) -> Iterator[str]:
    yield f"\n### {operation.method} {operation.path}\n\n{operation.summary}.\n"
    parameters = [one for one in described.get("parameters", ()) if "name" in one]
    if parameters:
        yield "\n| parameter | in | type | meaning |\n| --- | --- | --- | --- |\n"
        for one in parameters:
            needed = "" if one["in"] == "path" or not one.get("required") else ", required"
            words = _cell(one.get("description") or one.get("schema", {}).get("description", ""))
            yield f"| `{one['name']}` | {one['in']}{needed} | {_type(one.get('schema', {}))} | {words} |\n"
    body = described.get("requestBody", {}).get("content", {})
    for media, content in body.items():
        yield f"\nBody: {_type(content.get('schema', {}))} as `{media}`\n"
    yield "\n| answer | body | meaning |\n| --- | --- | --- |\n"
    for status, answer in described["responses"].items():
        told = [f"{_type(content.get('schema', {}))} `{media}`" for media, content in answer.get("content", {}).items()]
        yield f"| {status} | {', '.join(told) or 'none'} | {_cell(answer.get('description', ''))} |\n"


def _shape(name: str, shape: Json) -> Iterator[str]:
    yield f"\n### {name}\n"
    if text := shape.get("description"):
        yield f"\n{' '.join(text.split())}\n"
    if "properties" not in shape:
        yield f"\n{_type(shape)}\n"
        return
    yield "\n| field | type | meaning |\n| --- | --- | --- |\n"
    needed = set(shape.get("required", ()))
    for field, described in shape["properties"].items():
        mark = "" if field in needed else " (may be left out)"
        yield f"| `{field}` | {_type(described)}{mark} | {_cell(described.get('description', ''))} |\n"


def _type(schema: Json) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping to {_type(schema['additionalProperties'])}"
    return {"integer": "whole number", "string": "text", "boolean": "true or false"}.get(kind, str(kind)) + _bounds(
        schema
    )


def _bounds(schema: Json) -> str:
    words = {"minimum": "from", "maximum": "to", "maxLength": "up to", "maxItems": "up to"}
    told = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    return ", " + " ".join(told) if told else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
