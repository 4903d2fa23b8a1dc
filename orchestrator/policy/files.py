"""A policy bundle as it lies on disk: read with bounds, digested, its data merged into one document.

The layout is OPA's: any `*.rego`, `*_test.rego` beside them, and `data.json` or `data.yaml` whose folder is
its path in the `data` document.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import ConfigurationError
from orchestrator.policy.rego import Module

MAX_FILES = 512
MAX_FILE_BYTES = 2 << 20
MAX_BUNDLE_BYTES = 16 << 20
MAX_DATA_DEPTH = 32

_MAX_INTEGER = 1 << 53
_DATA_NAMES = ("data.json", "data.yaml")
_DATA_SUFFIXES = (".json", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Bundle:
    """`digest` is `sha256:<hex>` over every file read: sorted path and content, each with its length. `files` has each
    path's own, over the content; `contents` the content itself."""

    modules: tuple[Module, ...]
    tests: tuple[Module, ...]
    data: Mapping[str, Any]
    data_json: str
    digest: str
    files: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def unreadable(message: str, fix: str) -> ConfigurationError:
    return ConfigurationError(message, reason="policy_unreadable", fix=fix)


def read_bundle(root: Path) -> Bundle:
    """Everything in the folder that belongs to the bundle. Hidden files and folders are left out.

    Raises:
        ConfigurationError: reason `policy_unreadable`: no such folder, too large, not UTF-8, data that is not
            plain JSON, or two files that give one key.
    """
    return bundle_of(_read_files(root), str(root))


def bundle_of(files: Mapping[str, bytes], where: str) -> Bundle:
    """The bundle that these files are: path to content. `where` names them in errors.

    Raises:
        ConfigurationError: as `read_bundle`.
    """
    rego = [Module(path, _text(path, content)) for path, content in files.items() if path.endswith(".rego")]
    if not any(not module.is_test for module in rego):
        raise unreadable(f"{where}: no policy in it", "put at least one .rego file there")
    data: dict[str, Any] = {}
    for path, content in files.items():
        if not path.endswith(".rego"):
            _merge(data, _nest(path, _parse_data(path, _text(path, content))), path)
    return Bundle(
        modules=tuple(module for module in rego if not module.is_test),
        tests=tuple(module for module in rego if module.is_test),
        data=data,
        data_json=json.dumps(data, ensure_ascii=False, allow_nan=False, sort_keys=True),
        digest=digest_of(files),
        files={path: f"sha256:{hashlib.sha256(content).hexdigest()}" for path, content in sorted(files.items())},
        contents=dict(files),
    )


def _read_files(root: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    total = 0
    try:
        for path in _walk(root):
            name = path.relative_to(root).as_posix()
            if len(files) >= MAX_FILES:
                raise unreadable(f"{root}: more than {MAX_FILES} files", "split the bundle or give the right folder")
            files[name] = _read_file(path, name)
            total += len(files[name])
            if total > MAX_BUNDLE_BYTES:
                raise unreadable(f"{root}: larger than {MAX_BUNDLE_BYTES} bytes", "keep large data out of the bundle")
    except OSError as error:
        raise unreadable(f"{root}: {error.strerror or error}", "give a folder that the daemon can read") from None
    return files


def belongs(path: str) -> bool:
    """Whether a file of this path within the folder is part of the bundle."""
    *folders, name = path.split("/")
    hidden = any(part.startswith(".") for part in (*folders, name))
    return not hidden and (name.endswith(".rego") or name in _DATA_NAMES)


def _walk(folder: Path) -> Iterator[Path]:
    """Files of the bundle in order of name. Linked files are followed (that is how volumes mount them), folders not."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        elif belongs(entry.name):
            yield entry
        elif entry.name.endswith(_DATA_SUFFIXES):
            raise unreadable(f"{entry.name}: would be ignored", "data files are called data.json or data.yaml")


def _read_file(path: Path, name: str) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise unreadable(f"{name}: not a regular file", "a bundle holds plain files only")
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise unreadable(f"{name}: larger than {MAX_FILE_BYTES} bytes", "split the file")
    return content


def digest_of(files: Mapping[str, bytes]) -> str:
    """`sha256:<hex>` of the bundle that these files are."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{len(name.encode())}:{len(content)}\n".encode())
        digest.update(name.encode())
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise unreadable(f"{path}: not UTF-8", "save the file as UTF-8") from None


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, whose expansion can be larger than any file limit."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise ValueError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = [(self.construct_object(key, deep=True), None) for key, _ in node.value]
        _unique(pairs)
        return super().construct_mapping(node, deep=deep)


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key is given twice")
    return mapping


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _parse_data(path: str, text: str) -> dict[str, Any]:
    try:
        if path.endswith(".json"):
            value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        else:
            value = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 -- a SafeLoader, made stricter
        value = {} if value is None else value
        _check_plain(value)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise unreadable(f"{path}: {what}", "policy data is plain JSON or YAML") from None
    if not isinstance(value, dict):
        raise unreadable(f"{path}: not an object at the top", "wrap the data in an object")
    return value


def _check_plain(value: Any, depth: int = 0) -> None:
    if depth > MAX_DATA_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DATA_DEPTH}")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} is not text; put it in quotes")
            _check_plain(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise ValueError("an integer beyond 2^53, which not every engine keeps exactly; put it in quotes")
    elif not (value is None or isinstance(value, (str, bool, int, float))):
        raise TypeError(f"a {type(value).__name__} is not JSON; put it in quotes")


def _nest(path: str, value: dict[str, Any]) -> dict[str, Any]:
    for part in reversed(path.split("/")[:-1]):
        value = {part: value}
    return value


def _merge(target: dict[str, Any], extra: dict[str, Any], path: str) -> None:
    for key, value in extra.items():
        if key not in target:
            target[key] = value
        elif isinstance(target[key], dict) and isinstance(value, dict):
            _merge(target[key], value, path)
        else:
            raise unreadable(f"{path}: {key!r} is given by another data file too", "give each key in one file only")
