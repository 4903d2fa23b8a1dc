"""Which log of decisions a command of `orchestrator policy` reads, and of which time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from orchestrator.policy.decision_log.reading import Finding, Window

T = TypeVar("T")
_MOST_TOLD = 20

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER",
        help="The log of decisions, or a copy. Default: the daemon's, by its settings or state folder.",
    ),
]
Since = Annotated[
    str, typer.Option(metavar="TIME", help="Decisions since this time: 2026-01-31T12:00:00Z, or ago: 30m, 2h, 7d.")
]
Until = Annotated[str, typer.Option(metavar="TIME", help="Decisions before this time. Default: now.")]


def log_folder(given: Path | None) -> Path:
    """The folder meant.

    Raises:
        UsageError: it is none.
    """
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.link.target import state_dir

    folder = given or _set_in(os.environ.get("ORCHESTRATOR_CONFIG")) or state_dir() / "decisions"
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder",
            fix="name the folder of the log of decisions, or a copy of it; a daemon makes it at its first start",
        )
    return folder


def _set_in(config: str | None) -> Path | None:
    """`policy.decisions.folder` of the settings file, if one is named and has it."""
    if not config:
        return None
    from orchestrator.settings import load_settings

    return load_settings(Path(config)).policy.decisions.folder


def window_of(since: str, until: str) -> Window:
    """The time meant.

    Raises:
        UsageError: one of them is no time, or the first is not before the second.
    """
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.moments import moment_ns
    from orchestrator.policy.decision_log.reading import Window

    first = moment_ns(since, "--since")
    last = moment_ns(until, "--until") if until else time.time_ns()
    if first >= last:
        raise UsageError("--since is not before --until", fix="swap them, or leave --until out")
    return Window(first, last)


def readable(read: Callable[[], T]) -> T:
    """What `read` gives.

    Raises:
        CommandError: in place of the system's error.
    """
    from orchestrator.cli.exits import CommandError

    try:
        return read()
    except OSError as error:
        raise CommandError(
            f"{error.filename or 'the log of decisions'} cannot be read: {error.strerror}",
            fix="check the path and its permissions",
        ) from None


def tell_problems(problems: Sequence[Finding]) -> bool:
    """Name on standard error what is wrong with the log; True when anything is damaged or missing."""
    from orchestrator.cli.output import note

    for finding in problems[:_MOST_TOLD]:
        note(f"{'DAMAGED' if finding.damage else 'note'}: {finding}")
    if len(problems) > _MOST_TOLD:
        note(f"… and {len(problems) - _MOST_TOLD} more; --json has all of them")
    return any(finding.damage for finding in problems)
