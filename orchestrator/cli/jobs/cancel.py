"""`orchestrator cancel`: ask for a job's end."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import client_of

EXAMPLES = ("orchestrator cancel 3f2a", "orchestrator cancel 3f2a --reason 'wrong branch'")


def cancel(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Job id, or a beginning of it that fits one job.")],
    reason: Annotated[str, typer.Option(help="Why, for people; kept in the job's facts.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the job view as JSON.")] = False,
) -> None:
    """Ask for a job's end. Asking again changes nothing; a job that is over stays as it ended."""
    from orchestrator.cli import output
    from orchestrator.cli.jobs.ids import resolve

    client = client_of(context)
    view = client.cancel(resolve(client, job), reason)
    if json:
        output.print_json(view)
    elif view.get("result"):
        output.say(f"{view['id']} is over: {view['result']}")
    else:
        output.say(f"{view['id']} is being cancelled")
