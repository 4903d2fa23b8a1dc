"""`orchestrator trace`: where a job's time went."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import client_of

EXAMPLES = ("orchestrator trace 3f2a", "orchestrator trace 3f2a --json")


def trace(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Job id, or a beginning of it that fits one job.")],
    json: Annotated[bool, typer.Option("--json", help="Print the trace as JSON.")] = False,
) -> None:
    """Draw a job's trace as a waterfall, with what policy decided, tokens issued and egress verdicts."""
    import time

    from rich.text import Text

    from orchestrator.cli import output, render
    from orchestrator.cli.jobs.ids import resolve

    client = client_of(context)
    job_id = resolve(client, job)
    document = client.trace(job_id)
    if json:
        output.print_json(document)
        return
    view = client.job(job_id)
    output.show(
        render.job_headline(view),
        Text(f"trace {render.plain(document.get('trace_id'))}", "dim"),
        render.waterfall(document, now_ns=time.time_ns(), ascii_only=not output.unicode_output()),
    )
    for section in (render.decisions(view), render.tokens(view), render.egress_verdicts(view)):
        if section is not None:
            output.show(Text(), section)
