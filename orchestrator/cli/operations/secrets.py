"""`orchestrator secrets`: the static secrets that are left, and how each gets a new value or comes to its end."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from orchestrator.cli.session import client_of, examples

LIST_EXAMPLES = ("orchestrator secrets", "orchestrator secrets --json")
ROTATE_EXAMPLES = ("orchestrator secrets rotate registry-key", "orchestrator secrets rotate registry-key --at-once")
RETIRE_EXAMPLES = (
    "orchestrator secrets retire registry-key --yes",
    "orchestrator secrets retire --pipeline nightly --yes",
)

_LOOK_SECONDS = 0.2
_WAIT_SECONDS = 660.0
"""More than the longest hook may take, and a turn of the daemon."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret, as the settings name it.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Wait = Annotated[bool, typer.Option(help="Wait for the end of it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

app = typer.Typer(help="Static secrets that jobs still need: age, use, rotation and retirement. Never a value.")


@app.callback(invoke_without_command=True, epilog=examples(LIST_EXAMPLES))
def secrets(
    context: typer.Context,
    json: Json = False,
) -> None:
    """List the registered secrets: owner, age, use, rotation state. For operators."""
    if context.invoked_subcommand is not None:
        return
    from datetime import UTC, datetime

    from orchestrator.cli import output
    from orchestrator.cli.render.accounts import secret_table

    found = client_of(context).read("/v1/secrets")
    if json:
        output.print_json(found)
    elif found["secrets"]:
        output.show(secret_table(found["secrets"], datetime.now(UTC)))
    else:
        output.say("no secret is registered")


@app.command("rotate", epilog=examples(ROTATE_EXAMPLES))
def rotate(
    context: typer.Context,
    name: Name,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Withdraw the old value though jobs may hold it: for one that leaked.")
    ] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Have a new value made by the secret's hook. The old one is withdrawn once no job holds it.

    When the hook fails the old value stays, the exit code is 1, and the daemon tries again by itself.
    """
    from orchestrator.cli import output
    from orchestrator.cli.exits import CommandError

    query = urlencode({"at_once": "true"}) if at_once else ""
    before = _one(context, name)
    view = client_of(context).send(f"/v1/secrets/{quote(name, safe='')}/rotate?{query}".rstrip("?"), {})
    if wait:
        view = _until(context, name, lambda now: now["state"] != "rotating" or now["failing"] is not None)
    if json:
        output.print_json(view)
    failing = view["failing"]
    if failing is not None and failing["step"] == "make":
        raise CommandError(
            f"the value of {name} is as it was: {failing['reason']}",
            fix="see the hook; it is tried again, or ask again when it is mended",
        )
    if not json:
        output.say(_rotated(name, before, view))


def _rotated(name: str, before: dict[str, Any] | None, view: dict[str, Any]) -> str:
    if view["state"] == "rotating":
        return f"{name}: a new value is being made"
    old = f"; {view['old_values']} old one(s) wait for the jobs that hold them" if view["old_values"] else ""
    was = before["number"] if before else 0
    return f"{name} has value number {view['number']} (was {was}){old}"


@app.command("retire", epilog=examples(RETIRE_EXAMPLES))
def retire(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The secret.")] = None,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", metavar="NAME", help="Instead: a pipeline, with the secrets it alone used."),
    ] = None,
    yes: Yes = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Give a secret to nobody any more, have it removed where it opens something, and destroy its value.

    This cannot be undone. Later requests are refused by name; the audit log has the proof.
    """
    from orchestrator.cli import output
    from orchestrator.cli.exits import CommandError, UsageError

    if (name is None) == (pipeline is None):
        raise UsageError("name a secret, or give --pipeline", fix="orchestrator secrets retire NAME")
    what = f"the secret {name}" if name else f"the pipeline {pipeline} and the secrets that it alone used"
    if not yes:
        typer.confirm(f"Retire {what}? This cannot be undone.", abort=True, err=True)
    client = client_of(context)
    if pipeline is not None:
        done = client.send(f"/v1/secrets/retire?{urlencode({'pipeline': pipeline})}", {})
        names = list(done["secrets"])
    else:
        assert name is not None, "one of the two is given"
        client.send(f"/v1/secrets/{quote(name, safe='')}/retire", {})
        names, done = [name], {}
    views = [_until(context, one, _over) if wait else _one(context, one) for one in names]
    if json:
        output.print_json({**done, "secrets": views})
    left = [f"{view['name']}: {view['left'] or view['failing']['reason']}" for view in views if view and _bad(view)]
    if left:
        raise CommandError(
            f"retired, and not gone everywhere: {'; '.join(left)}", fix="see its remove hook; it is tried again"
        )
    if not json:
        output.say(f"{what} is retired" + (f": {', '.join(names)}" if pipeline is not None and names else ""))


def _over(view: dict[str, Any]) -> bool:
    return view["state"] == "removed" or view["failing"] is not None


def _bad(view: dict[str, Any]) -> bool:
    return bool(view["left"]) or view["failing"] is not None


def _one(context: typer.Context, name: str) -> dict[str, Any] | None:
    found = client_of(context).read("/v1/secrets")["secrets"]
    return next((one for one in found if one["name"] == name), None)


def _until(context: typer.Context, name: str, over: Any) -> dict[str, Any]:
    """The secret as it is once that holds, or after a while."""
    from orchestrator.cli.exits import CommandError

    limit = time.monotonic() + _WAIT_SECONDS
    while True:
        view = _one(context, name)
        if view is None:
            raise CommandError(f"the secret {name} is not there any more")
        if over(view) or time.monotonic() > limit:
            return view
        time.sleep(_LOOK_SECONDS)
