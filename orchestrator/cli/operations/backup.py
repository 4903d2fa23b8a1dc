"""`orchestrator backup`: all that the daemon must not lose, in one private file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "orchestrator backup /backup/",
    "orchestrator backup --config orchestrator.yaml --no-logs monday.backup",
    "orchestrator backup - | age -r age1... > monday.backup.age",
)


def backup(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="The file to write, a folder (the file is named by the time), or - for a pipe."
        ),
    ] = ".",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", envvar="ORCHESTRATOR_CONFIG", help="Settings of the daemon.")
    ] = None,
    logs: Annotated[bool, typer.Option("--logs/--no-logs", help="With the output of jobs, or without it.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Back up the daemon's state while it runs: journal, keys, audit log, evidence, approvals, decisions, job logs.

    Run it as the daemon's user. The file is written beside its name, read again and only then named, so a file of that
    name is a whole backup. It holds the daemon's private keys: it is readable for you alone, and whoever has it is the
    issuer. Settings, policy and trust map are not in it: they belong in git.
    """
    import sys

    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.output import note, print_json, say
    from orchestrator.cli.render.progress import Progress
    from orchestrator.daemon.backup.making import back_up, stream
    from orchestrator.settings import load_settings

    settings = load_settings(config)
    if target == "-":
        if sys.stdout.isatty():
            raise UsageError("a terminal can show no backup", fix="name a file, or pipe it into another program")
        made = stream(settings, sys.stdout.buffer, logs=logs, progress=Progress("copied"))
        note(f"{len(made.files)} files, {made.size} bytes")
        return
    path = _named(Path(target))
    made = back_up(settings, path, logs=logs, progress=Progress("copied"))
    if json:
        print_json({"file": str(path), **made.as_json()})
    else:
        say(f"{path}: {len(made.files)} files, {made.size} bytes, {made.unfinished} unfinished jobs")
        note("it holds private keys: keep it where nobody else can read it")


def _named(given: Path) -> Path:
    from datetime import UTC, datetime

    if given.is_dir():
        return given / f"orchestrator-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.backup"
    return given
