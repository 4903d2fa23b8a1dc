"""`orchestrator jobs`: which jobs there are and how they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from orchestrator.cli.link.client import DaemonClient

EXAMPLES = (
    "orchestrator jobs --phase running",
    "orchestrator jobs --pipeline release-42 --json",
    "orchestrator jobs --watch",
)


def jobs(
    context: typer.Context,
    phase: Annotated[str | None, typer.Option(help="Only jobs in this phase: queued, waiting, running, …")] = None,
    result: Annotated[str | None, typer.Option(help="Only jobs that ended so: success, failure, denied, …")] = None,
    pool: Annotated[str | None, typer.Option(help="Only jobs of this pool.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only jobs of this pipeline.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=20_000, help="At most this many, newest first.")] = 50,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw the list again until interrupted.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks of --watch.")] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List jobs, newest first, and why each ended or what it waits for.

    REASON is one word; `orchestrator why JOB` has the sentence and the next step.
    """
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.output import print_json, show

    if watch and json:
        raise UsageError("--watch draws for people", fix="use --json without it, or the event stream of the API")
    client = client_of(context)
    _check_words(phase, result)
    filters = {"phase": phase, "result": result, "pool": pool, "pipeline": pipeline}
    if watch:
        _watch(client, limit, interval, filters)
    elif json:
        print_json({"jobs": list(client.jobs(limit=limit, **filters))})
    else:
        show(_table(client, limit, filters))


def _check_words(phase: str | None, result: str | None) -> None:
    """Before anybody is asked. The words are looked up only here: they would slow the start of every command."""
    from orchestrator.cli.exits import UsageError
    from orchestrator.model.outcome import Result
    from orchestrator.model.phase import Phase

    for name, word, known in (("phase", phase, Phase), ("result", result, Result)):
        words = [one.value for one in known]
        if word is not None and word not in words:
            raise UsageError(f"--{name}: there is no {name} {word!r}", fix=f"one of {', '.join(words)}")


def _table(client: DaemonClient, limit: int, filters: dict[str, str | None]) -> Any:
    from datetime import UTC, datetime

    from orchestrator.cli.output import narrow_width
    from orchestrator.cli.render import job_table

    found = list(client.jobs(limit=limit, **filters))
    if found:
        return job_table(found, datetime.now(UTC), narrow_width())
    return "no job fits" if any(filters.values()) else "no jobs yet"


def _watch(client: DaemonClient, limit: int, interval: float, filters: dict[str, str | None]) -> None:
    """Draw until interrupted. A daemon that is away is waited for; what is shown then says so."""
    import time

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from orchestrator.cli.exits import ExitCode, UnreachableError
    from orchestrator.cli.output import console
    from orchestrator.cli.render import plain

    try:
        seen = _table(client, limit, filters)
        with Live(seen, console=console(), auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                try:
                    drawn = seen = _table(client, limit, filters)
                except UnreachableError as error:
                    drawn = Group(seen, Text(f"NOT LIVE: {plain(str(error))}", "bold red"))
                live.update(drawn, refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.OK) from None
