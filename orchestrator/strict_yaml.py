"""YAML files that people write for this program: nothing but plain values, and no key twice. The command line and the
settings read theirs with it; of two equal keys PyYAML would silently take the last."""

from __future__ import annotations

from typing import Any, Final

import yaml

_MAX_BITS: Final = 64
"""Of a whole number; Python itself cannot even show one of a few thousand digits."""


class StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice (YAML 1.2.2, section 3.2.1.1: the keys of a mapping are unique)."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not when the mapping is built, where merged keys (`<<`) already stand among its own.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise DuplicateKeyError(None, None, f"the key {key.value} is given twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except ValueError:  # a 13th month, a number of 5,000 digits: PyYAML lets Python's own error through
            raise _out_of_range(node) from None
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise _out_of_range(node)
        return value


class DuplicateKeyError(yaml.MarkedYAMLError):
    """A mapping has one key twice."""


class OutOfRangeError(yaml.MarkedYAMLError):
    """A number or a date that is none of this program's, though it is one of YAML's."""


def _out_of_range(node: yaml.Node) -> yaml.YAMLError:
    return OutOfRangeError(None, None, "a value out of range", node.start_mark)


def load(text: str) -> Any:
    """The one document in `text`.

    Raises:
        yaml.YAMLError: it is no YAML, not plain, or gives a key twice; `describe` says which and where.
    """
    return yaml.load(text, Loader=StrictLoader)  # noqa: S506 -- a SafeLoader, made stricter


def describe(error: yaml.YAMLError) -> str:
    """What is wrong, and where; repeats no value of the file, and of its text one character at most."""
    mark = getattr(error, "problem_mark", None)
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    if isinstance(error, DuplicateKeyError):
        return f"is ambiguous{where}: {error.problem}"
    if isinstance(error, OutOfRangeError):
        return f"holds a number or a date out of range{where}: a whole number has at most {_MAX_BITS} bits"
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return f"is not valid YAML{where}: {error.problem}"
    return f"is not valid YAML{where}"
