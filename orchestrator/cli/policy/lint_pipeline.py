"""`orchestrator policy lint-pipeline`: known dangers in the files of pipelines, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.policy.check import EXIT_DENIED, EXIT_ERROR, Format, annotation

if TYPE_CHECKING:
    from orchestrator.policy.pipelines.rules import Finding

LINT_EXAMPLES = (
    "orchestrator policy lint-pipeline .github/workflows",
    "orchestrator policy lint-pipeline .gitlab-ci.yml --format github --ignore static_secret",
)

_ENDINGS = (".yml", ".yaml")
_MAX_FILES = 1000

Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH…", help="Workflows, actions, CI files, or folders of them (.yml, .yaml).")
]
Own = Annotated[
    list[str] | None, typer.Option(metavar="OWNER", help="Owner whose actions need no hash, as your own; repeatable.")
]
Ignore = Annotated[list[str] | None, typer.Option(metavar="CODE", help="Leave out findings of this code; repeatable.")]


def lint_pipeline(
    paths: Paths,
    own: Own = None,
    ignore: Ignore = None,
    shown: Annotated[Format, typer.Option("--format", help="How to print what is found.")] = Format.TEXT,
) -> None:
    """Look for what pipelines should not do.

    That is: run what was just fetched, name actions and images by tags, run a container engine with rights over its
    host, use stored secrets or write them down, take strangers' words into scripts.

    Ends with 0 when nothing was found, 1 when something was, 2 when a file could not be read. That nothing was found
    proves nothing: what a job may reach and have is decided outside of it.
    """
    from orchestrator.cli.exits import CommandError
    from orchestrator.cli.output import complain

    owners = frozenset(name.lower() for name in own or [])
    found: list[tuple[Path, Finding]] = []
    unread = False
    for path in _files(paths):
        try:
            found += [(path, one) for one in _findings(path, owners) if one.code not in (ignore or [])]
        except CommandError as error:
            complain(error)
            unread = True
    _print(found, shown)
    raise typer.Exit(EXIT_ERROR if unread else EXIT_DENIED if found else 0)


def _files(paths: list[Path]) -> list[Path]:
    from orchestrator.cli.exits import UsageError

    files: list[Path] = []
    for path in paths:
        inside = sorted(one for one in path.rglob("*") if one.suffix in _ENDINGS and one.is_file())
        files += inside if path.is_dir() else [path]
    if len(files) > _MAX_FILES:
        raise UsageError(f"that is more than {_MAX_FILES} files", fix="name the folder of the workflows")
    if not files:
        raise UsageError("there is no .yml or .yaml file", fix="name a workflow, or the folder of them")
    return files


def _findings(path: Path, owners: frozenset[str]) -> list[Finding]:
    """Raises UsageError for a file that is no pipeline."""
    from orchestrator.cli.exits import UsageError
    from orchestrator.policy.pipelines.reading import MAX_BYTES, PipelineError, read_pipeline
    from orchestrator.policy.pipelines.rules import findings

    try:
        with path.open("rb") as file:
            return findings(read_pipeline(file.read(MAX_BYTES + 1)), owners)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", fix="name a file that exists") from None
    except PipelineError as error:
        raise UsageError(f"{path} cannot be looked at: {error}", fix="leave it out, or correct it") from None


def _print(found: list[tuple[Path, Finding]], shown: Format) -> None:
    from orchestrator.cli.output import print_json, say

    if shown is Format.JSON:
        rows = [
            {"file": str(path), "line": one.line, "code": one.code, "message": one.message, "fix": one.fix}
            for path, one in found
        ]
        print_json({"findings": rows})
        return
    for path, one in found:
        if shown is Format.GITHUB:
            place = {"file": str(path), "line": str(one.line), "title": one.code}
            say(annotation("error", place, f"{one.message}; {one.fix}"))
        else:
            say(f"{path}:{one.line}: [{one.code}] {one.message}; {one.fix}")
    if shown is Format.TEXT:
        say(f"{len(found)} found" if found else "nothing found")
