"""`orchestrator pools`: how full the pools are, what waits for them, and what they lack."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import client_of

EXAMPLES = ("orchestrator pools", "orchestrator pools protected --json")


def pools(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this pool, with all that is known.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the pools as JSON.")] = False,
) -> None:
    """Show pools: places in use, jobs that wait, trust tier, isolation, and guards that are missing."""
    from orchestrator.cli import output
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.render.pools import pool_detail, pool_guards, pool_table

    there = client_of(context).pools()["pools"]
    found = [pool for pool in there if name in (None, pool["name"])]
    if name is not None and not found:
        raise UsageError("there is no pool of this name", fix=f"there are: {', '.join(p['name'] for p in there)}")
    if json:
        output.print_json({"pools": found})
    else:
        details = [] if name is None else [pool_detail(found[0])]
        output.show(pool_table(found, output.narrow_width()), *details, *pool_guards(found))
