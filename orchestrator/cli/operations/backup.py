"""`orchestrator backup`: all that the daemon must not lose, in one private file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "orchestrator backup /backup/",
    "orchestrator backup --keep 7 /backup/",
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
    keep: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, help="In a folder: keep so many of those named by the time; remove older ones."
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="For a pipe: folder with room for a copy of the largest database. Default: TMPDIR's."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Back up the daemon's state while it runs: journal, keys, audit log, evidence, approvals, decisions, job logs.

    Run it as the daemon's user. The file is written beside its name, read again and only then named, so a file of that
    name is a whole backup. It holds the daemon's private keys: it is readable for you alone, and whoever has it is the
    issuer. Settings, policy and trust map are not in it: they belong in git.
    """
    import sys
    from datetime import UTC, datetime

    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.output import note, print_json, say
    from orchestrator.cli.render.progress import Progress
    from orchestrator.daemon.backup.kept import drop_older, name_by_time
    from orchestrator.daemon.backup.making import back_up, stream
    from orchestrator.settings import load_settings

    if keep is not None and not Path(target).is_dir():
        raise UsageError(f"--keep is for a folder, and {target} is none", fix="make the folder, or leave --keep out")
    if scratch is not None and target != "-":
        raise UsageError("--scratch is for a pipe; a file has its copies beside it", fix="leave it out, or write to -")
    settings = load_settings(config)
    if target == "-":
        if sys.stdout.isatty():
            raise UsageError("a terminal can show no backup", fix="name a file, or pipe it into another program")
        made = stream(settings, sys.stdout.buffer, logs=logs, progress=Progress("copied"), scratch=scratch)
        note(f"{len(made.files)} files, {made.size} bytes")
        return
    path = Path(target) / name_by_time(datetime.now(UTC)) if Path(target).is_dir() else Path(target)
    made = back_up(settings, path, logs=logs, progress=Progress("copied"))
    left, gone = drop_older(Path(target), keep, path) if keep is not None else ((), ())
    if json:
        kept = {"kept": [one.name for one in left], "removed": [one.name for one in gone]} if keep is not None else {}
        print_json({"file": str(path), **made.as_json(), **kept})
        return
    say(f"{path}: {len(made.files)} files, {made.size} bytes, {made.unfinished} unfinished jobs")
    for one in left:
        say(f"kept: {one.name}")
    for one in gone:
        say(f"removed: {one.name}")
    note("it holds private keys: keep it where nobody else can read it")
