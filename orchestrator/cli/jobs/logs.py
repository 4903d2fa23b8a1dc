"""`orchestrator logs`: what a job printed."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import client_of

EXAMPLES = ("orchestrator logs 3f2a", "orchestrator logs 3f2a --follow", "orchestrator logs 3f2a > build.log")


def logs(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Job id, or a beginning of it that fits one job.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job's log is closed.")] = False,
) -> None:
    """Print a job's output as it is. On a terminal, sequences that could steer it are left out."""
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.jobs.follow import stream_log
    from orchestrator.cli.jobs.ids import resolve

    client = client_of(context)
    try:
        stream_log(client, resolve(client, job), follow_end=follow)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
