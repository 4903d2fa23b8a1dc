"""`orchestrator activity`: what was decided, issued, reached and signed lately, of all jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from orchestrator.cli.link.client import DaemonClient

EXAMPLES = (
    "orchestrator activity",
    "orchestrator activity --kind egress --limit 500",
    "orchestrator activity --kind alarm --follow",
    "orchestrator activity --json",
)

_PAGE = 200
_MOST_PAGES = 500
"""A page may be empty and not the last: what is seldom lies far back."""


class Kind(StrEnum):
    DECISION = "decision"
    TOKEN = "token"  # noqa: S105 -- a word
    EGRESS = "egress"
    RECEIPT = "receipt"
    ALARM = "alarm"


def activity(
    context: typer.Context,
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=20_000, help="At most this many, the newest.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until interrupted.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=60, help="Seconds between two looks of --follow.")] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print the items as JSON, the newest first.")] = False,
) -> None:
    """List decisions, tokens, egress verdicts, receipts and alarms, the newest last. For operators."""
    from orchestrator.cli import output
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.render.activity import activity_table

    if follow and json:
        raise UsageError("--follow draws for people", fix="use --json without it, or the stream /v1/live?activity=true")
    client = client_of(context)
    items = _newest(client, kind, limit)
    if json:
        output.print_json({"items": items})
        return
    if items:
        output.show(activity_table(items[::-1]))
    elif not follow:
        output.say("nothing of this kind has happened yet" if kind else "nothing has happened yet")
    if follow:
        _follow(client, kind, items[0]["seq"] if items else 0, interval)


def _newest(client: DaemonClient, kind: Kind | None, limit: int, after: int = 0) -> list[dict[str, Any]]:
    """The newest items, at most `limit`, newer than number `after`; the newest first."""
    items: list[dict[str, Any]] = []
    query = {"kind": kind.value} if kind else {}
    for _ in range(_MOST_PAGES):
        page = client.read("/v1/activity", {**query, "limit": str(min(limit - len(items), _PAGE))})
        items += [item for item in page["items"] if item["seq"] > after]
        if page["next"] is None or page["next"] <= after or len(items) >= limit:
            break
        query["before"] = str(page["next"])
    return items


def _follow(client: DaemonClient, kind: Kind | None, last: int, interval: float) -> None:
    """Print what comes. Of a flood between two looks the oldest are left out, and that is said. A daemon that is away
    is waited for."""
    import time

    from orchestrator.cli import output
    from orchestrator.cli.exits import ExitCode, UnreachableError
    from orchestrator.cli.render.activity import activity_table

    most, away = 5 * _PAGE, False
    try:
        while True:
            time.sleep(interval)
            try:
                items, away = _newest(client, kind, most, last), False
            except UnreachableError as error:
                if not away:
                    output.note(f"{error}; waiting for it")
                away = True
                continue
            if len(items) == most:
                output.note(f"more than {most} in {interval:g} s: older ones are left out here")
            if items:
                last = items[0]["seq"]
                output.show(activity_table(items[::-1], header=False))
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.OK) from None
