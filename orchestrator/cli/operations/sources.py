"""`orchestrator sources`: what watches platforms for jobs, and whether it works."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.cli.session import client_of

EXAMPLES = (
    "orchestrator sources",
    "orchestrator sources acme",
    "orchestrator sources --json",
    "orchestrator sources acme --exit-status",
)


def sources(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this source, with its calls and what it has done.")
    ] = None,
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit with 1 when anything of what is shown does not work.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the sources as JSON.")] = False,
) -> None:
    """Show sources: each set's stage, the platform's count of jobs, runners by state, and what it waits for."""
    from datetime import UTC, datetime

    from orchestrator.cli import output
    from orchestrator.cli.render import source_calls, source_failures, source_lines, source_table

    found = _chosen(client_of(context).sources()["sources"], name)
    if json:
        output.print_json({"sources": found})
    elif not found:
        output.say("no sources are configured; jobs come by the dispatch API only")
    else:
        now = datetime.now(UTC)
        output.show(source_table(found, now), *source_failures(found, now), *source_lines(found, now))
        if name is not None:
            output.show(*source_calls(found[0]))
    if exit_status:
        _complain(found)


def _chosen(found: list[dict[str, Any]], name: str | None) -> list[dict[str, Any]]:
    """All, or the one of this name.

    Raises:
        UsageError: there is none of this name.
    """
    from orchestrator.cli.exits import UsageError

    chosen = [source for source in found if name in (None, source["name"])]
    if name is not None and not chosen:
        there = ", ".join(source["name"] for source in found) or "none"
        raise UsageError("there is no source of this name", fix=f"configured are: {there}")
    return chosen


def _complain(found: list[dict[str, Any]]) -> None:
    """Raises CommandError when something does not work."""
    from orchestrator.cli.exits import CommandError
    from orchestrator.cli.render import failing

    broken = failing(found)
    if broken:
        where, first = broken[0]
        more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise CommandError(
            f"{where} does not work: {first['message']} [{first['reason']}]{more}",
            reason="source_failing",
            fix=first["fix"],
        )
