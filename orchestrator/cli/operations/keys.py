"""`orchestrator keys`: the issuers' signing keys, their rotation, and the withdrawal of one that leaked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.session import client_of, examples

if TYPE_CHECKING:
    from orchestrator.cli.link.client import DaemonClient

EXAMPLES = ("orchestrator keys", "orchestrator keys --json")
REVOKE_EXAMPLES = (
    "orchestrator keys revoke Kx3vJ0lqv8Jr1M0hQbYkT7m2c9w5tZsE4dFgUaLnPqo",
    "orchestrator keys revoke Kx3vJ0lqv8Jr1M0hQbYkT7m2c9w5tZsE4dFgUaLnPqo --yes",
)

ROTATE_EXAMPLES = (
    "orchestrator keys rotate",
    "orchestrator keys rotate --issuer prod --json",
    "orchestrator keys rotate --at-once --yes",
)

_AT_ONCE = (
    "Relying parties that have cached the key set refuse tokens of the new keys until they fetch it anew. Without "
    "--at-once it is published first."
)
_TELL = (
    "Relying parties accept tokens of this key until they fetch {url} anew, which may take them hours. Have each of "
    "them fetch it now, or take the issuer away there until it has."
)

_KID = "The key's id, whole, as `orchestrator keys` shows it; one that begins with a dash goes last, after `--`."

app = typer.Typer()


@app.callback(invoke_without_command=True, epilog=examples(EXAMPLES))
def keys(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print the keys as JSON.")] = False,
) -> None:
    """Show each issuer's signing keys: what is published, what signs, and what was withdrawn. For operators."""
    if context.invoked_subcommand is not None:
        return
    from datetime import UTC, datetime

    from orchestrator.cli import output
    from orchestrator.cli.render import key_table

    found = client_of(context).keys()
    if json:
        output.print_json(found)
    else:
        output.show(key_table(found["issuers"], datetime.now(UTC)))


@app.command("rotate", epilog=examples(ROTATE_EXAMPLES))
def rotate(
    context: typer.Context,
    issuer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only of this issuer: its name or its URL. Default: of all.")
    ] = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Sign with the new keys now, before others can have fetched them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, with --at-once.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what it came to as JSON.")] = False,
) -> None:
    """Have signing keys followed by others, without waiting for their time.

    New keys are published now and sign `identity.publish_ahead_seconds` later (a day); the old ones stay published as
    long as after any rotation. Again, while the new ones wait to sign, is without effect.
    """
    from orchestrator.cli import output
    from orchestrator.cli.render.keys import rotated_line

    client = client_of(context)
    if at_once and not yes:
        output.note(_AT_ONCE)
        typer.confirm("Sign with new keys now?", abort=True, err=True)
    query = {"at_once": "true"} if at_once else {}
    if issuer is not None:
        query["issuer"] = issuer
    done = client.call("POST", "/v1/keys/rotate", query=query)
    if json:
        output.print_json(done)
    else:
        for one in done["issuers"]:
            output.say(rotated_line(one))


@app.command("revoke", epilog=examples(REVOKE_EXAMPLES))
def revoke(
    context: typer.Context,
    kid: Annotated[str, typer.Argument(metavar="KID", help=_KID)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the issuer's keys, as they are then, as JSON.")] = False,
) -> None:
    """Withdraw a signing key at once: its tokens end here, and another key signs. Again is without effect.

    Relying parties accept its tokens until they fetch the key set anew, and have to be told.
    """
    from orchestrator.cli import output
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.render import plain

    if not kid:
        raise UsageError("the key's id is empty", fix="`orchestrator keys` shows it")
    client = client_of(context)
    if not yes and _is_known(client, kid):  # else there is nothing to ask: the daemon says that there is no such key
        output.note(_TELL.format(url="the key set"))
        typer.confirm(f"Withdraw the key {plain(kid)}? This cannot be undone.", abort=True, err=True)
    done = client.revoke_key(kid)
    if json:
        output.print_json(done)
    else:
        signing = ", ".join(f"{key['kid']} ({key['algorithm']})" for key in done["keys"] if key["state"] == "active")
        was = "is withdrawn" if done["changed"] else "was withdrawn before"
        output.say(f"{done['kid']} {was}; {done['url']} signs with {signing}")
    output.note(_TELL.format(url=f"the key set of {done['url']}"))


def _is_known(client: DaemonClient, kid: str) -> bool:
    return any(key["kid"] == kid for issuer in client.keys()["issuers"] for key in issuer["keys"])
