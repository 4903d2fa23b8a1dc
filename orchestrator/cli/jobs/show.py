"""`orchestrator show`: everything about one job."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import client_of

EXAMPLES = (
    "orchestrator show 3f2a",
    "orchestrator show dispatch.3f2a9c01.1 --json",
    "orchestrator show 3f2a --wait --exit-status",
)


def show(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Job id, or a beginning of it that fits one job.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job's end first.")] = False,
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit with the code of the job's result (10 to 13 if no success).")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the job view as JSON.")] = False,
) -> None:
    """Show a job: how it stands, what policy decided, tokens, egress, artifacts, and what is left."""
    from orchestrator.cli import output
    from orchestrator.cli.exits import exit_for_result
    from orchestrator.cli.jobs.follow import wait_for_end
    from orchestrator.cli.jobs.ids import resolve
    from orchestrator.cli.render import job_detail

    client = client_of(context)
    job_id = resolve(client, job)
    view = wait_for_end(client, job_id) if wait else client.job(job_id)
    if json:
        output.print_json(view)
    else:
        output.show(job_detail(view))
    if exit_status:
        raise typer.Exit(int(exit_for_result(view.get("result"))))
