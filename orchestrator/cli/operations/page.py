"""`orchestrator page`: a link that signs its reader in on the live page."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import client_of

EXAMPLES = ("orchestrator page", "orchestrator page --json")


def page(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print the link and its life in seconds as JSON.")] = False,
) -> None:
    """Print a link to the live page that signs you in as an operator: it works once, and for a short time only."""
    from orchestrator.cli import output

    client = client_of(context)
    made = client.send("/v1/session/link", {})
    link = client.url + made["path"]
    if json:
        output.print_json({"url": link, "expires_in": made["expires_in"]})
    else:
        output.say(link)
        output.say(f"open it within {made['expires_in']} seconds; it works once")
