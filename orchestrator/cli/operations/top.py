"""`orchestrator top`: everything at one look, live."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.cli.link.client import DaemonClient
    from orchestrator.cli.render.top import Look

EXAMPLES = ("orchestrator top", "orchestrator top --once", "orchestrator top --json")

_ROWS = 1000
_MOST_PAGES = 20
_LONGEST_PAUSE = 10.0
_PATIENCE = 10
"""The rows are asked for again after so many times what it took to get them: that never keeps the daemon busy."""


def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Draw it once and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 0.5,
    json: Annotated[bool, typer.Option("--json", help="Print what is seen once as JSON.")] = False,
) -> None:
    """Watch the daemon: checks, pools, and each job with what it waits for. For operators.

    Where the output is no terminal it is drawn once.
    """
    from datetime import UTC, datetime

    from orchestrator.cli import output
    from orchestrator.cli.render.top import top_screen

    client = client_of(context)
    look = _look(client)
    if json:
        output.print_json({"overview": look.overview, "jobs": list(look.jobs)})
    elif once or not output.console().is_interactive:  # a dumb terminal cannot be drawn over either
        output.show(top_screen(look, datetime.now(UTC), output.console().width))
    else:
        _watch(_Glance(client, look).again, look, interval)


def _look(client: DaemonClient) -> Look:
    """The overview, all jobs that are not finished, and the newest of those that are."""
    from orchestrator.cli.render.top import Look

    overview = client.read("/v1/overview")
    return Look(overview, _rows(client, overview))


def _rows(client: DaemonClient, overview: dict[str, Any]) -> list[dict[str, Any]]:
    """Not only the newest: what has a runner may be the oldest of all."""
    rows: list[dict[str, Any]] = []
    query = {"limit": str(_ROWS)}
    for _ in range(_MOST_PAGES):
        page = client.read("/v1/live/jobs", query)
        rows += page["rows"]
        if not page["next"] or _all_there(rows, overview):
            break
        query["after"] = page["next"]
    return rows


def _all_there(rows: list[dict[str, Any]], overview: dict[str, Any]) -> bool:
    unfinished = sum(1 for row in rows if row["phase"] != "finished")
    return bool(unfinished >= sum(overview["counts"].values()))


class _Glance:
    """Looks again and again: at the overview each time, at the rows as often as they are cheap."""

    def __init__(self, client: DaemonClient, seen: Look) -> None:
        self._client = client
        self._seen = seen
        self._due = 0.0

    def again(self) -> Look:
        import time

        from orchestrator.cli.render.top import Look

        overview = self._client.read("/v1/overview")
        rows = self._seen.jobs
        began = time.monotonic()
        if began >= self._due:
            rows = _rows(self._client, overview)
            took = time.monotonic() - began
            self._due = began + took + min(_PATIENCE * took, _LONGEST_PAUSE)
        self._seen = Look(overview, rows)
        return self._seen


def _watch(look: Callable[[], Look], seen: Look, interval: float) -> None:
    """Draw until interrupted. A daemon that is away for a while is waited for; what is shown then says so."""
    import time

    from rich.live import Live

    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.output import console

    out = console()
    try:
        with Live(_drawn(seen, out), console=out, auto_refresh=False, screen=True) as live:
            pause = interval
            while True:
                time.sleep(pause)
                seen, trouble = _look_again(look, seen)
                pause = min(pause * 2, max(interval, _LONGEST_PAUSE)) if trouble else interval
                live.update(_drawn(seen, out, trouble), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.OK) from None


def _look_again(look: Callable[[], Look], seen: Look) -> tuple[Look, str]:
    """The new look, or the old one and why there is no new one.

    Raises:
        AnswerError: the caller may not look any more.
    """
    from orchestrator.cli.exits import AnswerError, UnreachableError

    try:
        return look(), ""
    except UnreachableError as error:
        return seen, str(error)
    except AnswerError as error:
        if error.status in (401, 403, 404):
            raise
        return seen, str(error)


def _drawn(look: Look, out: Console, trouble: str = "") -> Any:
    from datetime import UTC, datetime

    from orchestrator.cli.render.top import top_screen

    return top_screen(look, datetime.now(UTC), out.width, out.height, trouble)
