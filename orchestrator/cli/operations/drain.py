"""`orchestrator drain`: have the daemon begin no job any more, watch what is under way end, or take it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from orchestrator.cli.link.client import Document
    from orchestrator.cli.operations.calls import Operating

EXAMPLES = (
    "orchestrator drain --wait",
    "orchestrator drain --wait --limit 600",
    "orchestrator drain --cancel --wait",
    "orchestrator drain --status",
    "orchestrator drain --resume",
)

_LOOK_SECONDS = 0.5
_MOST_SECONDS = 7 * 86400


def drain(
    context: typer.Context,
    wait: Annotated[bool, typer.Option("--wait", help="Return when no job is left that a stop would end.")] = False,
    limit: Annotated[
        float | None,
        typer.Option(min=0, max=_MOST_SECONDS, help="Seconds after which jobs that still run are cancelled."),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel running jobs now; as --limit 0.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Take the drain back: begin jobs again.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Ask for nothing, only look.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the state as JSON; with --wait the last one.")] = False,
) -> None:
    """Begin no job any more; running jobs may end. Queued jobs stay, for --resume or for the next daemon.

    The daemon goes on answering, and does not stop by itself: that takes SIGTERM, which then has nothing to wait for.
    """
    from orchestrator.cli import output
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.operations.calls import Operating

    if resume + status + (cancel or wait or limit is not None) > 1:
        raise UsageError(
            "--resume and --status stand alone", fix="leave the other options out, or take two commands for it"
        )
    if cancel and limit:
        raise UsageError("--cancel is --limit 0, and --limit says something else", fix="give one of them")
    daemon = Operating(client_of(context))
    if resume:
        state = daemon.resume()
    elif status:
        state = daemon.draining()
    else:
        state = daemon.drain(0 if cancel else limit)
    if wait:
        state = _until_empty(daemon, state, silent=json)
    if json:
        output.print_json(state)
    elif not wait:
        output.say(_told(state))


def _until_empty(daemon: Operating, state: Document, *, silent: bool) -> Document:
    """Show progress until nothing is left; an error when somebody took the drain back meanwhile."""
    import time

    from orchestrator.cli import output
    from orchestrator.cli.exits import CommandError

    shown = ""
    while True:
        told = _told(state)
        if told != shown and not silent:
            output.say(told)
            shown = told
        if not state["draining"]:
            raise CommandError(
                "the daemon does not drain any more: somebody took it back, or another daemon was started",
                fix="`orchestrator drain --status` shows how it stands",
            )
        if not state["jobs_left"]:
            return state
        time.sleep(_LOOK_SECONDS)
        state = daemon.draining()


def _told(state: Mapping[str, Any]) -> str:
    waiting = sum(state["not_begun"].values())
    kept = f"{waiting} not begun"
    if not state["draining"]:
        return f"not draining: jobs are begun; {state['jobs_left']} under way, {kept}"
    going_on = sum(state["going_on"].values())
    left = ", ".join(f"{count} {phase}" for phase, count in state["left"].items() if count)
    parts = [f"{state['jobs_left']} left ({left})" if left else "nothing left that a stop would end"]
    if going_on:
        parts.append(f"{going_on} go on without the daemon")
    parts.append(kept)
    if state["jobs_left"] and state["limit_at"]:
        parts.append(f"those that run are cancelled at {state['limit_at']}")
    return f"{'stopping' if state['stopping'] else 'draining'}: {'; '.join(parts)}"
