"""What commands about approvals have in common: their options, and how an object goes to a file or to the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from orchestrator.evidence.approvals.envelopes import Envelope

Target = Annotated[str, typer.Argument(metavar="ID|FILE", help="An object of the daemon, or a file with one.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, whole: `sha256:…`.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, for people; one line.")]
Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Private key in PEM (P-256 or Ed25519) to sign with, on this machine."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of giving it in.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def sign_and_give_in(
    context: typer.Context, envelope: Envelope, key: Path | None, output: Path | None, *, json: bool
) -> None:
    """Sign what was just made, where there is a key for it, and write it or give it in."""
    from orchestrator.cli.approvals.files import signed

    give_in(context, envelope if key is None else signed(envelope, key), output, json=json, anew=True)


def give_in(context: typer.Context, envelope: Envelope, output: Path | None, *, json: bool, anew: bool = False) -> None:
    """Give it to the daemon, or write it into a file that `anew` says must be new."""
    from orchestrator.cli.approvals.files import send, write
    from orchestrator.cli.output import say
    from orchestrator.evidence.approvals.statements import object_id

    if output is None:
        tell(send(client_of(context), envelope), json=json)
        return
    write(output, envelope.text() + "\n", anew=anew)
    say(object_id(envelope.payload))


def tell(view: dict[str, object], *, json: bool) -> None:
    """What the daemon says of an object by now."""
    from orchestrator.cli import output

    if json:
        output.print_json(view)
    else:
        output.say(f"{view['id']} {view['state']}")
        if view["detail"]:
            output.note(f"{view['detail']}; {view['fix']}")
