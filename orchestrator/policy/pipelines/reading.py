"""A pipeline's file as what is to be looked at: scripts, actions, images, with the line of each. Pure.

Read are workflows and composite actions of GitHub Actions (also Forgejo's and Gitea's, which are written alike) and
GitLab's CI files. Text comes from pull requests and is hostile: sizes are bounded, no tag makes an object, and no
alias is followed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

MAX_BYTES = 512 << 10
MAX_NODES = 50_000

_GITLAB_SCRIPTS = frozenset({"script", "before_script", "after_script"})


class PipelineError(ValueError):
    """The file cannot be read as a pipeline; the message names the line and never the text."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text of the file; `line` counts from 1."""

    value: str
    line: int


@dataclass(slots=True)
class Pipeline:
    """What was found. `kind` is `github` or `gitlab`; `values` are settings by name (variables, inputs)."""

    kind: str
    scripts: list[Text] = field(default_factory=list)
    uses: list[Text] = field(default_factory=list)
    images: list[Text] = field(default_factory=list)
    options: list[Text] = field(default_factory=list)
    values: list[tuple[str, Text]] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    triggers: list[Text] = field(default_factory=list)
    permissions: list[Text] = field(default_factory=list)
    has_permissions: bool = False


def read_pipeline(data: bytes) -> Pipeline:
    """Take the file apart.

    Raises:
        PipelineError: it is too large, no YAML, or no pipeline of a kind that is known.
    """
    if len(data) > MAX_BYTES:
        raise PipelineError(f"it is larger than {MAX_BYTES} bytes")
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise PipelineError("it is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise PipelineError(f"line {line} is no YAML") from None
    except (yaml.YAMLError, RecursionError):
        raise PipelineError("it is no YAML") from None
    if not isinstance(root, yaml.MappingNode):
        raise PipelineError("it is no mapping, as a pipeline is")
    keys = set(_keys(root))
    github = bool({"jobs", "runs"} & keys)
    pipeline = Pipeline("github" if github else "gitlab")
    for step in _walk(root):
        (_github if github else _gitlab)(pipeline, *step)
    if not github and not pipeline.scripts and not {"include", "stages"} & keys:
        raise PipelineError("it has neither jobs nor scripts, so it is no pipeline of a known kind")
    return pipeline


Path = tuple[str, ...]


def _walk(root: yaml.Node) -> Iterator[tuple[Path, yaml.Node]]:
    """Every node with the names that lead to it; `[]` stands for a place in a list."""
    waiting: list[tuple[Path, yaml.Node]] = [((), root)]
    seen: set[int] = set()
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if len(seen) > MAX_NODES:
            raise PipelineError(f"it has more than {MAX_NODES} parts")
        yield path, node
        if isinstance(node, yaml.MappingNode):
            inner = [((*path, _word(key)), value) for key, value in node.value]
            waiting += reversed(inner)
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed([((*path, "[]"), value) for value in node.value])


def _keys(node: yaml.MappingNode) -> Iterator[str]:
    return (_word(key) for key, _ in node.value)


def _word(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _text(node: yaml.Node) -> Text | None:
    """A scalar; the content of a block begins on the line after its mark."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    block = node.style in ("|", ">")
    return Text(str(node.value), node.start_mark.line + (2 if block else 1))


def _github(pipeline: Pipeline, path: Path, node: yaml.Node) -> None:
    if path == ("permissions",):
        pipeline.has_permissions = True
    if path == ("on",) and isinstance(node, yaml.MappingNode):
        pipeline.triggers += [Text(_word(key), key.start_mark.line + 1) for key, _ in node.value]
    text = _text(node)
    if text is None:
        return
    pipeline.texts.append(text)
    match path:
        case ("on",) | ("on", "[]"):
            pipeline.triggers.append(text)
        case (*_, "permissions"):
            pipeline.permissions.append(text)
        case (*_, "env" | "with", name):
            pipeline.values.append((name, text))
        case _:
            _github_step(pipeline, path, text)


def _github_step(pipeline: Pipeline, path: Path, text: Text) -> None:
    match path:
        case (*_, "steps", "[]", "run"):
            pipeline.scripts.append(text)
        case (*_, "steps", "[]", "uses") | ("jobs", _, "uses"):
            pipeline.uses.append(text)
        case ("jobs", _, "container") | ("jobs", _, "container", "image") | ("jobs", _, "services", _, "image"):
            pipeline.images.append(text)
        case ("runs", "image"):
            pipeline.images.append(text)
        case (*_, "options") | (*_, "volumes", "[]"):
            pipeline.options.append(text)
        case _:
            pass


def _gitlab(pipeline: Pipeline, path: Path, node: yaml.Node) -> None:
    text = _text(node)
    if text is None:
        return
    pipeline.texts.append(text)
    if path[-1] in _GITLAB_SCRIPTS or (path[-1] == "[]" and path[-2] in _GITLAB_SCRIPTS):
        pipeline.scripts.append(text)
    match path:
        case (*_, "image") | (*_, "image", "name") | (*_, "services", "[]") | (*_, "services", "[]", "name"):
            pipeline.images.append(text)
        case (*_, "variables", name) | (*_, "variables", name, "value"):
            pipeline.values.append((name, text))
        case _:
            pass
