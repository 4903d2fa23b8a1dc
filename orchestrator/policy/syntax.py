"""Reading a Rego syntax tree (regorus gives it as JSON): calls, references, rules, imports. Pure.

The tree's nodes are objects with one capitalised key for their kind, e.g. `{"Call": {"fcn": …, "params": […]}}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]
Path = tuple[str, ...]

_REFERENCES = ("Var", "RefDot", "RefBrack")


@dataclass(frozen=True, slots=True)
class Call:
    path: Path
    arguments: int
    line: int


@dataclass(frozen=True, slots=True)
class Reference:
    """The leading constant part of a reference, e.g. `data.a.b` of `data.a.b[x].c`."""

    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class With:
    line: int


@dataclass(frozen=True, slots=True)
class Rule:
    """`arguments` is None for a rule that is no function."""

    name: Path
    line: int
    is_default: bool
    arguments: int | None
    node: Node


@dataclass(frozen=True, slots=True)
class Import:
    path: Path
    alias: str
    line: int


@dataclass(frozen=True, slots=True)
class Syntax:
    """One module's tree, taken apart."""

    file: str
    package: Path
    imports: tuple[Import, ...]
    rules: tuple[Rule, ...]

    def resolve(self, path: Path) -> Path:
        """The reference with its import alias replaced, and a rule of the own package by its full path left as is."""
        for item in self.imports:
            if path and path[0] == item.alias and item.path[0] in ("data", "input"):
                return item.path + path[1:]
        return path


def constant_path(expression: Node) -> tuple[Path, bool]:
    """The constant start of a reference and whether that is all of it; an empty path if it has no name."""
    for kind in _REFERENCES:
        if kind not in expression:
            continue
        body = expression[kind]
        if kind == "Var":
            return (str(body["value"]),), True
        path, complete = constant_path(body["refr"])
        if not complete:
            return path, False
        if kind == "RefDot":
            return (*path, str(body["field"][1])), True
        text = body["index"].get("String") or body["index"].get("RawString")
        return ((*path, str(text["value"])), True) if text else (path, False)
    return (), False


def _line(node: Any) -> int:
    span = node.get("span") if isinstance(node, Mapping) else None
    return int(span["line"]) if span else 0


def walk(node: Any) -> Iterator[Call | Reference | With]:
    """All calls, references and `with` modifiers in a tree, outermost first."""
    if isinstance(node, Sequence) and not isinstance(node, str):
        for item in node:
            yield from walk(item)
        return
    if not isinstance(node, Mapping):
        return
    if node.get("with_mods"):
        yield With(_first_line(node))
    for kind, body in node.items():
        if kind == "span":
            continue
        if kind == "Call":
            path, complete = constant_path(body["fcn"])
            yield Call(path if complete else (), len(body["params"]), _line(body))
            yield from walk(body["params"])
        elif kind in _REFERENCES:
            yield Reference(constant_path({kind: body})[0], _line(body))
            yield from _walk_inside({kind: body})
        else:
            yield from walk(body)


def _walk_inside(expression: Node) -> Iterator[Call | Reference | With]:
    """What stands inside a reference: its indexes, and its root when that is no name."""
    if "Var" in expression:
        return
    for kind in ("RefDot", "RefBrack"):
        if kind in expression:
            yield from _walk_inside(expression[kind]["refr"])
            if kind == "RefBrack":
                yield from walk(expression[kind]["index"])
            return
    yield from walk(expression)


def _first_line(node: Any) -> int:
    if isinstance(node, Mapping):
        if line := _line(node):
            return line
        return next((line for inner in node.values() if (line := _first_line(inner))), 0)
    if isinstance(node, Sequence) and not isinstance(node, str):
        return next((line for inner in node if (line := _first_line(inner))), 0)
    return 0


def walk_rule(rule: Rule) -> Iterator[Call | Reference | With]:
    """Like `walk`, without the names that the rule's head gives."""
    if rule.is_default:
        yield from walk(rule.node["value"])
        return
    head = next(iter(rule.node["head"].values()))
    yield from _walk_inside(head["refr"])
    for part in ("args", "assign", "key"):
        yield from walk(head.get(part))
    yield from walk(rule.node["bodies"])


def read_syntax(tree: Mapping[str, Any]) -> Syntax:
    """Take one module's tree apart."""
    source, ast = tree["source"], tree["ast"]
    text = str(source["contents"]).encode()
    imports = []
    for item in ast["imports"]:
        path, _ = constant_path(item["refr"])
        alias = text[item["as"]["start"] : item["as"]["end"]].decode() if item.get("as") else path[-1]
        imports.append(Import(path, alias, _line(item)))
    return Syntax(
        file=str(source["file"]),
        package=constant_path(ast["package"]["refr"])[0],
        imports=tuple(imports),
        rules=tuple(_read_rule(node) for node in ast["rules"]),
    )


def _read_rule(node: Node) -> Rule:
    if "Default" in node:
        body = node["Default"]
        arguments = len(body["args"]) or None
        return Rule(constant_path(body["refr"])[0], _line(body), True, arguments, body)
    body = node["Spec"]
    kind, head = next(iter(body["head"].items()))
    arguments = len(head["args"]) if kind == "Func" else None
    return Rule(constant_path(head["refr"])[0], _line(body), False, arguments, body)
