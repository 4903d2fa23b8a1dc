"""Finds references to static secrets in the configuration of CI platforms. Reads files; shows names, never values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from orchestrator.errors import GiveUpError
from orchestrator.identity.secrets.scan_names import CLEAR, holds_value, is_secret, kind_of, sounds_secret

MAX_FILES: Final = 5000
MAX_FILE_BYTES: Final = 1 << 20
MAX_FINDINGS: Final = 10_000
_MAX_DEPTH: Final = 64
_MAX_NODES: Final = 200_000

_FOLDERS: Final = (".github/workflows", ".gitea/workflows", ".forgejo/workflows", ".buildkite", ".circleci", ".gitlab")
_NAMES: Final = re.compile(
    r"\.gitlab-ci\.ya?ml|bitbucket-pipelines\.ya?ml|azure-pipelines.*\.ya?ml|cloudbuild.*\.ya?ml|\.travis\.ya?ml"
    r"|\.woodpecker.*\.ya?ml|\.drone\.ya?ml|Jenkinsfile.*|\.env(\..*)?|(buildkite|pipeline)\.ya?ml"
)
_SKIPPED: Final = frozenset(
    {".git", "node_modules", ".venv", "venv", "__pycache__", "vendor", "target", "build", "dist"}
)

_EXPRESSION: Final = re.compile(r"\bsecrets(?:\.([A-Za-z_][A-Za-z0-9_]*)|\[\s*['\"]([A-Za-z_][A-Za-z0-9_]*)['\"]\s*\])")
_INHERIT: Final = "inherit"
_VARIABLE: Final = re.compile(r"\$\{?([A-Z][A-Z0-9_]{2,})\b")
_JENKINS: Final = re.compile(r"credentials(?:Id\s*[:=]\s*|\(\s*)['\"]([A-Za-z0-9_.-]{1,128})['\"]")
_ASSIGNED: Final = re.compile(r"^\s*(?:export\s+)?([A-Z][A-Z0-9_]{2,})\s*=\s*(\S.*)$")
_PRODUCTION: Final = re.compile(r"prod(uction)?|live|release", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One reference. `line` counts from 1; `job` and `environment` are empty where the file does not say."""

    file: str
    line: int
    kind: str
    name: str
    job: str
    environment: str
    risk: int
    fix: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def scan(paths: Sequence[Path]) -> list[Finding]:
    """References in these files, and in those of these folders that configure CI; the riskiest first.

    Raises:
        GiveUpError: reason `scan_refused`: a path is not there, or there is too much to look at.
    """
    found: dict[tuple[str, int, str], Finding] = {}
    for number, (root, path) in enumerate(_files(paths)):
        if number >= MAX_FILES:
            raise _refused(f"more than {MAX_FILES} files", "name fewer folders")
        name = str(path.relative_to(root)) if root != path else str(path)
        for one in _of_file(path, name):
            found.setdefault((one.file, one.line, one.name), one)
            if len(found) >= MAX_FINDINGS:
                raise _refused(f"more than {MAX_FINDINGS} references", "name fewer folders")
    return sorted(found.values(), key=lambda one: (-one.risk, one.file, one.line, one.name))


