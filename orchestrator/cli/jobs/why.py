"""`orchestrator why`: what a job waits for, or why it ended, and what to do next."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import client_of

EXAMPLES = ("orchestrator why 3f2a", "orchestrator why dispatch.3f2a9c01.1 --json")


def why(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Job id, or a beginning of it that fits one job.")],
    json: Annotated[bool, typer.Option("--json", help="Print the answer with its figures as JSON.")] = False,
) -> None:
    """Say in one sentence what a job waits for or why it ended, and the next step."""
    from urllib.parse import quote

    from orchestrator.cli import output
    from orchestrator.cli.jobs.ids import resolve
    from orchestrator.cli.render.why import why_lines

    client = client_of(context)
    answer = client.read(f"/v1/jobs/{quote(resolve(client, job), safe='')}/why")
    if json:
        output.print_json(answer)
    else:
        output.show(*why_lines(answer))