def summary(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """One entry for each name: where it is used, by which jobs, and the worst risk of it: its blast radius."""
    names: dict[str, list[Finding]] = {}
    for one in findings:
        names.setdefault(one.name, []).append(one)
    entries = [
        {
            "name": name,
            "kind": uses[0].kind,
            "risk": max(one.risk for one in uses),
            "fix": uses[0].fix,
            "references": len(uses),
            "files": sorted({one.file for one in uses}),
            "jobs": sorted({one.job for one in uses if one.job}),
            "environments": sorted({one.environment for one in uses if one.environment}),
        }
        for name, uses in names.items()
    ]
    return sorted(entries, key=lambda one: (-one["risk"], one["name"]))


def _refused(why: str, fix: str) -> GiveUpError:
    return GiveUpError(why, reason="scan_refused", fix=fix)


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each file with the path it was found by. Links to folders are not followed."""
    for root in paths:
        if root.is_file():
            yield root, root
        elif root.is_dir():
            for folder, folders, names in os.walk(root):
                folders[:] = sorted(one for one in folders if one not in _SKIPPED)
                here = Path(folder)
                inside = here.relative_to(root).as_posix()
                special = any(
                    inside == one or inside.endswith("/" + one) or f"{one}/" in inside + "/" for one in _FOLDERS
                )
                for name in sorted(names):
                    if _NAMES.fullmatch(name) or (special and name.endswith((".yml", ".yaml"))):
                        yield root, here / name
        else:
            raise _refused(f"{root} is neither file nor folder", "check the path")


def _of_file(path: Path, name: str) -> Iterator[Finding]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refused(f"cannot read {path}: {error.strerror}", "check its permissions") from None
    if len(data) > MAX_FILE_BYTES:
        raise _refused(f"{path} is larger than {MAX_FILE_BYTES} bytes", "leave it out")
    text = data.decode("utf-8", "replace")
    tree = _parsed(text) if name.endswith((".yml", ".yaml")) else None
    yield from _of_tree(tree, name) if tree is not None else _of_lines(text, name)


def _parsed(text: str) -> yaml.Node | None:
    """None for what is no YAML: it is looked at line by line."""
    try:
        return yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a document: the way to a value, and what its job says about itself."""

    way: tuple[str, ...] = ()
    job: str = ""
    environment: str = ""


def _of_tree(root: yaml.Node, file: str) -> Iterator[Finding]:
    left = [_MAX_NODES]
    for place, key, node in _scalars(root, _Place(), "", frozenset(), left):
        line = node.start_mark.line + 1
        for offset, text in enumerate(node.value.splitlines() or [""]):
            # A block begins on the line below its mark.
            at = line + offset + (1 if node.style in ("|", ">") else 0)
            yield from (_placed(one, place) for one in _of_text(text, file, at, key, place.way))


def _placed(found: Finding, place: _Place) -> Finding:
    worse = 5 if place.environment and _PRODUCTION.search(place.environment) and found.risk > 10 else 0
    return replace(found, job=place.job, environment=place.environment, risk=min(found.risk + worse, 100))


def _scalars(
    node: yaml.Node, place: _Place, key: str, above: frozenset[int], left: list[int]
) -> Iterator[tuple[_Place, str, yaml.ScalarNode]]:
    left[0] -= 1
    if left[0] < 0 or id(node) in above or len(above) > _MAX_DEPTH:
        return
    within = above | {id(node)}
    if isinstance(node, yaml.ScalarNode):
        yield place, key, node
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _scalars(child, place, key, within, left)
    elif isinstance(node, yaml.MappingNode):
        for name, child in node.value:
            word = name.value if isinstance(name, yaml.ScalarNode) else ""
            inner = _Place((*place.way, word)[:_MAX_DEPTH], place.job, place.environment)
            yield from _scalars(child, _entered(inner, child), word, within, left)


def _entered(place: _Place, node: yaml.Node) -> _Place:
    """A job of GitHub's and its kin is below `jobs`; GitLab's is at the top and has a script."""
    if not isinstance(node, yaml.MappingNode):
        return place
    keys = {name.value: child for name, child in node.value if isinstance(name, yaml.ScalarNode)}
    is_job = (len(place.way) == 2 and place.way[0] == "jobs") or (len(place.way) == 1 and "script" in keys)
    if not is_job:
        return place
    return _Place(place.way, place.way[-1], _environment(keys.get("environment") or keys.get("deployment_environment")))


def _environment(node: yaml.Node | None) -> str:
    if isinstance(node, yaml.MappingNode):
        node = next((child for name, child in node.value if getattr(name, "value", "") == "name"), None)
    return node.value[:128] if isinstance(node, yaml.ScalarNode) else ""


def _of_lines(text: str, file: str) -> Iterator[Finding]:
    for at, line in enumerate(text.splitlines(), 1):
        assigned = _ASSIGNED.match(line)
        yield from _of_text(line if not assigned else assigned[2], file, at, assigned[1] if assigned else "", ())


def _of_text(text: str, file: str, line: int, key: str, way: tuple[str, ...]) -> Iterator[Finding]:
    """What one line of a value refers to; `key` is what the value is assigned to."""
    names = {first or second for first, second in _EXPRESSION.findall(text)}
    names |= set(_JENKINS.findall(text))
    names |= {name for name in _VARIABLE.findall(text) if sounds_secret(name)}
    if key == "secrets":
        names |= {text.strip()} if way and text.strip() and text.strip() != _INHERIT else set()
        if text.strip() == _INHERIT:
            yield _finding(
                file, line, "(all secrets of the caller)", "all_secrets", 90, "hand on by name what is needed"
            )
    for name in sorted(names):
        kind = kind_of(name)
        yield _finding(file, line, name[:128], kind.kind, kind.risk, kind.fix)
    if holds_value(text) or (is_secret(key) and _literal(text)):
        yield _finding(file, line, key[:128] or "(no name)", CLEAR.kind, CLEAR.risk, CLEAR.fix)


def _literal(text: str) -> bool:
    """A value that stands there itself: long, of one word, and no reference to something else."""
    word = text.strip().strip("'\"")
    return len(word) >= 12 and not re.search(r"[\s${}()<>]|^(https?://|/|\.{1,2}/|~/)", word)


def _finding(file: str, line: int, name: str, kind: str, risk: int, fix: str) -> Finding:
    return Finding(file, line, kind, name, "", "", risk, fix)
